"""Cost of loading a Hugging Face folder: seconds, and host memory above that of the arrays.

    python benchmarks/load.py --size=3b [--folder=FOLDER] [--out=FILE.json]

Without a folder, random bfloat16 weights of that size are first written to a temporary one. The
load runs in a process of its own; its peak is the largest resident set (mapped file pages
included) minus that before the load. On a CPU the arrays themselves are host memory, so their size
is subtracted; on an accelerator it is not.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp

from lwz.model import config as config_lib
from lwz.model import parameters, qwen
from lwz.store.hf import checkpoint as hf

GIB = 1 << 30


def write(folder: str, size: str) -> None:
  """Random weights of a preset, leaf by leaf in bfloat16."""
  config = config_lib.preset(size)
  key = jax.random.key(0)

  def normal(param):
    return 0.02 * jax.random.normal(key, param.shape, jnp.bfloat16)

  params = jax.tree.map(
    jax.jit(normal, static_argnums=0), qwen.describe(config), is_leaf=parameters.is_param
  )
  hf.save(folder, config, params)


def load(folder: str) -> dict:
  """Loads in this process; seconds, and bytes at the peak."""
  before = _peak()
  began = time.monotonic()
  _, params = hf.load(folder)
  jax.block_until_ready(params)
  arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  on_host = arrays if jax.default_backend() == 'cpu' else 0
  return {
    'backend': jax.default_backend(),
    'seconds': time.monotonic() - began,
    'arrays_gib': arrays / GIB,
    'above_gib': (_peak() - before - on_host) / GIB,
  }


def _peak() -> int:
  return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--size', default='3b', help='a preset: 0.5b, 1.5b, 3b ...')
  parser.add_argument('--folder', help='an existing model, instead of random weights')
  parser.add_argument('--out', help='where to write the results as JSON')
  parser.add_argument('--step', choices=('write', 'load'), help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.step == 'write':
    return write(args.folder, args.size)
  if args.step == 'load':
    return print(json.dumps(load(args.folder)))
  with tempfile.TemporaryDirectory() as place:
    folder = args.folder or os.path.join(place, args.size)
    command = [sys.executable, __file__, f'--folder={folder}', f'--size={args.size}']
    if not args.folder:
      subprocess.run([*command, '--step=write'], check=True)
    ran = subprocess.run([*command, '--step=load'], check=True, stdout=subprocess.PIPE, text=True)
  measured = {'model': args.folder or args.size, **json.loads(ran.stdout.splitlines()[-1])}
  print(
    '  '.join(f'{k} {v:.2f}' if isinstance(v, float) else f'{k} {v}' for k, v in measured.items())
  )
  if args.out:
    with open(args.out, 'w') as file:
      json.dump(measured, file, indent=2)


if __name__ == '__main__':
  main()
