"""Seconds to the end of a first GRPO step, from the start of the process: cold, and cached.

    python benchmarks/step.py                          # beside PyTorch, where it is installed
    python benchmarks/step.py --before FOLDER          # and beside another checkout of lwz
    python benchmarks/step.py --tasks micro

  step: imports, a Qwen2 of 12.6M parameters in float32 from its folder, 8 samples of 256 tokens for
        each of 4 prompts of 64, two rewards by rule, one update by AdamW.
  micro: `grpo_think:micro` from nothing, with the runs that it needs, to its first record.

A cold process compiles everything, a cached one finds what the one before it has compiled. Every
contestant is a process of its own; rounds alternate between them. On a shared machine `CPU s`, the
time of all cores, is more reliable than `seconds`.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types

import numpy as np

PROMPTS, GROUP, PROMPT, ANSWER = 4, 8, 64, 256
B = PROMPTS * GROUP
MODEL = {
  'vocab_size': 4_096,
  'hidden_size': 384,
  'intermediate_size': 1_024,
  'num_hidden_layers': 6,
  'num_attention_heads': 6,
  'num_key_value_heads': 2,
  'max_position_embeddings': 512,
}
MICRO_ROWS = 4
LIMIT = 900  # seconds of a child
ROOT = pathlib.Path(__file__).resolve().parent.parent


def prompts() -> np.ndarray:
  rng = np.random.default_rng(1)
  return rng.integers(1, MODEL['vocab_size'], (PROMPTS, PROMPT)).astype(np.int32)


def rewards(ids_BT: np.ndarray) -> np.ndarray:
  """Two rules: the share of tokens that are new, and how near half of them is to the lower half."""
  new_B = np.array([len(set(ids.tolist())) / len(ids) for ids in ids_BT])
  low_B = np.mean(ids_BT < MODEL['vocab_size'] // 2, axis=1)
  return np.stack([new_B, 1 - 2 * np.abs(low_B - 0.5)], axis=-1).reshape(PROMPTS, GROUP, 2)


def step_lwz(folder: str, cache: str) -> float:
  from lwz.runtime import compilation

  settings = types.SimpleNamespace(exact=False)
  compilation.prepare(types.SimpleNamespace(runs_dir=cache, rollout=settings))
  import jax
  import jax.numpy as jnp

  from lwz.learn import advantage, losses, optimizer, update
  from lwz.model import lora, parameters, sharding
  from lwz.programs import grpo, placement, rollout
  from lwz.rollout import local, sampler
  from lwz.rollout import spec as spec_lib
  from lwz.store.hf import checkpoint as hf

  mesh = sharding.make_mesh((1,), jax.devices()[:1])
  config, params = hf.load(folder, mesh, dtype='float32')
  rate = optimizer.schedule(1e-5, warmup_steps=0, decay_steps=0, final_share=1.0)
  decays = parameters.decay_mask(lora.describe(config, None))
  tx = optimizer.adamw(rate, b1=0.9, b2=0.95, max_norm=1.0, weight_decay=0.1, decay_mask=decays)
  shape = grpo.BatchShape(B, ANSWER, PROMPT + ANSWER, MICRO_ROWS, MICRO_ROWS * (PROMPT + ANSWER))
  objective = grpo.Objective(
    clip_low=0.2,
    clip_high=0.2,
    aggregate=lambda num_tokens, num_sequences: losses.budget_mean(num_tokens),
  )
  program = grpo.update_step(config, tx, shape, objective, temperature=1.0, remat='none', mesh=mesh)
  getattr(program, 'start', lambda: None)()  # older checkouts compile in the first call
  spec = spec_lib.EngineSpec(
    config,
    num_slots=B,
    max_prompt_tokens=PROMPT,
    max_tokens=ANSWER,
    sampling=sampler.Sampling(1.0),
    exact=False,
    mesh=mesh,
  )
  engine = rollout.engine(spec)
  where = placement.shardings(program.abstract_args[0])
  state = jax.jit(lambda p: update.init(p, tx), out_shardings=where)(params)
  requests = local.requests(
    list(prompts()),
    num_samples=GROUP,
    max_tokens=ANSWER,
    seed=0,
    step=0,
    expected=[ANSWER] * PROMPTS,
  )
  found = sorted(local.stream(engine, engine.reshard(params), requests), key=lambda one: one.index)
  ids_BT, logp_BT = (np.stack([getattr(one, x) for one in found]) for x in ('ids', 'logp'))
  advantage_PG = advantage.balanced(rewards(ids_BT), jnp.ones(2), np.ones((PROMPTS, GROUP), bool))
  minibatch, num_micro = grpo.minibatch(
    [prompt for prompt in prompts() for _ in range(GROUP)],
    list(ids_BT),
    logp_BT,
    np.asarray(advantage_PG).reshape(-1),
    np.ones(B, bool),
    shape,
  )
  _, metrics = program.jit()(state, minibatch, num_micro)
  return float(metrics['loss'])


def step_torch(folder: str, cache: str) -> float:
  import torch
  import transformers

  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
  trained = list(model.parameters())
  tx = torch.optim.AdamW(trained, lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1)
  asked = torch.tensor(np.repeat(prompts(), GROUP, axis=0)).long()
  lengths = {'max_new_tokens': ANSWER, 'min_new_tokens': ANSWER, 'pad_token_id': 0}
  choice = transformers.GenerationConfig(do_sample=True, top_k=0, top_p=1.0, **lengths)
  seen = torch.ones_like(asked)
  with torch.no_grad():
    ids = model.generate(asked, attention_mask=seen, generation_config=choice)
  both = rewards(ids[:, PROMPT:].numpy())
  by_reward = (both - both.mean(1, keepdims=True)) / (both.std(1, ddof=1, keepdims=True) + 1e-4)
  advantage = torch.from_numpy(by_reward.mean(-1).reshape(-1, 1)).float()
  logits = model(ids, logits_to_keep=ANSWER + 1, use_cache=False).logits[:, :-1]
  logp = torch.log_softmax(logits.float(), -1).gather(-1, ids[:, PROMPT:, None])[..., 0]
  ratio = torch.exp(logp - logp.detach())
  gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
  loss = -gain.mean()
  loss.backward()
  torch.nn.utils.clip_grad_norm_(trained, 1.0)
  tx.step()
  return float(loss.detach())


def prepare(folder: pathlib.Path) -> str:
  """Writes random weights as a Hugging Face folder, and returns it."""
  import jax
  import jax.numpy as jnp

  from lwz.model import config as config_lib
  from lwz.model import qwen
  from lwz.store.hf import checkpoint as hf

  config = config_lib.QwenConfig(
    **MODEL, head_dim=64, tie_word_embeddings=True, dtype=jnp.dtype('float32')
  )
  hf.save(folder, config, jax.jit(qwen.init, static_argnums=1)(jax.random.key(0), config))
  return str(folder)


def timed(command: list[str], root: pathlib.Path, is_done) -> tuple[float, float]:
  """Returns the seconds until `is_done()`, and the CPU seconds of the whole process."""
  environment = os.environ | {
    'PYTHONPATH': str(root),
    'JAX_PLATFORMS': 'cpu',
    'TRANSFORMERS_VERBOSITY': 'error',
  }
  began = time.monotonic()
  process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL)
  seconds = None
  try:
    while time.monotonic() - began < LIMIT:
      ended, status, usage = os.wait4(process.pid, os.WNOHANG)
      if seconds is None and is_done():
        seconds = time.monotonic() - began
      if ended:
        process.returncode = status = os.waitstatus_to_exitcode(status)
        break
      time.sleep(0.02)
    else:
      raise RuntimeError(f'{" ".join(command)}: stopped after {LIMIT} s')
  finally:
    if process.returncode is None:
      process.kill()
      process.wait()
  if status or seconds is None:
    raise RuntimeError(f'{" ".join(command)}: ended with status {status}; see above')
  return seconds, usage.ru_utime + usage.ru_stime


def measure(task: str, name: str, root: pathlib.Path, folder: str, scratch: pathlib.Path) -> dict:
  """Returns {'cold': (seconds, CPU seconds), 'cached': ...} of one contestant in one round."""
  found = {}
  shutil.rmtree(scratch, ignore_errors=True)
  for kind in ('cold', 'cached'):
    if task == 'step':
      scratch.mkdir(exist_ok=True)
      done = scratch / 'done'
      done.unlink(missing_ok=True)
      command = [sys.executable, __file__, '--worker', name, folder, str(scratch)]
    else:
      for run in scratch.glob('*-micro'):
        shutil.rmtree(run)
      done = scratch / 'grpo_think-micro' / 'metrics.jsonl'
      command = [sys.executable, '-m', 'lwz.launch', '--config=experiments/grpo_think.py:micro']
      command += [f'--config.runs_dir={scratch}', '--config.train.num_steps=1']
    is_done = lambda done=done: done.exists() and done.stat().st_size > 0  # noqa: E731
    found[kind] = timed(command, root, is_done)
    print(f'{task} {name} {kind}: {found[kind][0]:.1f} s, {found[kind][1]:.1f} CPU s', flush=True)
  return found


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--tasks', nargs='+', choices=('step', 'micro'), default=('step', 'micro'))
  parser.add_argument('--before', type=pathlib.Path, help='another checkout to compare with')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--out', type=pathlib.Path, help='also write the results here, as JSON')
  parser.add_argument('--worker', nargs=3, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    name, folder, scratch = args.worker
    loss = (step_torch if name == 'PyTorch' else step_lwz)(folder, scratch)
    (pathlib.Path(scratch) / 'done').write_text(f'{loss}\n')
    return
  roots = {'lwz': ROOT} | ({'before': args.before.resolve()} if args.before else {})
  results: dict[str, dict] = {}
  with tempfile.TemporaryDirectory() as scratch:
    folder = prepare(pathlib.Path(scratch) / 'model')
    for task in args.tasks:
      names = dict(roots)
      try:
        import torch  # noqa: F401

        names |= {'PyTorch': ROOT} if task == 'step' else {}
      except ModuleNotFoundError:
        print('PyTorch left out: torch is not installed')
      rounds: dict[str, list] = {name: [] for name in names}
      for _ in range(args.rounds):
        for name, root in names.items():
          rounds[name].append(measure(task, name, root, folder, pathlib.Path(scratch) / 'cache'))
      print(f'\n{task:10} {"":8} {"seconds":>8} {"CPU s":>7}')
      results[task] = {}
      for name, found in rounds.items():
        for kind in ('cold', 'cached'):
          median = [statistics.median(one[kind][i] for one in found) for i in (0, 1)]
          results[task][f'{name} {kind}'] = median
          print(f'{name:10} {kind:8} {median[0]:8.1f} {median[1]:7.1f}', flush=True)
  if args.out:
    args.out.write_text(json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
  main()
