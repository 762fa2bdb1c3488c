"""Export of a policy: a run's parameters as a Hugging Face folder, which transformers loads.

1. read the newest checkpoint's parameters, in the dtype asked for      store.model_source
2. write safetensors, config.json, tokenizer                            store.hf
"""

import os
import re

import jax.numpy as jnp
from etils import epath

from lwz.data import tokenizer_files
from lwz.runtime import setup, tokenizers
from lwz.store import atomic, model_source
from lwz.store.hf import checkpoint as hf

# Beside weights, what an export of ours or of transformers leaves; it may be written over.
_LEFT = re.compile(
  r'model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|(generation_)?config\.json|README\.md|LICENSE|'
  r'tokenizer(_config)?\.json|(special_tokens_map|added_tokens|vocab)\.json|merges\.txt|.*\.jinja'
)
DTYPES = ('bfloat16', 'float32', 'float16')


READS = (*setup.READS, *setup.MESH, *setup.COMPUTED, 'init', 'export')


def check(c) -> None:
  if c.export.dtype not in DTYPES:
    raise ValueError(
      f'export.dtype: there is no {c.export.dtype!r}; choose from {", ".join(DTYPES)}'
    )
  setup.expected(c, c.init)
  folder = _folder(c)
  if folder.exists() and not folder.is_dir():
    raise ValueError(f'export.folder={folder}: is a file; name a folder')
  held = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
  if strange := [name for name in held if name[0] != '.' and not _LEFT.fullmatch(name)]:
    raise ValueError(
      f'export.folder={folder}: holds {", ".join(strange[:3])}, which no export has written; name '
      'a new folder'
    )
  if 'config.json' in held and b'"transformers_version"' in (folder / 'config.json').read_bytes():
    raise ValueError(
      f'export.folder={folder}: holds a model that was not exported here; name a new folder'
    )
  if held and os.path.realpath(folder) == os.path.realpath(setup.reference(c, c.init)):
    raise ValueError(f'export.folder={folder}: is the model of init itself; name a new folder')


def _folder(c) -> epath.Path:
  return epath.Path(c.export.folder or setup.run_folder(c) / 'huggingface')


def run(c) -> None:
  source = setup.reference(c, c.init)
  config = model_source.config(source)
  dtype = jnp.dtype(c.export.dtype)
  tok = tokenizers.load(source)
  ends = setup.end_ids(tok, config, source)
  params = setup.load_params(c, source, config, setup.mesh(c), dtype=dtype)
  folder = _folder(c)
  hf.save(folder, config, params, tok, ends=ends)
  if not atomic.is_remote(folder) and tokenizer_files.auto_differs(tok, folder):
    print(
      f'{folder}: AutoTokenizer of transformers 5 puts a tokenizer of its own in place of this '
      'one; load it by PreTrainedTokenizerFast'
    )
  print(f"{folder}: {c.export.dtype}, for AutoModelForCausalLM.from_pretrained('{folder}')")
