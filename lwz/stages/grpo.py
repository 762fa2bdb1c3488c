"""GRPO: write G answers to each prompt, judge them, move towards the better ones.

One step:
  1. take P prompts, each with its length range                                  data.prompts
  2. write G answers to each                                                      rollout.engine
  3. judge each answer: length, writing, format                                   reward.compose
  4. compare each answer with its siblings, component by component, then average  learn.advantage
  5. one clipped gradient step per minibatch                          learn.losses, learn.update
  6. record and save                                                              store
"""

import dataclasses
import functools
from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np

from lwz import hosts, types
from lwz.data import prompts, templates
from lwz.model import qwen
from lwz.programs import grpo, program, reward_model
from lwz.programs import rollout as rollout_program
from lwz.reward import compose
from lwz.reward import format as format_lib
from lwz.rollout import local
from lwz.stages import choices, history, prepare, training, watching


def check(c) -> None:
  references = ['init'] if choices.is_server(c.reward.model) else ['init', 'reward.model']
  prepare.check(c, references)
  prepare.check_mesh(c, references)
  choices.check_rewards(c)
  longest_asked = round((c.data.upper + 5) * (1 + c.data.slack))  # a stated length is rounded
  if c.data.prompts:
    asked = prompts.load(c.data.prompts)
    if not asked:
      raise ValueError(f'{c.data.prompts}: no prompts in it')
    longest_asked = max(prompt.upper for prompt in asked)
  if longest_asked > c.reward.max_words:
    raise ValueError(
      f'{c.data.prompts or "data.upper"} asks for up to {longest_asked} words, above '
      f'reward.max_words={c.reward.max_words}, where the length reward is 0: raise it'
    )
  longest = c.rollout.max_prompt_tokens + c.rollout.max_tokens
  if longest > c.data.row_length:
    raise ValueError(
      f'rollout.max_prompt_tokens + rollout.max_tokens = {longest} exceeds '
      f'data.row_length={c.data.row_length}: a trajectory must fit a row'
    )
  num = c.rl.prompts_per_step * c.rl.group_size
  if num % c.rl.num_minibatches:
    raise ValueError(f'rl.num_minibatches={c.rl.num_minibatches} does not divide {num} samples')
  if c.rl.group_size < 2:
    raise ValueError('rl.group_size must be at least 2: an answer is compared with its siblings')
  if c.rollout.temperature <= 0:
    raise ValueError('rollout.temperature must be above 0: greedy groups have no spread')
  if min(c.reward.weights.values()) < 0 or sum(c.reward.weights.values()) <= 0:
    raise ValueError('reward.weights must not be negative, and one of them must be positive')
  named: list[tuple[str, str, Collection[str]]] = [
    ('rl.advantage', c.rl.advantage, choices.ADVANTAGES),
    ('rl.aggregate', c.rl.aggregate, choices.AGGREGATES),
    *[('reward.weights', name, choices.REWARDS) for name in c.reward.weights],
  ]
  for key, value, known in named:
    if value not in known:
      raise ValueError(f'{key}: there is no {value!r}; choose from {", ".join(known)}')


def run(c) -> None:
  opened = prepare.open_run(c)
  tok = prepare.load_tokenizer(c, opened.folder)
  config = prepare.model_config(c, opened.folder, len(tok))
  asked = _fitting(c, tok, prepare.writing_prompts(c))
  mesh = prepare.mesh(c)
  rewards = {name: choices.REWARDS[name](c, mesh) for name in c.reward.weights}
  weights_R = jnp.array(list(c.reward.weights.values()), jnp.float32)
  compiled = programs(c, models(c) | {'policy': config}, mesh, tok.eos_token_id)
  prepare.fits(c, compiled)
  if c.debug.replay:
    return training.rerun(c, compiled['grpo'])
  loop = training.Training(c, opened, config, mesh)
  watcher = watching.Watcher(c, mesh, opened.folder, loop.extra.get('monitor', {}))
  past = history.History(c, opened.folder, num_rewards=len(rewards))
  generate, update = compiled['generate'].jit(), compiled['grpo'].jit()

  state = loop.state
  for step in loop:
    chosen = prompts.take(asked, step, c.rl.prompts_per_step, c.seed)
    prompt_ids = [_prompt_ids(c, tok, prompt) for prompt in chosen]
    done = past.step(step, state.params)
    rollout = done.rollout or done.written(_write(c, generate, state.params, prompt_ids, step))
    loop.lap('write')
    loop.rest()
    samples = _samples(c, chosen, local.decode(rollout, tok.batch_decode))
    scores = done.scores or _judge(c, samples, rewards, len(chosen))
    done.judged(rollout, scores)
    loop.lap('judge')
    loop.rest()
    advantage_PG = choices.ADVANTAGES[c.rl.advantage](scores.values, weights_R, scores.valid)
    learned = []
    for members in _sweeps(c, step):
      batch = _minibatch(c, mesh, prompt_ids, rollout, advantage_PG, scores, members)
      state, metrics = loop.update(update, state, *batch)
      learned.append(metrics)
    loop.lap('learn')
    values = watcher.step(step, samples, scores, list(rewards), rollout)
    values |= _figures(rollout, learned)
    values['tokens/per_second'] = float(rollout.lengths.sum()) / loop.laps['seconds/write']
    shown = [f'reward/{name}' for name in rewards]
    loop.record(step, state, values, show=shown, extra={'monitor': watcher.state})
  _finish(c, opened, config, asked)


