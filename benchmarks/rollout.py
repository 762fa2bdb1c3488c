"""Tokens per second of the rollout engine, beside `transformers` generate, on the same weights.

    python benchmarks/rollout.py                      # the pocket model of 12.6M parameters, fp32
    python benchmarks/rollout.py --model=0.5b         # random weights of a preset
    python benchmarks/rollout.py --model=FOLDER       # a Hugging Face folder, or a GGUF file

Workloads: `one` and `sixteen`, 1 and 16 trajectories of 128 tokens; `even`, 32 of 256; `long`, 4 of
2,048; `ragged`, 32 with given log-normal lengths (median 64, sigma 1.1, clipped to 16 ... 512), for
which a static batch computes 32 times the longest; `queue`, the same 32 in 8 slots, which shows the
effect of their order; `prompt-1k`, `prompt-4k`, `prompt-16k`, one of 32 tokens after a prompt of so
many. All other prompts have 64 tokens. Reading all prompts of a workload is timed on its own, too:
the column `prefill`.
Lengths are forced, so all engines write the same number of tokens; only useful ones are counted.
Every engine runs in a process of its own that stays; rounds alternate between engines, so that
other load of the machine affects all alike. Compilation is not timed. Tunix needs an environment of
its own, named by `--tunix_python`.

    lwz          our engine, with the length of each trajectory known: the longest start first
    lwz-untold   the same, with unknown lengths: first come, first served
    lwz-int8     the same as lwz, with keys and values in int8
    lwz-w8       the same as lwz, with the matrices of the layers in int8 (rollout.weights)
    llama.cpp    the file of --gguf as it is, by the package xllamacpp, a thread per core; of a type
                 in its place (Q8_0), the model is written as one, as the stage `export` does

For our engines the difference between their log-probabilities and the scorer's is printed; the
scorer reads the whole text at once in the dtype of the model. So are the MiB that a step reads and
writes by the compiled program, for which a matrix that is written anew counts three times, and what
the parameters take.
"""

import argparse
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

PROMPTS = {'prompt-1k': 1_024, 'prompt-4k': 4_096, 'prompt-16k': 16_384}  # tokens of one
WORKLOADS = ('one', 'sixteen', 'even', 'long', 'ragged', 'queue', *PROMPTS)
ENGINES = ('lwz', 'lwz-int8', 'lwz-w8', 'lwz-untold', 'transformers', 'tunix', 'llama.cpp')
SLOTS = {'queue': 8}  # the others have as many as there are trajectories
PROMPT = 64  # tokens of the others


def lengths(workload: str) -> list[int]:
  if workload in ('one', 'sixteen'):
    return [128] * (1 if workload == 'one' else 16)
  if workload in PROMPTS:
    return [32]
  if workload == 'even':
    return [256] * 32
  if workload == 'long':
    return [2_048] * 4
  # Quantiles of the distribution in random order, so that no seed is lucky. They sum to 3,436.
  normal = statistics.NormalDist(np.log(64), 1.1)
  found = [round(np.exp(normal.inv_cdf((i + 0.5) / 32))) for i in range(32)]
  return np.random.default_rng(0).permutation(np.clip(found, 16, 512)).tolist()


def prompts(workload: str, vocab: int) -> np.ndarray:
  shape = len(lengths(workload)), PROMPTS.get(workload, PROMPT)
  return np.random.default_rng(1).integers(1, vocab, shape).astype(np.int32)


def prepare(model: str, folder: pathlib.Path) -> str:
  """A Hugging Face folder of the model; random weights are written to `folder`."""
  import jax
  import jax.numpy as jnp

  from lwz.model import config as config_lib
  from lwz.model import qwen
  from lwz.store import gguf, gguf_header
  from lwz.store.hf import checkpoint as hf

  if pathlib.Path(model).is_dir():
    return model
  if file := gguf_header.locate(model):
    config, params = gguf.load(file)
    hf.save(folder, config, params)
    return str(folder)
  if model == 'pocket':
    config = config_lib.QwenConfig(
      vocab_size=4_096,
      hidden_size=384,
      intermediate_size=1_024,
      num_hidden_layers=6,
      num_attention_heads=6,
      num_key_value_heads=2,
      head_dim=64,
      max_position_embeddings=32_768,
      dtype=jnp.float32,
    )
  else:
    config = config_lib.preset(model)
  params = jax.jit(qwen.init, static_argnums=1)(jax.random.key(0), config)
  hf.save(folder, config, params)
  return str(folder)


