"""GRPO: write G answers to each prompt, judge them, move towards the better ones.

One step:
  1. take P prompts, each with its length range                                   data.prompts
  2. write G answers to each                                                      rollout.scheduler
  3. judge each answer, while others are being written: length, writing, format   rl.scoring
  4. compare each answer with its siblings, component by component, then average  learn.advantage
  5. one clipped gradient step per minibatch                                      rl.learner
  6. record and save                                                              store
Steps 1 to 3 are a draw; with `rl.max_redraws` others follow it where siblings do not differ.
"""

import dataclasses

import jax
import numpy as np

from lwz import types
from lwz.data import prompts, templates
from lwz.model import qwen
from lwz.programs import program, reward_model
from lwz.rl import evaluator, generation, observer, registry, resume, sampling, scoring
from lwz.rl import learner as learner_lib
from lwz.runtime import setup, trainer, validation


def check(c) -> None:
  references = ['init'] if registry.is_server(c.reward.model) else ['init', 'reward.model']
  validation.keys(c, references)
  validation.mesh(c, references)
  registry.check_rewards(c)
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
  generation.check(c)
  validation.decoding(c, c.init)
  if min(c.reward.weights.values()) < 0 or sum(c.reward.weights.values()) <= 0:
    raise ValueError('reward.weights must not be negative, and one of them must be positive')
  for name in c.reward.weights:
    if name not in registry.REWARDS:
      known = ', '.join(registry.REWARDS)
      raise ValueError(f'reward.weights: there is no {name!r}; choose from {known}')
  learner_lib.check(c)
  evaluator.check(c)


def run(c) -> None:
  opened = setup.open_run(c)
  tok = setup.load_tokenizer(c, opened.folder)
  config = setup.model_config(c, opened.folder, len(tok))
  asked = _fitting(c, tok, setup.writing_prompts(c))
  mesh = setup.mesh(c)
  rewards = {name: registry.REWARDS[name](c, mesh) for name in c.reward.weights}
  compiled = programs(c, models(c) | {'policy': config}, mesh)
  setup.fits(c, compiled)
  if c.debug.replay:
    return trainer.rerun(c, compiled['grpo'])
  loop = trainer.Training(c, opened, config, mesh)
  watcher = observer.Watcher(c, mesh, opened.folder, loop.extra.get('monitor', {}))
  past = resume.History(c, opened.folder, num_rewards=len(rewards), rest=loop.rest)
  learner = learner_lib.Learner(c, config, mesh, compiled)
  writer = generation.Writer(c, config, mesh, tok.eos_token_id)
  greedy = generation.engine(c, config, mesh, tok.eos_token_id, temperature=0.0)
  held_out = evaluator.Checkup(c, tok, writer.engine, greedy, opened.folder, asked)

  def draw(number: int) -> sampling.Draw:
    chosen = sampling.take(c, asked, number)
    prompt_ids = [_prompt_ids(c, tok, prompt) for prompt in chosen]
    done = past.step(number, state.params)
    with scoring.Scoring(c, tok, rewards, chosen) as scorer:
      rollout, figures = writer.step(
        number, state.params, prompt_ids, chosen, done, ended=scorer.add
      )
      loop.lap('write')
      loop.rest()
      samples = scorer.samples(rollout)
      scores = done.scores or done.judged(rollout, scorer.scores(samples))
    loop.lap('judge')
    loop.rest()
    return sampling.Draw(prompt_ids, samples, rollout, scores, figures)

  state = loop.state
  for step in loop:
    values = held_out.step(loop, step, state.params)
    draws, teaching = sampling.enough(draw, sampling.numbers(c, step), learner.teaches)
    batch = sampling.choose(draws, teaching)
    state, learned = learner.step(loop, state, step, batch)
    loop.lap('learn')
    values |= learned | learner.speed(batch, loop.laps['seconds/learn'])
    values |= watcher.step(step, draws[0], list(rewards))  # of the first draw: nobody chose it
    values |= sampling.figures(draws, teaching, loop.laps['seconds/write'])
    shown = [f'reward/{name}' for name in rewards]
    loop.record(step, state, values, show=shown, extra={'monitor': watcher.state})
  _finish(c, opened, config, asked)


def models(c) -> dict[str, qwen.QwenConfig]:
  """The models of a run as its config promises them."""
  found = {'policy': setup.expected(c, c.init)}
  if not registry.is_server(c.reward.model):
    model = setup.expected(c, c.reward.model)
    found['reward'] = dataclasses.replace(model, scalar_head=True)
  return found


def programs(
  c, models: dict[str, qwen.QwenConfig], mesh: jax.sharding.Mesh
) -> dict[str, program.Program]:
  """What a run compiles: writing, judging, learning."""
  policy = models['policy']
  found = {**generation.programs(c, policy, mesh), **learner_lib.programs(c, policy, mesh)}
  if 'reward' in models:  # else a server judges
    shape = registry.score_shape(c, mesh)
    found['score'] = reward_model.score(models['reward'], shape, mesh=mesh)
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


def _finish(c, opened, config, asked) -> None:
  names = list(c.reward.weights)
  setup.finish(
    c,
    opened,
    keys=[
      'valid_format',
      *[f'reward/{name}' for name in names],
      *[f'valid_only/{name}' for name in names],
      'redundancy',
      *['words/answer', 'words/think', 'tokens/trajectory', 'tokens/per_second'],
      *['learn/entropy', 'learn/loss', 'learn/logp_gap', 'seconds'],
      *evaluator.KEYS,
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
      *evaluator.pictures(c),
      *observer.PICTURES,
      *learner_lib.pictures(c),
      {'keys': ['tokens/per_second'], 'title': 'tokens written per second'},
    ],
    facts={'parameters': f'{qwen.num_params(config):,}', 'prompts': len(asked)}
    | evaluator.facts(c),
    tables=observer.tables(opened.folder),
  )
