"""GRPO: sample answers to each prompt, score them, move the policy towards the better ones.

One step:
  1. take P prompts, each with its range of words                             rl.sampling
  2. sample G answers to each                                                 rl.generation
  3. score each answer, while others are being written             rl.scoring, rl.judged
  4. compare each answer with its siblings, reward by reward, then average    learn.advantage
  5. one clipped gradient step per minibatch                                  rl.learner
  6. record and save                                                          runtime.trainer
Dynamic sampling (`rl.max_resamples`) repeats 1 to 3 while too few groups are informative. Every
`reward.refresh` steps the writing reward model learns from what was sampled     rl.refresh
Every `eval.every` steps held-out prompts are answered, and judged meanwhile     rl.evaluator
"""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import numpy as np

from lwz.data import prompts as prompt_lib
from lwz.data import tokenizer
from lwz.judge import reward_judge
from lwz.model import qwen
from lwz.programs import program, reward_model
from lwz.rl import (
  browser,
  evaluation_report,
  evaluator,
  generation,
  judged,
  learner,
  likelihood,
  observer,
  referee,
  refresh,
  registry,
  resume,
  sampling,
  scoring,
)
from lwz.runtime import adapters, closing, engine_spec, replay, setup, sources, trainer, validation

READS = (
  *(*setup.READS, *setup.MESH, *setup.MODEL, *setup.PROMPTS, *trainer.READS, *registry.READS),
  *(*generation.READS, *sampling.READS, *scoring.READS, *learner.READS, *observer.READS),
  *(*refresh.READS, *resume.READS, *evaluator.READS),
)


def check(c, rewards: registry.Given = None) -> None:
  references = ['init', 'reward.model'] if registry.has_own_model(c) else ['init']
  references += ['rl.teacher'] if c.rl.teacher else []
  validation.config(c, references)
  validation.mesh(c, references)
  adapters.check(c)
  registry.check_rewards(c, rewards)
  others = filter(None, (c.reward.heldout, *c.reward.ensemble))
  validation.positions(c, [value for value in others if not registry.is_server(value)])
  longest_asked = round((c.data.upper + 5) * (1 + c.data.slack))  # a stated length is rounded
  if c.data.prompts and not setup.is_experiment(c.data.prompts):
    prompts = prompt_lib.load(setup.input_file(c, 'data.prompts'))
    if not prompts:
      raise ValueError(f'data.prompts={c.data.prompts}: the file has no prompts; name another')
    judged.check_prompts(c, prompts)
    longest_asked = max(prompt.upper for prompt in prompts)
  elif not (c.data.prompts or setup.is_experiment(c.data.folder)):
    if not (prompts := sources.writing_prompts(c)):
      raise ValueError(
        f'data.folder={c.data.folder}: no held-out document makes a prompt, since none opens with '
        f'{c.data.lower} to {c.data.upper} words: add documents, or change data.lower and '
        'data.upper'
      )
    judged.check_prompts(c, judged.guided(c, prompts))
  _check_longest(c, longest_asked)
  generation.check(c)
  validation.decoding(c, c.init)
  learner.check(c)
  observer.check(c)
  refresh.check(c)
  evaluator.check(c)


def _check_longest(c, num_words: int) -> None:
  """Raises ValueError if a prompt asks for so many words that Eq. 3 has no room above them."""
  if num_words > c.reward.max_words:
    raise ValueError(
      f'{c.data.prompts or "data.upper"} asks for up to {num_words} words, above '
      f'reward.max_words={c.reward.max_words}, where the length reward is 0: raise it'
    )


