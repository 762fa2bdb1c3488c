"""Forward and backward time of every attention backend of this machine, side by side.

  python benchmarks/attention.py                                                   a small case
  python benchmarks/attention.py --tokens 16384 --heads 40 --kv-heads 8 --head-dim 128      32b
  python benchmarks/attention.py --backends chunked,cudnn --documents 1 --out attention.json

Rounds alternate between backends; times are medians over rounds. Errors are the largest
absolute differences from `chunked` in float32, of the output and of the gradients of queries, keys
and values. Ratios are to the time of the reference if its scores fit in memory and it takes part,
otherwise to that of the first backend. One that fails has its message. Kernels of other hardware
are left out: interpreted, their times mean nothing.
"""

import argparse
import json
import math
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table

from lwz.model.attention import packed as packed_attention

SCORES = 16 * 2**30  # bytes of B x H x T x T scores up to which the reference takes part,
SHARE = 1 / 8  # of the device's memory at most: several of their size live at once


def parse():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rows', type=int, default=1)
  parser.add_argument('--tokens', type=int, default=2_048)
  parser.add_argument('--heads', type=int, default=4)
  parser.add_argument('--kv-heads', type=int, default=2)
  parser.add_argument('--head-dim', type=int, default=64)
  parser.add_argument('--dtype', default='bfloat16')
  parser.add_argument('--documents', type=int, default=4, help='per row; 1: no segments at all')
  parser.add_argument('--backends', default='', help='names with commas; default: all that can run')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--out', type=pathlib.Path)
  return parser.parse_args()


def backends(args) -> list[str]:
  """The backends asked for, or those that this machine runs at full speed."""
  if args.backends:
    return args.backends.split(',')
  platform = packed_attention.platform_of(None)
  memory = (jax.devices()[0].memory_stats() or {}).get('bytes_limit', math.inf)
  scores, names = min(SCORES, SHARE * memory), []
  for name in packed_attention.BACKENDS:
    facts = (platform, args.tokens, args.head_dim, args.dtype)
    runs = packed_attention.refusal(name, *facts, packed=args.documents > 1) is None
    interpreted = platform == 'cpu' and name not in ('xla', 'chunked')
    too_large = name == 'xla' and 4 * args.rows * args.heads * args.tokens**2 > scores
    names += [name] if runs and not interpreted and not too_large else []
  return names


def inputs(args, dtype):
  rng = np.random.default_rng(0)
  q = rng.standard_normal((args.rows, args.tokens, args.heads, args.head_dim), np.float32)
  shape = (2, args.rows, args.kv_heads, args.tokens, args.head_dim)
  k, v = rng.standard_normal(shape, np.float32)
  segments = None
  if args.documents > 1:
    rows = rng.integers(1, args.documents + 1, (args.rows, args.tokens))
    segments = jnp.asarray(np.sort(rows, axis=1), jnp.int32)
  # Through the model's dtype, so that every backend and the exact result see the same numbers.
  return tuple(jnp.asarray(x).astype(args.dtype).astype(dtype) for x in (q, k, v)), segments


def programs(args, backend, dtype):
  """(forward, forward and backward), compiled for the inputs of that dtype."""
  qkv, segments = inputs(args, dtype)

  def forward(*qkv):
    return packed_attention.attend_packed(*qkv, segments, backend=backend)

  def both(*qkv):
    def loss(*qkv):
      out = forward(*qkv)
      return jnp.sum(jnp.sin(out.astype(jnp.float32))), out

    grads, out = jax.grad(loss, (0, 1, 2), has_aux=True)(*qkv)
    return out, *grads

  return qkv, [jax.jit(f).lower(*qkv).compile() for f in (forward, both)]


def seconds(program, qkv) -> float:
  began = time.perf_counter()
  jax.block_until_ready(program(*qkv))
  return time.perf_counter() - began


def measure(args) -> list[dict]:
  with jax.default_matmul_precision('highest'):  # by default a product has fewer bits
    qkv, (_, both) = programs(args, 'chunked', jnp.float32)
    exact = [np.asarray(x) for x in both(*qkv)]
  ready, records = {}, {}
  for name in backends(args):
    try:
      qkv, (forward, both) = programs(args, name, jnp.dtype(args.dtype))
      found = [np.asarray(x.astype(jnp.float32)) for x in both(*qkv)]
    except Exception as error:  # the others go on
      records[name] = {'backend': name, 'failed': str(error).partition('\n')[0]}
      continue
    ready[name] = qkv, (forward, both)
    errors = [float(np.abs(a - b).max()) for a, b in zip(found, exact, strict=True)]
    memory = both.memory_analysis()
    records[name] = {
      'backend': name,
      'error': errors[0],
      'gradient_error': max(errors[1:]),
      'temporary_bytes': memory.temp_size_in_bytes if memory else None,
    }
    jax.block_until_ready(forward(*qkv))
  times = {name: ([], []) for name in ready}
  for _ in range(args.repeats):
    for name, (qkv, pair) in ready.items():
      for found, program in zip(times[name], pair, strict=True):
        found.append(seconds(program, qkv))
  base = statistics.median(times['xla' if 'xla' in times else next(iter(times))][1]) if times else 1
  for name, (forward, both) in times.items():
    records[name] |= {
      'forward_seconds': statistics.median(forward),
      'both_seconds': statistics.median(both),
      'ratio': statistics.median(both) / base,
      'rounds': both,
    }
  return list(records.values())


def show(args, records):
  shape = f'{args.rows} x {args.tokens} tokens, {args.heads}/{args.kv_heads} heads'
  title = f'{shape} of {args.head_dim}, {args.dtype}, {jax.devices()[0].device_kind}'
  table = rich.table.Table(title=title)
  base = next((r['backend'] for r in records if r.get('ratio') == 1), 'none')
  columns = ('backend', 'forward ms', 'both ms', f'of {base}', 'temporary MiB', 'error', 'of grads')
  for column in columns:
    table.add_column(column, justify='left' if column == 'backend' else 'right')
  for r in records:
    if 'failed' in r:
      table.add_row(r['backend'], r['failed'])
      continue
    mib = '-' if r['temporary_bytes'] is None else f'{r["temporary_bytes"] / 2**20:,.0f}'
    table.add_row(
      r['backend'],
      f'{1e3 * r["forward_seconds"]:.2f}',
      f'{1e3 * r["both_seconds"]:.2f}',
      f'{r["ratio"]:.2f}',
      mib,
      f'{r["error"]:.1e}',
      f'{r["gradient_error"]:.1e}',
    )
  rich.console.Console().print(table)


def main():
  args = parse()
  records = measure(args)
  show(args, records)
  if args.out:
    case = {key: value for key, value in vars(args).items() if key != 'out'}
    device = jax.devices()[0].device_kind
    report = {'case': case, 'device': device, 'jax': jax.__version__, 'backends': records}
    args.out.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
  main()
