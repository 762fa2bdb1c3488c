"""One GRPO update, and one loss over a large vocabulary, side by side with PyTorch.

  python benchmarks/learn.py                       all tasks but 16k, every contestant installed
  python benchmarks/learn.py --tasks head --out learn.json

Every contestant runs in a process of its own, so that peak memory is separate, on the same number
of cores and the same inputs; rounds alternate between contestants. On a shared machine `CPU s`, the
time of all cores, is more reliable than `seconds`. The baselines need `torch` and `transformers`;
one that is not installed is left out with a message.

  grpo: forward, clipped loss, backward and AdamW on 32 trajectories of 320 tokens (64 of them the
        prompt), with a Qwen2 of 12.6M parameters in float32.
  1k, 4k, 16k: the same of 4 trajectories of 1,024 tokens, of one of 4,096, and of one of 16,384,
        measured once.
  adapters: the same of 8 trajectories, with adapters of rank 16 for all matrices of a Llama of 135M
        parameters (the shape of SmolLM2), bfloat16 by default; beside it `peft`.
  head: log-probabilities of 4,096 tokens under a vocabulary of 151,936, hidden size 64, and the
        gradients of hidden states and head.
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
import time

PROMPT = 64  # tokens of a trajectory that are given
UPDATES = {  # trajectories, and tokens of each
  'grpo': (32, 320),
  '1k': (4, 1_024),
  '4k': (1, 4_096),
  '16k': (1, 16_384),
  'adapters': (8, 320),
}
ONCE = ('16k',)  # one round, one repeat
DEFAULT = ('grpo', '1k', '4k', 'adapters', 'head')
MODEL = {
  'vocab_size': 4_096,
  'hidden_size': 384,
  'intermediate_size': 1_024,
  'num_hidden_layers': 6,
  'num_attention_heads': 6,
  'num_key_value_heads': 2,
  'max_position_embeddings': 16_384,
}
LLAMA = {
  'vocab_size': 49_152,
  'hidden_size': 576,
  'intermediate_size': 1_536,
  'num_hidden_layers': 30,
  'num_attention_heads': 9,
  'num_key_value_heads': 3,
  'max_position_embeddings': 2_048,
}
RANK, ALPHA = 16, 32
TOKENS, VOCABULARY, WIDTH = 4_096, 151_936, 64
REPEATS = 3


def trajectories(task: str, vocabulary: int):
  """ids [B, T], old log-probabilities of the answers, advantages."""
  import numpy as np

  rng, (rows, tokens) = np.random.default_rng(0), UPDATES[task]
  ids = rng.integers(0, vocabulary, (rows, tokens)).astype(np.int32)
  old = (-8.3 + 0.1 * rng.standard_normal((rows, tokens - PROMPT))).astype(np.float32)
  return ids, old, rng.standard_normal(rows).astype(np.float32)


def update_lwz(args, task: str):
  import jax
  import jax.numpy as jnp
  import numpy as np

  from lwz.learn import losses, optimizer, update
  from lwz.model import config as config_lib
  from lwz.model import lora as lora_lib
  from lwz.model import parameters, qwen, sharding
  from lwz.programs import grpo, placement

  rows, tokens = UPDATES[task]
  lora = lora_lib.LoRA(RANK, ALPHA) if task == 'adapters' else None
  of, dtype = (LLAMA, args.dtype) if lora else (MODEL, 'float32')
  config = config_lib.QwenConfig(
    **of, head_dim=64, qkv_bias=not lora, tie_word_embeddings=True, dtype=jnp.dtype(dtype)
  )
  rate = optimizer.schedule(1e-5, warmup_steps=0, decay_steps=0, final_share=1.0)
  decays = {
    'weight_decay': 0.1,
    'decay_mask': parameters.decay_mask(lora_lib.describe(config, lora)),
  }
  tx = optimizer.adamw(rate, b1=0.9, b2=0.95, max_norm=1.0, **decays)
  mesh = sharding.make_mesh((1,), jax.devices()[:1])
  micro_rows = max(1, args.micro_rows * 320 // tokens)
  shape = grpo.BatchShape(rows, tokens - PROMPT, tokens, micro_rows, args.chunk)
  objective = grpo.Objective(
    clip_low=0.2,
    clip_high=0.2,
    aggregate=lambda num_tokens, num_sequences: losses.budget_mean(num_tokens),
  )
  options = {'temperature': 1.0, 'remat': args.remat, 'lora': lora, 'mesh': mesh}
  program = grpo.update_step(config, tx, shape, objective, **options)
  ids, old, advantage = trajectories(task, of['vocab_size'])
  minibatch, num_micro = grpo.minibatch(
    list(ids[:, :PROMPT]),
    list(ids[:, PROMPT:]),
    old,
    advantage,
    np.ones(rows, bool),
    shape,
  )
  key = jax.random.key(0)
  where = placement.shardings(program.abstract_args[0])
  base: tuple = ()
  if lora:
    halved = jax.jit(
      lambda key: jax.tree.map(lambda x: x.astype(config.dtype), qwen.init(key, config))
    )
    base = (halved(key),)
    init = jax.jit(
      lambda key: update.init(lora_lib.init(key, config, lora), tx), out_shardings=where
    )
  else:
    init = jax.jit(lambda key: update.init(qwen.init(key, config), tx), out_shardings=where)
  state, step = init(key), program.jit(*base)

  def run():
    nonlocal state
    state, metrics = step(state, minibatch, num_micro)
    return float(metrics['loss'])

  return run


def update_torch(args, task: str):
  import torch
  import transformers

  torch.manual_seed(0)
  if task != 'adapters':
    config = transformers.Qwen2Config(**MODEL, tie_word_embeddings=True)
    model = transformers.Qwen2ForCausalLM(config)
  else:
    import peft

    config = transformers.LlamaConfig(**LLAMA, tie_word_embeddings=True)
    model = transformers.LlamaForCausalLM(config).to(getattr(torch, args.dtype))
    lora = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules='all-linear')
    model = peft.get_peft_model(model, lora)  # adapters in float32, as ours
  trained = [p for p in model.parameters() if p.requires_grad]
  groups = [[p for p in trained if (p.ndim > 1) == decays] for decays in (True, False)]
  tx = torch.optim.AdamW(
    [{'params': groups[0], 'weight_decay': 0.1}, {'params': groups[1], 'weight_decay': 0.0}],
    lr=1e-5,
    betas=(0.9, 0.95),
  )
  rows, answer = UPDATES[task][0], UPDATES[task][1] - PROMPT
  ids, old, advantage = (torch.from_numpy(x) for x in trajectories(task, config.vocab_size))
  ids = ids.long()
  size = rows if task != 'adapters' else args.micro_rows  # all at once, as users do where it fits

  def run():
    tx.zero_grad()
    total = 0.0
    for begin in range(0, rows, size):
      part = slice(begin, begin + size)
      logits = model(ids[part], logits_to_keep=answer + 1, use_cache=False).logits[:, :-1]
      logp = torch.log_softmax(logits.float(), -1).gather(-1, ids[part, PROMPT:, None])[..., 0]
      ratio = torch.exp(logp - old[part])
      by = advantage[part, None]
      gain = torch.minimum(ratio * by, ratio.clamp(0.8, 1.2) * by)
      loss = -gain.sum() / (rows * answer)
      loss.backward()
      total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    tx.step()
    return total

  return run


def head_case():
  import numpy as np

  rng = np.random.default_rng(0)
  hidden = rng.standard_normal((1, TOKENS, WIDTH), np.float32)
  head = rng.standard_normal((WIDTH, VOCABULARY), np.float32) / 8
  return hidden, head, rng.integers(0, VOCABULARY, (1, TOKENS))


def head_lwz(chunk: int):
  import jax
  import jax.numpy as jnp

  from lwz.learn import logprob

  hidden, head, targets = (jnp.asarray(x) for x in head_case())

  @jax.jit
  def step(hidden, head):
    def loss(hidden, head):
      logp, _ = logprob.token_logprob(hidden, head, targets, temperature=1.0, chunk=chunk)
      return -jnp.mean(logp)

    return jax.value_and_grad(loss, argnums=(0, 1))(hidden, head)

  return lambda: float(jax.block_until_ready(step(hidden, head))[0])


def head_torch(by_row: bool):
  """log_softmax and gather; by row, only the normaliser is kept, as TRL does."""
  import torch

  hidden, head, targets = (torch.from_numpy(x) for x in head_case())
  hidden.requires_grad_()
  head.requires_grad_()

  def run():
    logits = hidden @ head
    if by_row:
      chosen = logits.gather(-1, targets[..., None])[..., 0]
      logp = chosen - torch.stack([torch.logsumexp(row, -1) for row in logits])
    else:
      logp = torch.log_softmax(logits, -1).gather(-1, targets[..., None])[..., 0]
    loss = -logp.mean()
    hidden.grad = head.grad = None
    loss.backward()
    return float(loss.detach())

  return run


def contestants(args) -> dict:
  """Task -> name -> a function that prepares a step; the first is what others are compared with."""
  return {
    task: {
      'peft' if task == 'adapters' else 'PyTorch': lambda task=task: update_torch(args, task),
      'lwz': lambda task=task: update_lwz(args, task),
    }
    for task in UPDATES
  } | {
    'head': {
      'PyTorch': lambda: head_torch(by_row=False),
      'PyTorch by row': lambda: head_torch(by_row=True),
      'lwz': lambda: head_lwz(args.head_chunk),
    },
  }


def work(args) -> None:
  """One contestant, in this process: a warm-up, then the repeats; prints a line of JSON."""
  task, name = args.worker
  try:
    run = contestants(args)[task][name]()
  except ModuleNotFoundError as error:
    print(json.dumps({'missing': error.name}))
    return
  losses = [run()]
  seconds, busy = [], []
  for _ in range(1 if task in ONCE else REPEATS):
    began, worked = time.perf_counter(), time.process_time()
    losses.append(run())
    seconds.append(time.perf_counter() - began)
    busy.append(time.process_time() - worked)
  unit = 1 if sys.platform == 'darwin' else 1024  # of ru_maxrss, in bytes
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  found = {'seconds': seconds, 'busy': busy, 'peak_gb': peak / 1e9, 'first_loss': losses[0]}
  print(json.dumps(found))


def measure(args, task: str, name: str) -> dict:
  environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'TRANSFORMERS_VERBOSITY': 'error'}
  root = str(pathlib.Path(__file__).resolve().parent.parent)
  environment['PYTHONPATH'] = os.pathsep.join([root, os.environ.get('PYTHONPATH', '')])
  done = subprocess.run(
    [sys.executable, __file__, *sys.argv[1:], '--worker', task, name],
    env=environment,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def compare(args, task: str) -> dict:
  names = list(contestants(args)[task])
  tokens = math.prod(UPDATES[task]) if task in UPDATES else TOKENS
  rounds: dict[str, list] = {name: [] for name in names}
  for _ in range(1 if task in ONCE else args.rounds):
    for name in names:
      rounds[name].append(measure(args, task, name))
  results = {}
  for name, found in rounds.items():
    if 'missing' in found[0]:
      print(f'{task}: {name} left out, {found[0]["missing"]} is not installed')
      continue
    seconds = statistics.median(s for one in found for s in one['seconds'])
    results[name] = {
      'seconds': seconds,
      'tokens_per_second': tokens / seconds,
      'busy_seconds': statistics.median(s for one in found for s in one['busy']),
      'peak_gb': max(one['peak_gb'] for one in found),
      'first_loss': found[0]['first_loss'],
    }
  base = results.get(names[0])
  titles = f'{"seconds":>8} {"tokens/s":>9} {"CPU s":>7} {"peak GB":>8} {"speed":>6} {"memory":>7}'
  print(f'\n{task:16} {titles}')
  for name, r in results.items():
    line = f'{name:16} {r["seconds"]:8.2f} {r["tokens_per_second"]:9,.0f} {r["busy_seconds"]:7.1f}'
    line += f' {r["peak_gb"]:8.2f}'
    if base:
      line += f' {base["seconds"] / r["seconds"]:6.2f} {r["peak_gb"] / base["peak_gb"]:7.2f}'
    print(line)
  return results


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--tasks', nargs='+', choices=(*UPDATES, 'head'), default=DEFAULT)
  parser.add_argument('--rounds', type=int, default=2, help='processes per contestant')
  parser.add_argument('--micro_rows', type=int, default=4, help='rows of 320 tokens per pass')
  parser.add_argument(
    '--dtype', default='bfloat16', choices=('bfloat16', 'float32'), help='adapters'
  )
  parser.add_argument('--chunk', type=int, default=1_280, help='tokens per block of logits')
  parser.add_argument('--remat', default='none', help='what is computed again, qwen.REMAT')
  parser.add_argument('--head_chunk', type=int, default=128, help='head: tokens per block')
  parser.add_argument('--out', type=pathlib.Path, help='also write the results here, as JSON')
  parser.add_argument('--worker', nargs=2, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    return work(args)
  results = {task: compare(args, task) for task in args.tasks}
  if args.out:
    args.out.write_text(json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
  main()