def _minibatch_size(c) -> int:
  return c.rl.prompts_per_step * c.rl.group_size // c.rl.num_minibatches


def models(c) -> dict[str, qwen.QwenConfig]:
  """The models of a run as its config promises them."""
  found = {'policy': prepare.expected(c, c.init)}
  if not choices.is_server(c.reward.model):
    model = prepare.expected(c, c.reward.model)
    found['reward'] = dataclasses.replace(model, scalar_head=True)
  return found


def programs(
  c, models: dict[str, qwen.QwenConfig], mesh: jax.sharding.Mesh, stop_id: int = 0
) -> dict[str, program.Program]:
  """What a run compiles: writing, judging, learning."""
  policy = models['policy']
  generate = rollout_program.generate(
    policy,
    num_prompts=c.rl.prompts_per_step,
    num_samples=c.rl.group_size,
    max_prompt_tokens=c.rollout.max_prompt_tokens,
    max_tokens=c.rollout.max_tokens,
    temperature=c.rollout.temperature,
    stop_id=stop_id,
  )
  update = grpo.update_step(
    policy,
    training.adamw(c),
    num_sequences=_minibatch_size(c),
    max_tokens=c.rollout.max_tokens,
    row_length=c.data.row_length,
    micro_rows=prepare.pass_rows(c, mesh, _minibatch_size(c)),
    temperature=c.rollout.temperature,
    chunk=c.train.chunk,
    remat=c.train.remat,
    clip_low=c.rl.clip_low,
    clip_high=c.rl.clip_high,
    aggregate=functools.partial(choices.AGGREGATES[c.rl.aggregate], c),
    mesh=mesh,
  )
  found = {'generate': generate, 'grpo': update}
  if 'reward' in models:  # else a server judges
    shape = choices.score_shape(c, mesh)
    found['score'] = reward_model.score(models['reward'], mesh=mesh, **shape)
  return found


def _prompt_ids(c, tok, prompt: types.Prompt) -> np.ndarray:
  ids = templates.prompt_ids(tok, prompt.text, c.data.style, c.data.template)
  return np.array(ids, np.int32)


def _fitting(c, tok, asked: list[types.Prompt]) -> list[types.Prompt]:
  """The prompts that `max_prompt_tokens` holds; a longer one in a user's file is an error."""
  sizes = [len(_prompt_ids(c, tok, prompt)) for prompt in asked]
  fits = [size <= c.rollout.max_prompt_tokens for size in sizes]
  if c.data.prompts and not all(fits):
    worst = int(np.argmax(sizes))
    raise ValueError(
      f'{c.data.prompts}: prompt {asked[worst].id!r} has {sizes[worst]} tokens, more than '
      f'rollout.max_prompt_tokens={c.rollout.max_prompt_tokens}: raise it, or drop the prompt'
    )
  if not any(fits):
    raise ValueError(f'no prompt fits rollout.max_prompt_tokens={c.rollout.max_prompt_tokens}')
  return [prompt for prompt, fit in zip(asked, fits, strict=True) if fit]


