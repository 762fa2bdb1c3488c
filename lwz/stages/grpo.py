"""GRPO: write G answers to each prompt, judge them, move towards the better ones.

One step:
  1. take P prompts, each with its length range                                  data.prompts
  2. write G answers to each                                                      rollout.engine
  3. judge each answer: length, writing, format                                   reward.compose
  4. compare each answer with its siblings, component by component, then average  learn.advantage
  5. one clipped gradient step per minibatch                          learn.losses, learn.update
  6. record and save                                                              store
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from lwz import types
from lwz.data import prompts, templates, tokenizer
from lwz.learn import advantage, losses
from lwz.model import qwen
from lwz.programs import grpo, reward_model
from lwz.programs import rollout as rollout_program
from lwz.reward import compose, writing
from lwz.reward import format as format_lib
from lwz.reward import length as length_lib
from lwz.rollout import sampler
from lwz.stages import prepare
from lwz.store import checkpoint, run as run_lib
from lwz.store import samples as sample_files

# What an experiment may name. A new advantage, aggregation or reward is a function and a line here.
ADVANTAGES = {'balanced': advantage.balanced, 'mean_reward': advantage.mean_reward}
AGGREGATES = {
  'token': lambda c: losses.budget_mean,
  'sequence': lambda c: lambda num_tokens: losses.sequence_mean,
  'budget': lambda c: lambda num_tokens: losses.budget_mean(
    c.rl.prompts_per_step * c.rl.group_size // c.rl.num_minibatches * c.rollout.max_tokens
  ),
}
REWARDS = {
  'length': lambda c: functools.partial(compose.length, max_words=c.reward.max_words),
  'writing': lambda c: functools.partial(
    compose.writing, scorer=_scorer(c), floor=c.reward.writing_floor
  ),
  'format': lambda c: compose.format,
}


def run(c) -> None:
  _check(c)
  opened = prepare.open_run(c)
  tok = prepare.load_tokenizer(c, opened.folder)
  config = prepare.model_config(c.size)
  asked = _fitting(c, tok, prepare.writing_prompts(c))
  rewards = {name: REWARDS[name](c) for name in c.reward.weights}
  weights_R = jnp.array(list(c.reward.weights.values()), jnp.float32)
  training = prepare.Training(c, opened, config)
  write, update = _programs(c, config, tok, training.optimizer)

  state = training.state
  for step in training:
    began = time.monotonic()
    chosen = prompts.take(asked, step, c.rl.prompts_per_step, c.seed)
    prompt_ids = [_prompt_ids(c, tok, prompt) for prompt in chosen]
    rollout = _write(c, write, state.params, prompt_ids, step)
    wrote = time.monotonic()
    samples = _samples(c, tok, chosen, rollout)
    scores = compose.judge(samples, rewards, len(chosen))
    judged = time.monotonic()
    _stop_on_failures(c, scores)
    advantage_PG = ADVANTAGES[c.rl.advantage](scores.values, weights_R, scores.valid)
    values = []
    for members in _minibatches(c, step):
      batch, num_micro = _minibatch(c, prompt_ids, rollout, advantage_PG, scores, members)
      state, metrics = update(state, batch, num_micro)
      values.append(jax.device_get(metrics))
    seconds = {'write': wrote - began, 'judge': judged - wrote, 'learn': time.monotonic() - judged}
    if step % c.log.samples_every == 0 or step + 1 == c.train.num_steps:
      sample_files.write(opened.folder, step, _rendered(c, samples, scores))
    training.record(
      step,
      state,
      _metrics(c, samples, scores, rollout, values, seconds),
      show=('reward/length', 'reward/writing', 'reward/format'),
    )
  _finish(c, opened, config, asked)


def _check(c) -> None:
  """What could only fail hours later fails here."""
  c_ids = c.rollout.max_prompt_tokens + c.rollout.max_tokens
  if c_ids > c.data.row_length:
    raise ValueError(
      f'rollout.max_prompt_tokens + rollout.max_tokens = {c_ids} exceeds '
      f'data.row_length={c.data.row_length}: a trajectory must fit a row'
    )
  num = c.rl.prompts_per_step * c.rl.group_size
  if num % c.rl.num_minibatches:
    raise ValueError(f'rl.num_minibatches={c.rl.num_minibatches} does not divide {num} samples')
  if c.rollout.temperature <= 0:
    raise ValueError('rollout.temperature must be above 0: greedy groups have no spread')
  for key, value, table in (
    ('rl.advantage', c.rl.advantage, ADVANTAGES),
    ('rl.aggregate', c.rl.aggregate, AGGREGATES),
    ('data.style', c.data.style, types.STYLES),
  ):
    if value not in table:
      raise ValueError(f'{key}={value!r}: choose one of {", ".join(table)}')
  for name in c.reward.weights:
    if name not in REWARDS:
      raise ValueError(f'reward.weights.{name}: there is no such reward; {", ".join(REWARDS)} are')


def _programs(c, config, tok, optimizer):
  write = rollout_program.generate(
    config,
    num_prompts=c.rl.prompts_per_step,
    num_samples=c.rl.group_size,
    max_prompt_tokens=c.rollout.max_prompt_tokens,
    max_tokens=c.rollout.max_tokens,
    temperature=c.rollout.temperature,
    stop_id=tok.eos_token_id,
  )
  update = grpo.update_step(
    config,
    optimizer,
    num_sequences=c.rl.prompts_per_step * c.rl.group_size // c.rl.num_minibatches,
    max_tokens=c.rollout.max_tokens,
    row_length=c.data.row_length,
    micro_rows=c.train.micro_rows,
    temperature=c.rollout.temperature,
    chunk=c.train.chunk,
    clip_low=c.rl.clip_low,
    clip_high=c.rl.clip_high,
    aggregate=AGGREGATES[c.rl.aggregate](c),
  )
  return write.jit(), update.jit()


def _prompt_ids(c, tok, prompt: types.Prompt) -> np.ndarray:
  ids = templates.prompt_ids(tok, prompt.text, c.data.style, c.data.template)
  return np.array(ids, np.int32)


def _fitting(c, tok, asked: list[types.Prompt]) -> list[types.Prompt]:
  """The prompts that `max_prompt_tokens` holds. One in a user's file that it doesn't is an error."""
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


def _write(c, write, params, prompt_ids: list[np.ndarray], step: int) -> types.Rollout:
  P, G = len(prompt_ids), c.rl.group_size
  padded_PT = np.zeros((P, c.rollout.max_prompt_tokens), np.int32)
  for row, ids in zip(padded_PT, prompt_ids, strict=True):
    row[: len(ids)] = ids
  keys_B2 = sampler.trajectory_keys(
    c.seed, step, jnp.repeat(jnp.arange(P), G), jnp.tile(jnp.arange(G), P)
  )
  lengths_P = np.array([len(ids) for ids in prompt_ids], np.int32)
  return jax.device_get(write(params, padded_PT, lengths_P, keys_B2))


def _samples(c, tok, chosen, rollout: types.Rollout) -> list[compose.Sample]:
  """Trajectories as text, without the stop token."""
  ends_B = rollout.lengths - rollout.finished
  texts = tok.batch_decode([ids[:end] for ids, end in zip(rollout.ids, ends_B, strict=True)])
  owners = [prompt for prompt in chosen for _ in range(c.rl.group_size)]
  return [
    compose.Sample(prompt, text, format_lib.parse(text, c.data.style))
    for prompt, text in zip(owners, texts, strict=True)
  ]


def _scorer(c):
  """(request, answer) pairs -> writing rewards, by the reward model that `reward.model` names."""
  folder = prepare.reference(c, c.reward.model)
  size = run_lib.read_config(folder)['size']
  config = prepare.model_config(size, scalar_head=True)
  params = checkpoint.load_params(folder, qwen.abstract(config))
  tok = tokenizer.load(folder / 'tokenizer')
  result = run_lib.Run(folder).read_done()['summary']
  scale = writing.Scale(result['mean'], result['std'])
  shape = {'num_rows': c.train.micro_rows, 'row_length': c.data.row_length}
  score_fn = reward_model.score(config, **shape).jit()

  def score(pairs):
    texts = tokenizer.encode(tok, [templates.judged(*pair) for pair in pairs], end=True)
    return writing.squash(
      reward_model.score_all(score_fn, params, texts, **shape), scale
    )

  return score


def _stop_on_failures(c, scores: types.Scores) -> None:
  share = 1.0 - scores.valid.mean()
  if share > c.reward.max_failures:
    raise RuntimeError(
      f'{share:.0%} of the samples could not be judged, more than '
      f'reward.max_failures={c.reward.max_failures:.0%}'
    )


def _minibatches(c, step: int) -> list[np.ndarray]:
  """Indices of trajectories: each epoch sweeps the whole rollout, in a new order."""
  num = c.rl.prompts_per_step * c.rl.group_size
  orders = [
    np.random.default_rng((c.seed, step, epoch)).permutation(num)
    for epoch in range(c.rl.num_epochs)
  ]
  return [part for order in orders for part in np.split(order, c.rl.num_minibatches)]


def _minibatch(c, prompt_ids, rollout, advantage_PG, scores, members):
  return grpo.minibatch(
    [prompt_ids[b // c.rl.group_size] for b in members],
    [rollout.ids[b, : rollout.lengths[b]] for b in members],
    rollout.logp[members],
    np.asarray(advantage_PG).reshape(-1)[members],
    scores.valid.reshape(-1)[members],
    row_length=c.data.row_length,
    micro_rows=c.train.micro_rows,
  )


def _metrics(c, samples, scores, rollout, values, seconds) -> dict[str, float]:
  """Figures of a step. Means over all samples, those of broken structure included, unless named."""
  words = np.array([length_lib.count_words(s.parsed.answer) for s in samples])
  valid = np.array([s.parsed.valid for s in samples])
  flat_BR = scores.values.reshape(len(samples), -1)
  names = list(c.reward.weights)
  out = {f'reward/{name}': flat_BR[:, r].mean() for r, name in enumerate(names)}
  for r, name in enumerate(names):
    out[f'spread/{name}'] = np.mean(np.asarray(advantage.spread(scores.values[:, :, r])))
    if valid.any():
      out[f'valid_only/{name}'] = flat_BR[valid, r].mean()
  if valid.any():
    out['words/answer'] = words[valid].mean()
    out['redundancy'] = 1.0 - out['valid_only/format'] if 'format' in names else np.nan
  out |= {
    'valid_format': valid.mean(),
    'words/lower': np.mean([s.prompt.lower for s in samples]),
    'words/upper': np.mean([s.prompt.upper for s in samples]),
    'tokens/trajectory': rollout.lengths.mean(),
    'tokens/finished': rollout.finished.mean(),
    'judge_failures': 1.0 - scores.valid.mean(),
    'tokens_per_second/write': rollout.lengths.sum() / seconds['write'],
  }
  out |= {f'seconds/{name}': value for name, value in seconds.items()}
  for name in values[0]:
    out[f'learn/{name}'] = np.mean([v[name] for v in values])
  out['learn/logp_gap'] = values[0]['logp_gap']  # before the first update the policies are one
  return out


def _rendered(c, samples, scores, num: int = 8) -> list[dict]:
  """The first samples, spread over the prompts, as `store.samples` keeps them."""
  flat_BR = scores.values.reshape(len(samples), -1)
  stride = max(1, len(samples) // num)
  return [
    {
      'prompt': s.prompt.text,
      'think': s.parsed.think or None,
      'answer': s.parsed.answer,
      'text': s.text,
      'valid': s.parsed.valid,
      'fault': s.parsed.fault,
      'words': length_lib.count_words(s.parsed.answer),
      'lower': s.prompt.lower,
      'upper': s.prompt.upper,
      'rewards': dict(zip(c.reward.weights, flat_BR[b].tolist(), strict=True)),
    }
    for b, s in list(enumerate(samples))[::stride][:num]
  ]


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
      'words/answer',
      'tokens/trajectory',
      'learn/entropy',
      'learn/loss',
      'learn/logp_gap',
    ],
    pictures=[
      ('', {'keys': [f'reward/{name}' for name in names], 'title': 'rewards'}),
      (
        '',
        {
          'keys': ['words/answer'],
          'band': ('words/lower', 'words/upper'),
          'title': 'words of a valid answer, and the asked range',
        },
      ),
      ('', {'keys': ['valid_format'], 'title': 'share of valid format'}),
      ('', {'keys': ['redundancy'], 'title': 'redundancy of valid answers'}),
      ('', {'keys': ['learn/entropy'], 'title': 'entropy', 'unit': 'nats per token'}),
      ('', {'keys': ['learn/clip_low', 'learn/clip_high'], 'title': 'share of clipped tokens'}),
      ('', {'keys': ['learn/loss'], 'title': 'loss'}),
      ('', {'keys': ['learn/logp_gap'], 'title': 'mean |log p sampler - log p scorer|'}),
      ('', {'keys': ['tokens_per_second/write'], 'title': 'tokens written per second'}),
    ],
    facts={'parameters': f'{qwen.num_params(config):,}', 'prompts': len(asked)},
    result={},
  )
