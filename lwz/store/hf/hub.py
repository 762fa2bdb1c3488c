"""The hub of Hugging Face: a folder becomes a repository there."""

import re
from typing import Any

import huggingface_hub
from etils import epath

from lwz.store import atomic

_LEFT_OUT = ('.*', '*/.*', '*.partial')  # what is no part of a model
# Of an earlier push: loaders would take it before, or beside, what is new.
_REPLACED = (
  *('*.safetensors', '*.safetensors.index.json', '*.gguf', 'Modelfile*'),
  *('adapter_config.json', 'generation_config.json', '*.jinja'),
)


def check(name: str, folder: epath.PathLike) -> None:
  """Raises ValueError if nothing could be pushed from the folder; the hub itself is not asked."""
  if not re.fullmatch(r'[\w.-]{1,96}/[\w.-]{1,96}', name):
    raise ValueError(f'{name}: no hub id of the form USER/NAME')
  if atomic.is_remote(folder):
    raise ValueError(f'{name}: {folder} is a bucket; name a folder on a local disk')
  if not huggingface_hub.get_token():
    raise ValueError(f'{name}: no token of the hub is set; set HF_TOKEN, or run `hf auth login`')


def push(folder: epath.PathLike, name: str, *, private: bool, api: Any = None) -> bool:
  """Uploads a folder to a repository, made where there is none; returns whether that is private.

  Weights and templates that the repository has and the folder has not are deleted there. `api` is
  `huggingface_hub.HfApi()`, unless given. Raises ValueError if the hub refuses it, or if everybody
  can read a repository that is to be `private`: nothing is uploaded then.
  """
  api = huggingface_hub.HfApi() if api is None else api
  again = f'the export is whole: start again, or run `hf upload {name} {folder}`'
  try:
    api.create_repo(name, private=private, exist_ok=True)
    is_private = bool(api.model_info(name).private)
    if is_private or not private:
      api.upload_folder(
        repo_id=name,
        folder_path=str(folder),
        commit_message='Export of lwz',
        ignore_patterns=[*_LEFT_OUT],  # to which the library adds its own
        delete_patterns=[*_REPLACED],
      )
  except Exception as error:  # of its HTTP client, too, which is no dependency of ours
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    raise ValueError(f'{name}: the hub has not taken it: {reason}; {again}') from error
  if private and not is_private:
    raise ValueError(f'{name}: everybody can read it; make it private there, or name another')
  return is_private
