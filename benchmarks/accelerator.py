"""What the first hour on a GPU or TPU must settle, as one resumable program with a time budget.

  python benchmarks/accelerator.py --out h200 --minutes 8
  python benchmarks/accelerator.py --out h200 --list           what there is, and what is done
  python benchmarks/accelerator.py --out h200 --only parity-0.5b decode-0.5b-32-1024-xla
  python benchmarks/accelerator.py --out here --pretend        pocket shapes, on any CPU

Every measurement is a process of its own with a limit, most valuable first; its result is appended
to a file of JSON lines as it comes, and a failure is a row with its message. What has a row is not
run again, unless it failed and --again is given. A table of all is written beside it, in Markdown.
A measurement begins only if its limit fits into the minutes that are left. Packages that are
missing are named by `environment`.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEEDED = ('jax', 'flax', 'optax', 'orbax.checkpoint', 'tensorstore', 'transformers')
NEEDED += ('ml_collections', 'grain', 'tensorboardX', 'jinja2', 'rich', 'scipy', 'httpx2')


@dataclasses.dataclass(frozen=True)
class Measurement:
  """`worker` names a function of this file; `limit` is in seconds, compilation included."""

  worker: str
  limit: int
  args: tuple = ()

  @property
  def name(self) -> str:
    return '-'.join(map(str, (self.worker, *self.args)))


def plan(pretend: bool) -> list[Measurement]:
  """Returns all measurements, the most valuable first."""
  models = ('micro',) if pretend else ('0.5b', '1.5b', '7b')
  contexts = (32, 64) if pretend else (1_024, 4_096, 14_336)
  first, last = models[0], models[-1]
  backends = ('xla', 'triton')  # a TPU refuses one, and gives a row that says so
  found = [
    Measurement('environment', 60),
    Measurement('ceilings', 60),
    Measurement('parity', 120, (first,)),
    Measurement('run', 240, ('micro',)),
    *(Measurement('gap', 120, (first, b)) for b in backends),
    *(Measurement('decode', 90, (first, 32, contexts[1], b)) for b in backends),
    Measurement('update', 150, (first, contexts[-1], 'auto')),
    *(Measurement('decode', 120, (last, 64, contexts[1], b)) for b in backends),
    Measurement('attention', 150, (14, 2, 64, contexts[1])),
    Measurement('attention', 150, (14, 2, 64, contexts[-1])),
    Measurement('update', 200, (models[min(1, len(models) - 1)], contexts[-1], 'auto')),
    Measurement('rollout', 200, (first,)),
    Measurement('run', 450, ('tiny',)),
  ]
  for model in models:
    for batch in (32, 64):
      found += [
        Measurement('decode', 120, (model, batch, t, b)) for t in contexts for b in backends
      ]
  found.append(Measurement('update', 200, (last, contexts[-1], 'auto')))
  return list({one.name: one for one in found}.values())


# The measurements: each returns what its row says.


def environment() -> dict:
  missing = [name for name in NEEDED if not _installed(name)]
  import jax

  device = jax.devices()[0]
  return {
    'python': sys.version.split()[0],
    'jax': jax.__version__,
    'devices': f'{jax.device_count()} x {device.device_kind}',
    'gib': round((device.memory_stats() or {}).get('bytes_limit', 0) / 2**30, 1),
    'cores': os.cpu_count(),
    'missing': ', '.join(missing) or 'nothing',
  }


def _installed(name: str) -> bool:
  try:
    return importlib.util.find_spec(name) is not None
  except ModuleNotFoundError:
    return False


def ceilings() -> dict:
  """Rates of a large copy and of a large product in bfloat16, random data."""
  import jax
  import jax.numpy as jnp

  n = 512 if jax.default_backend() == 'cpu' else 8_192
  a, b = jax.random.normal(jax.random.key(0), (2, n, n), jnp.bfloat16)
  big = jax.random.normal(jax.random.key(1), (8, n, n), jnp.bfloat16)
  product, moved = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
  return {
    'tflops': round(2 * n**3 / _seconds(product, a, b) / 1e12, 1),
    'copy_gb_per_s': round(2 * big.nbytes / _seconds(moved, big) / 1e9),
  }


def parity(model: str) -> dict:
  """Logits and greedy tokens of the device against a CPU, both float32, of four layers."""
  import jax
  import jax.numpy as jnp

  from lwz.model import config as config_lib
  from lwz.model import qwen

  c = dataclasses.replace(config_lib.preset(model), dtype=jnp.float32)
  c = dataclasses.replace(c, num_hidden_layers=min(4, c.num_hidden_layers))
  ids = jax.random.randint(jax.random.key(1), (2, 64), 0, c.vocab_size)

  def logits_of(device, precision):
    with jax.default_device(device), jax.default_matmul_precision(precision):
      params = jax.device_put(qwen_init(c), device)
      fn = jax.jit(lambda p, i: qwen.lm_head(p, qwen.forward(p, i, c), c))
      return jax.device_get(fn(params, jax.device_put(ids, device)))

  def qwen_init(c):
    with jax.default_device(jax.devices('cpu')[0]):
      return qwen.init(jax.random.key(0), c)

  exact = logits_of(jax.devices('cpu')[0], 'highest')
  found = {'spread': float(exact.std())}
  for precision in ('highest', 'default'):
    ours = logits_of(jax.devices()[0], precision)
    found[f'error_{precision}'] = float(abs(ours - exact).max())
    found[f'same_greedy_{precision}'] = float((ours.argmax(-1) == exact.argmax(-1)).mean())
  return found


def gap(model: str, backend: str) -> dict:
  """The sampler's log-probabilities against the scorer's, bfloat16, in lengths all alike."""
  rows = _other(
    'rollout', '--engines=lwz', '--workloads=even', '--rounds=2', *_model(model, backend)
  )
  return {k: rows[0][k] for k in ('tokens_per_second', 'logp_gap_mean', 'logp_gap_max')}


def rollout(model: str) -> dict:
  """Our engine beside transformers' generate."""
  rows = _other('rollout', '--engines', 'lwz', 'transformers', *_model(model, 'auto'), '--rounds=2')
  return {f'{r["workload"]}, {r["engine"]}': round(r['tokens_per_second']) for r in rows}