def _write(c, generate, params, prompt_ids: list[np.ndarray], step: int) -> types.Rollout:
  return local.write(
    generate,
    params,
    prompt_ids,
    num_samples=c.rl.group_size,
    max_prompt_tokens=c.rollout.max_prompt_tokens,
    seed=c.seed,
    step=step,
  )


def _samples(c, chosen: list[types.Prompt], texts: list[str]) -> list[compose.Sample]:
  owners = [prompt for prompt in chosen for _ in range(c.rl.group_size)]
  return [
    compose.Sample(prompt, text, format_lib.parse(text, c.data.style))
    for prompt, text in zip(owners, texts, strict=True)
  ]


def _judge(c, samples: list[compose.Sample], rewards, num_prompts: int) -> types.Scores:
  """Each sample by one process, except where our own model judges: all devices do that together."""
  shared = {
    name: component
    if name == 'writing' and choices.reward_models(c)
    else functools.partial(hosts.shares, component)
    for name, component in rewards.items()
  }
  scores = compose.judge(samples, shared, num_prompts)
  _stop_on_failures(c, scores)
  return scores


def _stop_on_failures(c, scores: types.Scores) -> None:
  share = 1.0 - scores.valid.mean()
  if share > c.reward.max_failures:
    raise RuntimeError(
      f'{share:.0%} of the samples could not be judged, more than '
      f'reward.max_failures={c.reward.max_failures:.0%}'
    )


def _sweeps(c, step: int) -> list[np.ndarray]:
  return grpo.sweeps(
    c.rl.prompts_per_step * c.rl.group_size,
    num_epochs=c.rl.num_epochs,
    num_minibatches=c.rl.num_minibatches,
    seed=c.seed,
    step=step,
  )


def _minibatch(c, mesh, prompt_ids, rollout, advantage_PG, scores, members) -> tuple[dict, int]:
  return grpo.minibatch(
    [prompt_ids[b // c.rl.group_size] for b in members],
    [rollout.ids[b, : rollout.lengths[b]] for b in members],
    rollout.logp[members],
    np.asarray(advantage_PG).reshape(-1)[members],
    scores.valid.reshape(-1)[members],
    row_length=c.data.row_length,
    micro_rows=prepare.pass_rows(c, mesh, _minibatch_size(c)),
  )


def _figures(rollout: types.Rollout, learned: list[dict]) -> dict[str, float]:
  """What the rollout and the updates of a step say."""
  out = {f'learn/{name}': float(np.mean([m[name] for m in learned])) for name in learned[0]}
  out['learn/logp_gap'] = float(learned[0]['logp_gap'])  # before an update, the policies are one
  return out | {
    'tokens/trajectory': float(rollout.lengths.mean()),
    'tokens/finished': float(rollout.finished.mean()),
  }


def _finish(c, opened, config, asked) -> None:
  names = list(c.reward.weights)
  prepare.finish(
    c,
    opened,
    keys=[
      'valid_format',
      *[f'reward/{name}' for name in names],
      *[f'valid_only/{name}' for name in names],
      'redundancy',
      *['words/answer', 'words/think', 'tokens/trajectory', 'tokens/per_second'],
      *['learn/entropy', 'learn/loss', 'learn/logp_gap', 'seconds'],
    ],
    pictures=[
      {'keys': [f'reward/{name}' for name in names], 'title': 'rewards, broken texts at the floor'},
      {
        'keys': ['words/answer'],
        'band': ('words/lower', 'words/upper'),
        'title': 'words of valid answers, and the range',
      },
      {'keys': ['valid_format'], 'title': 'share of valid format'},
      {'keys': [f'valid_only/{name}' for name in names], 'title': 'rewards of valid texts'},
      {'keys': ['redundancy'], 'title': 'redundancy of valid answers'},
      *watching.PICTURES,
      {'keys': ['learn/entropy'], 'title': 'entropy', 'unit': 'nats per token'},
      {'keys': ['learn/clip_low', 'learn/clip_high'], 'title': 'share of clipped tokens'},
      {'keys': ['learn/loss'], 'title': 'loss'},
      {'keys': ['learn/logp_gap'], 'title': 'mean |log p sampler - log p scorer|'},
      {'keys': ['tokens/per_second'], 'title': 'tokens written per second'},
    ],
    facts={'parameters': f'{qwen.num_params(config):,}', 'prompts': len(asked)},
    tables=watching.tables(opened.folder),
    better={'learn/loss': 0},
  )