def run(c, rewards: registry.Given = None) -> Iterator[dict[str, float]]:
  opened = setup.open_run(c, READS)
  tok = setup.load_tokenizer(c, opened.folder)
  config = setup.model_config(c, opened.folder, tok)
  ids_by = sampling.fitting(c, tok, judged.guided(c, sources.writing_prompts(c)))
  prompts = list(ids_by)
  judged.check_prompts(c, prompts)
  _check_longest(c, max(prompt.upper for prompt in prompts))
  mesh = setup.mesh(c)
  compiled = programs(c, models(c) | {'policy': config}, mesh)
  setup.check_memory(c, compiled)
  if c.debug.replay:
    return replay.rerun(c, opened, config, mesh, compiled['grpo'])
  compiled['grpo'].start()  # a rollout, with programs of its own, comes before it
  loop = trainer.Trainer(c, opened, config, mesh)
  store = resume.BatchStore(c, opened.folder, stop_if_asked=loop.stop_if_asked)
  loop.closing.callback(store.close)
  sampled = engine_spec.sampling(tok, config, str(opened.folder), c.rollout.temperature)
  decode = tokenizer.decoder(tok)
  refreshed = refresh.Refresher(
    *(c, mesh, compiled.get('refresh'), store, decode, prompts),
    *(opened.folder, loop.extra['step']),
  )
  by_judge = judged.JudgedRewards(c, opened.folder, loop.extra)
  loop.closing.callback(by_judge.close)
  rewards = registry.rewards(c, mesh, by_judge.rewards(refreshed.rewards(rewards)))
  generator = generation.Generator(c, config, mesh, sampled, *loop.frozen)
  generation.compile_first(c, generator.engine)
  learn = learner.Learner(c, config, mesh, compiled, *loop.frozen)
  observe = observer.Observer(c, mesh, tok, opened.folder, loop.extra.get('monitor', {}))
  evaluate = evaluator.Evaluator(c, tok, config, generator.engine, opened.folder, prompts)
  loop.closing.callback(evaluate.stop)

  state = loop.state
  for step in loop:
    if why := observe.stops():
      loop.stop(f'{why}; leave rl.stop_on_alarm out to go on')
    if why := by_judge.stops():
      loop.stop(f'{why} to go on')
    by_judge.take(step, functools.partial(generator.engine.reshard, state.params))
    batches, informative = [], np.zeros(0, bool)
    for number in sampling.batch_numbers(c, step):
      chosen = sampling.take(c, prompts, number)  # 1
      prompt_ids = [ids_by[prompt] for prompt in chosen]
      stored = store.open(number, state.params)
      with scoring.Scoring(c, decode, rewards, chosen) as scorer:
        rollout, cost = generator.sample(  # 2, and 3 begins in the background
          number, state.params, chosen, prompt_ids, stored, on_end=scorer.add
        )
        loop.lap('write')
        loop.stop_if_asked()
        samples, scores = scorer.samples(rollout), stored.scores
        if scores is None:
          scores = scorer.scores(samples, meanwhile=loop.stop_if_asked)  # 3
          if why := by_judge.refused():
            loop.stop(f'{why} to go on')
          scoring.check(c, scores)
          stored.archive(rollout, scores)
      loop.lap('judge')
      loop.stop_if_asked()
      batches.append(sampling.Batch(prompt_ids, samples, rollout, scores, cost))
      informative = np.concatenate([informative, learn.informative(batches[-1])])
      if sampling.is_enough(c, informative):
        break
    values = evaluate.step(loop, step, state.params)
    values |= refreshed.step(loop, step, batches[0].samples)
    values |= by_judge.step(list(rewards), batches) | scoring.failures(rewards)
    batch = sampling.merge(batches, informative)
    observe.begin(step, batches[0], list(rewards))
    loop.lap('judge')
    state, learned = learn.step(loop, state, step, batch)  # 4 and 5
    loop.lap('learn')
    values |= learned | learn.speed(batch, loop.laps['seconds/learn'])
    values |= observe.step(step, batches, learn.advantages(batch), informative)
    values |= sampling.measure(batches, informative, loop.laps['seconds/write'])
    shown = [f'reward/{name}' for name in rewards]
    extra = {'monitor': observe.state} | by_judge.extra
    store.settle()
    yield loop.record(step, state, values, show=shown, extra=extra)  # 6
  _finish(c, opened, config, len(prompts), evaluate)


def models(c) -> dict[str, qwen.QwenConfig]:
  """Returns the configurations of the models of a run, which need not exist yet."""
  found = {'policy': setup.expected(c, c.init)}
  if registry.has_own_model(c):
    model = setup.expected(c, c.reward.model)
    found['reward'] = dataclasses.replace(model, scalar_head=True)
  others = {'teacher': c.rl.teacher, **judged.models(c), **likelihood.models(c)}
  return found | {name: setup.expected(c, value) for name, value in others.items() if value}


def programs(
  c, models: dict[str, qwen.QwenConfig], mesh: jax.sharding.Mesh
) -> dict[str, program.Program]:
  """Returns the programs that a run compiles: generation, scoring, learning."""
  policy, teacher = models['policy'], models.get('teacher')
  found = generation.programs(c, policy, mesh) | learner.programs(c, policy, mesh, teacher)
  if 'reward' in models:
    shape = registry.score_shape(c, mesh)
    found['score'] = reward_model.score(models['reward'], shape, mesh=mesh)
    found |= refresh.programs(c, models['reward'], mesh)
  if 'likelihood' in models:
    num_rows = registry.score_shape(c, mesh).num_rows
    found['likelihood'] = likelihood.program(c, models['likelihood'], mesh, num_rows)
  if 'judge' in models:
    asked = reward_judge.program(c, models['judge'], mesh, judged.num_texts(c))
    found[asked.name] = asked
  return found


def _finish(c, opened, config, num_prompts: int, evaluate: evaluator.Evaluator) -> None:
  names = list(c.reward.weights)
  closing.finish(
    c,
    opened,
    shown=[
      'valid_format',
      *[f'reward/{name}' for name in names],
      *[f'valid_only/{name}' for name in names],
      'redundancy',
      *['words/answer', 'words/think', 'tokens/trajectory', 'tokens/per_second'],
      *['learn/entropy', 'learn/loss', 'learn/logp_gap', 'seconds'],
      *evaluator.KEYS,
      *(referee.names(evaluator.MODES) if c.reward.heldout else ()),
    ],
    plots=[
      {'keys': [f'reward/{name}' for name in names], 'title': 'rewards, broken texts at the floor'},
      *(referee.plots(evaluator.MODES) if c.reward.heldout and c.eval.every else ()),
      {
        'keys': ['words/answer'],
        'band': ('words/lower', 'words/upper'),
        'title': 'words of valid answers, and the range',
      },
      {'keys': ['valid_format'], 'title': 'share of valid format'},
      {'keys': [f'valid_only/{name}' for name in names], 'title': 'rewards of valid texts'},
      {'keys': ['redundancy'], 'title': 'redundancy of valid answers'},
      *evaluation_report.plots(c),
      *refresh.plots(c),
      *judged.plots(c),
      *observer.PLOTS,
      *learner.plots(c),
      {'keys': ['tokens/per_second'], 'title': 'tokens written per second'},
    ],
    facts={'parameters': f'{qwen.num_params(config):,}', 'prompts': num_prompts}
    | adapters.facts(c, config)
    | evaluation_report.facts(c, opened.folder)
    | judged.facts(c),
    alarms=observer.tables(opened.folder),
    links=browser.links(opened.folder),
    answers=evaluate.samples(),
    maps=evaluation_report.heat_maps(opened.folder),
  )