def _model(model: str, backend: str) -> list[str]:
  pocket = model == 'micro'  # rollout.py's own has positions enough
  return [
    f'--model={"pocket" if pocket else model}',
    f'--dtype={"float32" if pocket else "bfloat16"}',
    f'--attention={backend}',
  ]


def attention(heads: int, kv_heads: int, head_dim: int, tokens: int) -> dict:
  """Packed attention, forward and backward, of every backend that runs here."""
  args = (f'--heads={heads}', f'--kv-heads={kv_heads}', f'--head-dim={head_dim}')
  found = _other('attention', *args, f'--tokens={tokens}')['backends']
  return {
    r['backend']: f'{1e3 * r["both_seconds"]:.2f} ms, {r["gradient_error"]:.0e}' for r in found
  }


def decode(model: str, batch: int, context: int, backend: str) -> dict:
  """Decoding of `batch` trajectories with `context` cached tokens each; random weights."""
  import jax
  import jax.numpy as jnp

  from lwz.model import config as config_lib
  from lwz.model import qwen
  from lwz.programs import rollout as programs
  from lwz.programs.cost import hardware
  from lwz.rollout import sampler
  from lwz.rollout import slots as slots_lib
  from lwz.rollout.spec import EngineSpec

  c, steps, repeats = config_lib.preset(model), 32, 3
  spec = EngineSpec(
    *(c, batch, context, steps * (repeats + 1)),
    sampling=sampler.Sampling(1.0),
    exact=False,
    num_steps=steps,
    attention=backend,
  )
  room = context + steps * repeats
  read = next(length for length in spec.read_lengths if length >= room)
  params = jax.jit(lambda key: programs.reshard(spec).fn(qwen.init(key, c)))(jax.random.key(0))
  slots = jax.jit(lambda: slots_lib.init(spec))()
  full = jnp.full((batch,), 1, jnp.int32)
  counters = slots.counters.replace(
    cached=full * context, max_tokens=full * 1_000_000, active=full > 0
  )
  slots, on, until = slots.replace(counters=counters), full > 0, (jnp.int32(0), jnp.float32(1))
  program = programs.decode(spec, batch_size=batch, read_length=read).jit()
  began = time.perf_counter()
  compiled = program.lower(params, slots, on, *until).compile()
  compile_seconds = time.perf_counter() - began
  seconds = []
  for _ in range(repeats + 1):
    began = time.perf_counter()
    slots, block = compiled(params, slots, on, *until)
    assert int(block.steps) == steps
    seconds.append(time.perf_counter() - began)
  step = statistics.median(seconds[1:]) / steps
  weights = sum(x.nbytes for x in jax.tree.leaves(params))
  weights -= 0 if c.tie_word_embeddings else params['embed'].nbytes  # a look-up reads B rows of it
  width = 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * c.dtype.itemsize
  moved = weights + batch * context * width
  peak = hardware.local(jax.devices()[0]).bandwidth
  return {
    'tokens_per_second': round(batch / step),
    'ms_per_step': round(1e3 * step, 2),
    'gb_per_step': round(moved / 1e9, 2),
    'of_bandwidth': round(moved / step / peak, 3) if peak else None,
    'compile_seconds': round(compile_seconds, 1),
    'read_length': read,
  }


