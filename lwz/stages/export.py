"""Export of a policy: a run's parameters as a Hugging Face folder, which transformers loads.

1. read the newest checkpoint's parameters, in the dtype asked for      store.model_source
2. write safetensors, config.json, tokenizer                            store.hf
"""

import jax.numpy as jnp
from etils import epath

from lwz.data import tokenizer
from lwz.runtime import setup
from lwz.store import model_source
from lwz.store.hf import checkpoint as hf

DTYPES = ('bfloat16', 'float32', 'float16')


READS = (*setup.READS, *setup.MESH, 'init', 'train.attention', 'export')


def check(c) -> None:
  if c.export.dtype not in DTYPES:
    raise ValueError(
      f'export.dtype: there is no {c.export.dtype!r}; choose from {", ".join(DTYPES)}'
    )
  setup.expected(c, c.init)


def run(c) -> None:
  source = setup.reference(c, c.init)
  config = model_source.config(source)
  dtype = jnp.dtype(c.export.dtype)
  tok = tokenizer.load(model_source.tokenizer(source))
  ends = setup.end_ids(tok, config, source)
  params = setup.load_params(c, source, config, setup.mesh(c), dtype=dtype)
  folder = epath.Path(c.export.folder or setup.run_folder(c) / 'huggingface')
  hf.save(folder, config, params, tok, ends=ends)
  print(f"{folder}: {c.export.dtype}, for AutoModelForCausalLM.from_pretrained('{folder}')")