def gguf_file(model: str, kind: str, path: pathlib.Path) -> str:
  """Writes a model with its matrices in `kind`, one of `gguf_writer.TYPES`, for llama.cpp."""
  from lwz.data import gguf_tokenizer
  from lwz.runtime import setup, tokenizers
  from lwz.store import gguf, gguf_header, gguf_writer
  from lwz.store.hf import checkpoint as hf

  file = gguf_header.locate(model)
  config, params = gguf.load(file, dtype='float32') if file else hf.load(model, dtype='float32')
  tok = tokenizers.load(model)
  ends = setup.end_ids(tok, config, model)
  metadata = gguf_tokenizer.metadata(tok, config.vocab_size, ends)
  gguf_writer.write(path, config, params, kind=kind, metadata=metadata)
  return str(path)


def lwz_writer(arguments, folder: str, workload: str):
  """Returns (writes the workload, reads its prompts, measures the error of log-probabilities)."""
  import jax
  import jax.numpy as jnp

  from lwz.learn import logprob
  from lwz.model import qwen
  from lwz.programs import rollout
  from lwz.programs.cost import fit
  from lwz.rollout import local, sampler, scheduler
  from lwz.rollout.spec import EngineSpec
  from lwz.store.hf import checkpoint as hf

  wanted = lengths(workload)
  config, params = hf.load(folder, dtype=arguments.dtype)
  ids = prompts(workload, config.vocab_size)
  start = ids.shape[1]
  spec = EngineSpec(
    config,
    num_slots=SLOTS.get(workload, len(wanted)),
    max_prompt_tokens=start,
    max_tokens=max(wanted),
    sampling=sampler.Sampling(1.0),
    exact=False,
    num_steps=arguments.steps,
    int8=arguments.worker == 'lwz-int8',
    weights='int8' if arguments.worker == 'lwz-w8' else 'float',
    attention='xla' if arguments.worker == 'lwz-int8' else arguments.attention,
  )
  engine = rollout.engine(spec)
  known = arguments.worker != 'lwz-untold'
  params = engine.reshard(params)
  keys = sampler.trajectory_keys(0, 0, jnp.arange(len(wanted)), jnp.zeros(len(wanted), jnp.int32))
  requests = [
    scheduler.Request(prompt, key, num, num, float(num) if known else 0.0)
    for prompt, key, num in zip(ids, np.asarray(keys), wanted, strict=True)
  ]

  completions = []

  def write():
    stats = scheduler.Stats()
    completions[:] = local.stream(engine, params, requests, stats=stats)
    assert sorted(len(r.ids) for r in completions) == sorted(wanted)
    return stats.metrics

  def read():
    num = spec.prompt_batch_sizes[-1]
    for at in range(0, len(ids), num):
      jax.block_until_ready(engine.prefill(num, start)(params, ids[at : at + num]))

  @jax.jit
  def score(params, row_1T):
    scores_1T, _ = logprob.token_logprob(
      qwen.forward(params, row_1T, config),
      qwen.head_weights(params, config),
      jnp.roll(row_1T, -1, axis=1),
      temperature=1.0,
      chunk=256,
    )
    return scores_1T

  def check():
    _, given = hf.load(folder, dtype=arguments.dtype)
    gaps = []
    for one in completions:  # padding on the right is invisible to all tokens
      row = np.zeros(start + max(wanted), np.int32)
      row[: start + len(one.ids)] = np.concatenate([ids[one.index], one.ids])
      scores = np.asarray(score(given, row[None]))[0, start - 1 :][: len(one.ids)]
      gaps.append(np.abs(scores - one.logp))
    gaps = np.concatenate(gaps)
    step = rollout.decode(spec, batch_size=spec.num_slots, read_length=spec.read_lengths[0])
    return {
      'logp_gap_mean': float(gaps.mean()),
      'logp_gap_max': float(gaps.max()),
      'mib_moved': fit.measure(step).moved / spec.num_steps / 2**20,
      'mib_params': fit.bytes_per_device(step.abstract_args[0]) / 2**20,
    }

  write()  # compiles every shape that the workload meets
  read()
  return write, read, check


def transformers_writer(arguments, folder: str, workload: str):
  import torch
  import transformers

  wanted = lengths(workload)
  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=getattr(torch, arguments.dtype)
  )
  model = model.to('cuda' if torch.cuda.is_available() else 'cpu').eval()
  ids = torch.tensor(prompts(workload, model.config.vocab_size)).long().to(model.device)

  def write(num=None):
    num = num or max(wanted)
    with torch.inference_mode():
      out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=transformers.GenerationConfig(
          do_sample=True, top_k=0, top_p=1.0, max_new_tokens=num, min_new_tokens=num, pad_token_id=0
        ),
      )
    assert out.shape[1] == ids.shape[1] + num
    return {}

  def read():
    with torch.inference_mode():
      model(ids, use_cache=True, logits_to_keep=1).logits.cpu()

  write(8)
  return write, read, dict