def update(model: str, tokens: int, backend: str) -> dict:
  """One GRPO update in full, rows of `tokens`, two of them, in bfloat16 with float32 masters."""
  import jax
  import numpy as np

  from lwz.learn import losses, optimizer
  from lwz.learn import update as update_lib
  from lwz.model import config as config_lib
  from lwz.model import parameters, qwen
  from lwz.programs import grpo
  from lwz.programs.cost import hardware, mfu

  c, rows, prompt = config_lib.preset(model), 2, 16
  state_bytes = 16 * num_params(c)
  chip = hardware.local(jax.devices()[0])
  if chip.capacity and state_bytes > chip.capacity:
    return {'left_out': f'{state_bytes / 2**30:.0f} GiB of masters, gradients and moments alone'}
  c = dataclasses.replace(c, max_position_embeddings=max(tokens, c.max_position_embeddings))
  decays = {'weight_decay': 0.0, 'decay_mask': parameters.decay_mask(parameters.describe(c))}
  rate = optimizer.schedule(1e-6, warmup_steps=0, decay_steps=0, final_share=1.0)
  tx = optimizer.adamw(rate, b1=0.9, b2=0.95, max_norm=1.0, **decays)
  shape = grpo.BatchShape(rows, tokens - prompt, tokens, 1, min(2_048, tokens))
  objective = grpo.Objective(
    clip_low=0.2, clip_high=0.2, aggregate=lambda tokens, sequences: losses.budget_mean(tokens)
  )
  program = grpo.update_step(
    c, tx, shape, objective, temperature=1.0, remat='full' if tokens > 4_096 else 'dots'
  )
  rng = np.random.default_rng(0)
  ids = rng.integers(0, c.vocab_size, (rows, tokens)).astype(np.int32)
  batch, num_micro = grpo.minibatch(
    *(list(ids[:, :prompt]), list(ids[:, prompt:])),
    *(np.full((rows, tokens - prompt), -12.0, np.float32), np.ones(rows), np.ones(rows, bool)),
    shape,
  )
  state = jax.jit(lambda key: update_lib.init(qwen.init(key, c), tx))(jax.random.key(0))
  began = time.perf_counter()
  compiled = program.jit().lower(state, batch, num_micro).compile()
  compile_seconds, seconds = time.perf_counter() - began, []
  for _ in range(3):
    began = time.perf_counter()
    state, metrics = compiled(state, batch, num_micro)
    assert np.isfinite(float(metrics['loss']))
    seconds.append(time.perf_counter() - began)
  step = min(seconds[1:])
  share = mfu.mfu(mfu.train_flops(c, [tokens] * rows), step)
  stats = jax.devices()[0].memory_stats() or {}
  return {
    'tokens_per_second': round(rows * tokens / step),
    'mfu': None if share is None else round(share, 3),
    'peak_gib': round(stats.get('peak_bytes_in_use', 0) / 2**30, 2),
    'stated_gib': round(compiled.memory_analysis().peak_memory_in_bytes / 2**30, 2),
    'compile_seconds': round(compile_seconds, 1),
  }


