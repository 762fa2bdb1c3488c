"""A policy for everyone: a run's parameters as a Hugging Face folder, which transformers loads.

1. read the newest checkpoint's parameters, in the dtype asked for      store.origin
2. write safetensors, config.json, tokenizer                            store.hf
"""

import jax
import jax.numpy as jnp
from etils import epath

from lwz.data import tokenizer
from lwz.stages import prepare
from lwz.store import hf, origin

DTYPES = ('bfloat16', 'float32', 'float16')


def check(c) -> None:
  if c.export.dtype not in DTYPES:
    raise ValueError(
      f'export.dtype: there is no {c.export.dtype!r}; choose from {", ".join(DTYPES)}'
    )
  prepare.expected(c, c.init)


def run(c) -> None:
  source = prepare.reference(c, c.init)
  config = origin.config(source)
  dtype = jnp.dtype(c.export.dtype)
  with prepare.loading(source) as progress:
    params = origin.params(
      source, config, jax.random.key(0), mesh=prepare.mesh(c), dtype=dtype, progress=progress
    )
  folder = epath.Path(c.export.folder or prepare.run_folder(c))
  hf.save(folder, config, params, tokenizer.load(origin.tokenizer(source)))
  print(f"{folder}: {c.export.dtype}, for AutoModelForCausalLM.from_pretrained('{folder}')")