class _Numbers:
  """A tokenizer for Tunix: the text of a prompt is its ids, and no token ends a text."""

  def __init__(self, vocab: int):
    self._vocab = vocab

  def encode(self, text):
    return [int(word) for word in text.split()]

  def decode(self, ids):
    return ''

  def bos_id(self):
    return 0  # Tunix prepends none

  def pad_id(self):
    return 0  # in no prompt

  def eos_id(self):
    return self._vocab


def tunix_writer(arguments, folder: str, workload: str):
  import jax.numpy as jnp
  from tunix.generate import sampler
  from tunix.models.qwen2 import model as model_lib
  from tunix.models.qwen2 import params as params_lib

  wanted = lengths(workload)
  found = json.loads((pathlib.Path(folder) / 'config.json').read_text())
  head_dim = found.get('head_dim') or found['hidden_size'] // found['num_attention_heads']
  dtype = jnp.dtype(arguments.dtype)
  config = model_lib.ModelConfig(
    num_layers=found['num_hidden_layers'],
    vocab_size=found['vocab_size'],
    embed_dim=found['hidden_size'],
    hidden_dim=found['intermediate_size'],
    num_heads=found['num_attention_heads'],
    head_dim=head_dim,
    num_kv_heads=found['num_key_value_heads'],
    rope_theta=found.get('rope_theta') or found['rope_parameters']['rope_theta'],
    norm_eps=found['rms_norm_eps'],
    use_tied_embedding=found['tie_word_embeddings'],
    dtype=dtype,
    param_dtype=dtype,
  )
  writer = sampler.Sampler(
    params_lib.create_model_from_safe_tensors(folder, config, dtype=dtype),
    _Numbers(config.vocab_size),
    sampler.CacheConfig(
      cache_size=PROMPTS.get(workload, PROMPT) + max(wanted),
      num_layers=config.num_layers,
      num_kv_heads=config.num_kv_heads,
      head_dim=head_dim,
    ),
  )
  ids = prompts(workload, config.vocab_size)
  texts, sampled = [' '.join(map(str, row)) for row in ids], {'temperature': 1.0, 'top_p': 1.0}

  def write():
    out = writer(texts, max(wanted), max_prompt_length=ids.shape[1], **sampled, seed=0)
    assert {len(ids) for ids in out.tokens} == {max(wanted)}
    return {}

  write()
  return write, None, dict


def llama_writer(arguments, folder: str, workload: str):
  import concurrent.futures
  import urllib.request

  import xllamacpp

  wanted = lengths(workload)
  params = xllamacpp.CommonParams()
  params.model.path = arguments.gguf
  params.n_parallel = len(wanted)
  ids = prompts(workload, 1_000).tolist()
  params.n_ctx = len(wanted) * (len(ids[0]) + max(wanted))
  params.cpuparams.n_threads = os.cpu_count()
  server = xllamacpp.Server(params)

  def ask(prompt, num):
    body = {'prompt': prompt, 'n_predict': num, 'ignore_eos': True, 'cache_prompt': False}
    data = json.dumps(body | {'temperature': 1.0, 'top_k': 0, 'top_p': 1.0}).encode()
    request = urllib.request.Request(
      f'{server.listening_address}/completion', data, {'Content-Type': 'application/json'}
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
      assert json.load(reply)['tokens_predicted'] == num

  def write():
    with concurrent.futures.ThreadPoolExecutor(len(wanted)) as pool:
      list(pool.map(ask, ids, wanted))
    return {}

  write()
  return write, None, dict


def work(arguments, folder: str, workload: str) -> None:
  """Worker process: writes the workload once per line of input, then checks the last one."""
  others = {
    'transformers': transformers_writer,
    'tunix': tunix_writer,
    'llama.cpp': llama_writer,
  }
  writer = others.get(arguments.worker, lwz_writer)
  write, read, check = writer(arguments, folder, workload)
  print('ready', flush=True)
  for _ in sys.stdin:
    began, spent = time.perf_counter(), time.process_time()
    metrics = write()
    seconds, spent = time.perf_counter() - began, time.process_time() - spent
    if read:
      began = time.perf_counter()
      read()
      metrics['prefill'] = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps({'seconds': seconds, 'cpu': spent, 'mib': peak, **metrics}), flush=True)
  print(json.dumps(check()), flush=True)


def said(name: str, line: str) -> str:
  """Returns what a worker said; ends the program if that is nothing."""
  return line or sys.exit(f'{name} ended; its message stands above')