def run(size: str) -> dict:
  """The main job and all that it needs, as a user starts it."""
  import tempfile

  with tempfile.TemporaryDirectory() as folder:
    began = time.perf_counter()
    command = [
      *(sys.executable, '-m', 'lwz.launch', f'--config=experiments/grpo_think.py:{size}'),
      *(f'--config.runs_dir={folder}', '--config.needs_policy=run'),
    ]
    _call(command)
    seconds = time.perf_counter() - began
    lines = pathlib.Path(folder, f'grpo_think-{size}', 'metrics.jsonl').read_text().splitlines()
    records = [json.loads(line) for line in lines]
  late = records[len(records) // 2 :]
  mean = {
    key: round(statistics.fmean(r[key] for r in late if key in r), 4)
    for key in ('valid_format', 'reward/length', 'reward/writing', 'step_seconds', 'logp_gap')
    if any(key in r for r in late)
  }
  return {'seconds': round(seconds), 'steps': len(records), **mean}


# Around them.


def num_params(c) -> int:
  """Returns the number of parameters."""
  import jax

  from lwz.model import qwen

  shapes = jax.eval_shape(lambda: qwen.init(jax.random.key(0), c))
  return sum(x.size for x in jax.tree.leaves(shapes))


def _seconds(fn, *args) -> float:
  """Median seconds of a call; ten calls are in flight at a time."""
  import jax

  jax.block_until_ready(fn(*args))
  found = []
  for _ in range(5):
    began = time.perf_counter()
    jax.block_until_ready([fn(*args) for _ in range(10)])
    found.append((time.perf_counter() - began) / 10)
  return statistics.median(found)


def _other(script: str, *args: str):
  """Returns the JSON that another benchmark of this folder writes."""
  import tempfile

  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / 'out.json'
    _call([sys.executable, f'benchmarks/{script}.py', *args, f'--out={out}'])
    return json.loads(out.read_text())


def _call(command: list[str]) -> None:
  done = subprocess.run(
    command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )
  if done.returncode:
    raise RuntimeError(f'{shlex.join(command[1:4])}: {done.stdout[-1_500:]}')


def measure(one: Measurement, log: pathlib.Path, pretend: bool) -> dict:
  """Runs a measurement in a process of its own; returns its row; errors are kept beside `log`."""
  environment = os.environ | {'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.92'}
  environment['PYTHONPATH'] = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
  if pretend:
    environment['JAX_PLATFORMS'] = 'cpu'
  if one.worker in ('gap', 'rollout', 'attention', 'run'):  # children of theirs share the device
    environment['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
  command = [sys.executable, __file__, '--worker', json.dumps([one.worker, *one.args])]
  began = time.perf_counter()
  with subprocess.Popen(
    command,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  ) as child:
    try:
      out, errors = child.communicate(timeout=one.limit)
    except subprocess.TimeoutExpired:
      os.killpg(child.pid, 9)
      out, errors = child.communicate()
      errors += f'\nstopped after {one.limit} s'
  row = {'name': one.name, 'seconds': round(time.perf_counter() - began, 1)}
  try:
    return row | {'result': json.loads(out.splitlines()[-1])}
  except (IndexError, ValueError):
    said = [line for line in errors.splitlines() if line.strip()] or [f'exit {child.returncode}']
    log.with_suffix(f'.{one.name}.log').write_text(errors)
    return row | {'failed': said[-1][-1_500:]}


def table(rows: list[dict]) -> str:
  lines = ['| measurement | seconds | result |', '| --- | --- | --- |']
  for row in rows:
    said = row.get('failed') or ', '.join(f'{k} {v}' for k, v in row['result'].items())
    said = f'failed: {said}' if 'failed' in row else said
    lines.append(f'| {row["name"]} | {row["seconds"]} | {said.replace("|", "/")} |')
  return '\n'.join(lines) + '\n'


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--out', type=pathlib.Path, help='path of the results, without an ending')
  parser.add_argument('--minutes', type=float, default=8.0, help='of all measurements together')
  parser.add_argument('--only', nargs='+', help='names of measurements')
  parser.add_argument('--again', action='store_true', help='measure again what failed')
  parser.add_argument('--list', action='store_true')
  parser.add_argument('--pretend', action='store_true', help='pocket shapes on a CPU')
  parser.add_argument('--worker', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    name, *rest = json.loads(args.worker)
    print(json.dumps(globals()[name](*rest)))
    return
  if args.out is None:
    parser.error('--out is missing: name the path of the results, without an ending')
  measurements = plan(args.pretend)
  if unknown := set(args.only or ()) - {one.name for one in measurements}:
    parser.error(f'--only: there is no {", ".join(sorted(unknown))}; see --list')
  log = args.out.with_name(args.out.name + '.jsonl')
  log.parent.mkdir(parents=True, exist_ok=True)
  lines = log.read_text().splitlines(keepends=True) if log.exists() else []
  if lines and not lines[-1].endswith('\n'):  # cut by a kill
    log.write_text(''.join(lines := lines[:-1]))
  rows = [json.loads(line) for line in lines]
  kept = {r['name'] for r in rows if not (args.again and 'failed' in r)}
  end = time.monotonic() + 60 * args.minutes
  for one in measurements:
    if args.list:
      print(f'{one.name:36} {"done" if one.name in kept else f"at most {one.limit} s"}')
    elif one.name not in kept and (not args.only or one.name in args.only):
      if one.limit > end - time.monotonic():
        print(f'{one.name}: left out, {one.limit} s do not fit into the minutes that are left')
        continue
      row = measure(one, log, args.pretend)
      rows = [r for r in rows if r['name'] != one.name] + [row]
      with log.open('a') as file:
        file.write(json.dumps(row) + '\n')
      print(table([row]).splitlines()[-1], flush=True)
  if not args.list:
    args.out.with_name(args.out.name + '.md').write_text(table(rows))


if __name__ == '__main__':
  main()
