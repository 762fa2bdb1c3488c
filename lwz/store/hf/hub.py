"""The hub of Hugging Face: a folder becomes a repository there."""

import re
from typing import Any

import huggingface_hub
from etils import epath

from lwz.store import atomic

_LEFT_OUT = ['.*', '*/.*', '*.partial']  # what is no part of a model


def check(name: str, folder: epath.PathLike) -> None:
  """Raises ValueError if nothing could be pushed from the folder; the hub itself is not asked."""
  if not re.fullmatch(r'[\w.-]{1,96}/[\w.-]{1,96}', name):
    raise ValueError(f'{name}: no hub id of the form USER/NAME')
  if atomic.is_remote(folder):
    raise ValueError(f'{name}: {folder} is a bucket; name a folder on a local disk')
  if not huggingface_hub.get_token():
    raise ValueError(f'{name}: no token of the hub is set; set HF_TOKEN, or run `hf auth login`')


def push(folder: epath.PathLike, name: str, *, private: bool, api: Any = None) -> str:
  """Uploads a folder to a repository, which is made where there is none; returns its address.

  `api` is `huggingface_hub.HfApi()`, unless given. Raises ValueError if the hub refuses it, or if
  everybody can read a repository that is to be `private`: nothing is uploaded then.
  """
  api = huggingface_hub.HfApi() if api is None else api
  again = f'the export is whole: start again, or run `hf upload {name} {folder}`'
  try:
    url = str(api.create_repo(name, private=private, exist_ok=True))
    is_open = private and not api.model_info(name).private
    if not is_open:
      api.upload_folder(
        repo_id=name,
        folder_path=str(folder),
        commit_message='Export of lwz',
        ignore_patterns=_LEFT_OUT,
      )
  except Exception as error:  # of its HTTP client, too, which is no dependency of ours
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    raise ValueError(f'{name}: the hub has not taken it: {reason}; {again}') from error
  if is_open:
    raise ValueError(f'{name}: everybody can read it; make it private there, or name another')
  return url