def measure(arguments, folder: str, workload: str) -> list[dict]:
  """Returns one row per engine, with medians over rounds."""
  workers, rows = {}, []
  for name in arguments.engines:
    python = arguments.tunix_python if name == 'tunix' else sys.executable
    command = [
      *(python, __file__, f'--worker={name}', f'--folder={folder}'),
      *(f'--workloads={workload}', f'--steps={arguments.steps}', f'--dtype={arguments.dtype}'),
      f'--attention={arguments.attention}',
      f'--gguf={arguments.gguf}',
    ]
    workers[name] = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    if workers[name].stdout.readline().strip() != 'ready':
      sys.exit(f'{name} did not start; its message stands above')
  rounds = {name: [] for name in workers}
  for _ in range(arguments.rounds):
    for name, worker in workers.items():
      worker.stdin.write('go\n')
      worker.stdin.flush()
      rounds[name].append(json.loads(said(name, worker.stdout.readline())))
  for name, worker in workers.items():
    checked = json.loads(said(name, worker.communicate()[0]))
    seconds, cpu = (statistics.median(r[k] for r in rounds[name]) for k in ('seconds', 'cpu'))
    row = {'workload': workload, 'engine': name, 'tokens': sum(lengths(workload))}
    row |= rounds[name][-1] | checked | {'seconds': seconds, 'cpu': cpu}
    if 'prefill' in row:
      row['prefill'] = statistics.median(r['prefill'] for r in rounds[name])
    rows.append(row | {'tokens_per_second': row['tokens'] / seconds})
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--model', default='pocket', help="'pocket', a preset, or a folder")
  parser.add_argument('--workloads', nargs='+', default=WORKLOADS, choices=WORKLOADS)
  parser.add_argument('--engines', nargs='+', choices=ENGINES, help='all, and tunix where it is')
  parser.add_argument('--tunix_python', help='the interpreter of an environment with google-tunix')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--steps', type=int, default=32, help='of a block, at most')
  parser.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16'))
  parser.add_argument(
    '--attention', default='auto', help="of ours: 'xla', 'mosaic' (TPU), 'triton' (GPU)"
  )
  parser.add_argument('--out', help='a JSON file to write the rows to')
  parser.add_argument('--worker', choices=ENGINES, help=argparse.SUPPRESS)
  parser.add_argument('--folder', help=argparse.SUPPRESS)
  parser.add_argument('--gguf', default='', help='the file that llama.cpp reads, or its type')
  arguments = parser.parse_args()
  if arguments.engines is None:
    named = {'tunix': arguments.tunix_python, 'llama.cpp': arguments.gguf}
    arguments.engines = [name for name in ENGINES if named.get(name, True)]
  if 'tunix' in arguments.engines and not arguments.tunix_python:
    parser.error('tunix needs --tunix_python')
  if 'llama.cpp' in arguments.engines and not (arguments.gguf or arguments.worker):
    parser.error('llama.cpp needs --gguf')
  if arguments.rounds < 1 or arguments.steps < 1:
    parser.error('--rounds and --steps must be at least 1')
  if arguments.out and not pathlib.Path(arguments.out).parent.is_dir():
    parser.error(f'--out {arguments.out}: there is no such folder')
  if arguments.worker:
    work(arguments, arguments.folder, arguments.workloads[0])
    return
  import jax

  jax.config.update('jax_platforms', 'cpu')  # the device is for the workers: a TPU admits one
  rows = []
  with tempfile.TemporaryDirectory() as scratch:
    folder = prepare(arguments.model, pathlib.Path(scratch) / 'model')
    if arguments.gguf and not arguments.gguf.endswith('.gguf'):
      arguments.gguf = gguf_file(
        arguments.model, arguments.gguf, pathlib.Path(scratch) / f'{arguments.gguf}.gguf'
      )
    for workload in arguments.workloads:
      found = measure(arguments, folder, workload)
      rows += found
      base = next((r for r in found if r['engine'] == 'transformers'), None)
      for row in found:
        against = (
          ''
          if base is None
          else (
            f'{base["seconds"] / row["seconds"]:6.2f} x transformers, '
            f'{base["cpu"] / row["cpu"]:.2f} x in CPU seconds'
          )
        )
        if base is not None and 'prefill' in row:
          against += f', prefill {base["prefill"] / row["prefill"]:.2f} x'
        if 'logp_gap_max' in row:
          against += f', |logp - scorer| {row["logp_gap_mean"]:.1e}, max {row["logp_gap_max"]:.1e}'
          against += f', {row["mib_moved"]:.0f} MiB a step, {row["mib_params"]:.0f} of parameters'
        print(
          f'{workload:10} {row["engine"]:12} {row["tokens_per_second"]:7.0f} tokens/s '
          f'{row["cpu"]:6.1f} CPU s {row["mib"]:6.0f} MiB '
          f'{row.get("prefill", math.nan):7.3f} s prefill {against}',
          flush=True,
        )
  if arguments.out:
    pathlib.Path(arguments.out).write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
  main()
