"""The writing reward model learns from the policy's recent texts, every `reward.refresh` steps.

A policy moves to texts that its reward model never saw, and finds what that pays for by mistake. At
step N, 2N, ...:

  1. pair the valid answers of the last N steps with the passages of their titles  store.rollouts
  2. go on from the reward model of now, each batch half such pairs and half the
     pairs of the first one, which it would forget                                  programs
  3. measure mean and spread of its scores again, on the first one's held-out pairs
  4. keep it in reward_models/step-000020; from now on it gives the writing reward

All of it follows from what the run's folder holds, so a resumed run is the same bit for bit. The
first reward model scores every batch beside the one of now: `refresh/first`.
"""

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from etils import epath

from lwz import types
from lwz.data import corpus, epochs, formatted, preferences
from lwz.model import qwen
from lwz.programs import language_model, program, reward_model
from lwz.reward import components
from lwz.rl import registry, resume, sampling, scoring
from lwz.runtime import preference_pairs, setup, sources, trainer
from lwz.store import atomic, model_source, run
from lwz.store.hf import checkpoint as hf

READS = (
  *setup.PROMPTS,
  *('data.long', 'data.row_length', 'data.style', 'reward', 'rl', 'seed', 'train.micro_rows'),
  *('train.num_steps', 'train.offload', 'train.remat'),
)

FOLDER, SOURCE = 'reward_models', 'policy'
NUM_TESTED = 400  # held-out pairs that give the new scale; of the policy's as many are tested
TITLE = 'writing reward of valid answers, by the refreshed and by the first reward model'


def check(c) -> None:
  """Raises ValueError if the reward model cannot be refreshed."""
  every, value = c.reward.refresh, c.reward.model
  if not every:
    return
  begin = f'reward.refresh={every}: '
  ours = setup.is_experiment(value) or (
    not registry.is_server(value) and model_source.is_run(value)
  )
  if not ours or 'writing' not in c.reward.weights or not c.reward.weights.writing:
    raise ValueError(
      f'{begin}reward.model={value} is no reward model that a run here trained and that gives the '
      'writing reward: name such a run, or set reward.refresh=0'
    )
  if c.data.prompts:
    raise ValueError(
      f'{begin}the prompts of data.prompts={c.data.prompts} have no passages to set against the '
      "policy's answers; set reward.refresh=0, or leave data.prompts empty"
    )
  if jax.process_count() > 1 or atomic.is_remote(c.runs_dir):
    raise ValueError(
      f'{begin}only a run of one process, with a runs_dir on a local disk, can do that; set '
      'reward.refresh=0'
    )
  reward_model.max_micro(c.reward.refresh_pairs, _shape(c, setup.mesh(c)).num_rows)


def programs(c, config: qwen.QwenConfig, mesh: jax.sharding.Mesh) -> dict[str, program.Program]:
  """Returns the training step of the reward model, if it is refreshed."""
  if not c.reward.refresh:
    return {}
  step = reward_model.train_step(
    config,
    _rule(c, config),
    _shape(c, mesh),
    num_pairs=c.reward.refresh_pairs,
    remat=c.train.remat,
    offload=c.train.offload,
    mesh=mesh,
  )
  return {'refresh': step}


def plots(c) -> list[dict[str, Any]]:
  """Returns the plots of refreshed reward models, as arguments of `curves.draw`."""
  if not c.reward.refresh:
    return []
  return [
    {'keys': ['valid_only/writing', 'refresh/first'], 'title': TITLE},
    {
      'keys': ['refresh/before', 'refresh/after', 'refresh/heldout'],
      'title': "accuracy on the policy's pairs, before and after a refresh, and on the first ones",
    },
  ]


def _rule(c, config: qwen.QwenConfig) -> optax.GradientTransformation:
  return trainer.update_rule(c, config, optax.constant_schedule(c.reward.refresh_rate))


def _shape(c, mesh: jax.sharding.Mesh) -> language_model.RowShape:
  num_rows = setup.pass_rows(c, mesh, 2 * c.reward.refresh_pairs)
  return language_model.RowShape(num_rows, c.data.row_length)


class Refresher:
  """The reward model of now, and its predecessors in the run's folder.

  A run that stands at step `start` goes on with the last one made before it; should that be missing
  it is made again, from the archive. Without `reward.refresh` nothing is done.
  """

  def __init__(
    self,
    c,
    mesh: jax.sharding.Mesh,
    step: program.Program | None,
    store: resume.BatchStore,
    decode: Callable,
    prompts: Sequence[types.Prompt],
    folder: epath.Path,
    start: int,
  ):
    self._c, self._mesh, self._store, self._decode = c, mesh, store, decode
    self._prompts, self._folder = prompts, folder / FOLDER
    if step is None:
      return
    self._step_fn = step.jit()
    self._first = registry.OwnScorer(c, mesh, c.reward.model)
    self._now = copy.copy(self._first)
    source = epath.Path(setup.reference(c, c.reward.model))
    config = ml_collections.ConfigDict(run.Run(source).config)
    train, heldout = preference_pairs.of_run(source, config)
    self._known = self._texts(train)
    self._heldout = self._encoded(preference_pairs.sampled(heldout, NUM_TESTED))
    # The referee has the requests of the other share.
    data = {'share_from': 0.0, 'share_to': 1.0} | config.data.to_dict()  # older runs have neither
    share = data['share_from'], data['share_to']
    openings = [*corpus.openings(sources.heldout(c)[0], c.data.lower, c.data.upper)]
    passages = ((formatted.request(document, text), text) for document, text in reversed(openings))
    self._passages = {asked: text for asked, text in passages if preferences.is_in(asked, share)}
    due = min(start, c.train.num_steps - 1) // c.reward.refresh * c.reward.refresh
    if due and not self._target(due).exists():
      self._make(due, lambda: None)
    self._now.take(self._newest(start + 1))

  def rewards(self, given: registry.Given) -> registry.Given:
    """Returns the writing reward by the model of now, beside the rewards that are given."""
    c = self._c
    if not c.reward.refresh:
      return given
    models = (c.reward.model, *c.reward.ensemble)
    known = {c.reward.model: self._now}
    return {'writing': registry.writing_by(c, self._mesh, models, known), **(given or {})}

  def step(
    self, loop: trainer.Trainer, step: int, samples: Sequence[components.Sample]
  ) -> dict[str, float]:
    """Returns the metrics of an archived batch; makes a new model if the next step is to have one.

    It comes before the policy's update, so that the run may be stopped meanwhile.
    """
    every = self._c.reward.refresh
    if not every:
      return {}
    valid = [(s.prompt.text, s.parsed.answer) for s in samples if s.parsed.valid]
    measured = {'refresh/first': float(np.nanmean(self._first(valid))) if valid else float('nan')}

    def beat():
      loop.lap('refresh')
      loop.stop_if_asked()

    if (step + 1) % every == 0 and step + 1 < self._c.train.num_steps:
      measured |= self._make(step + 1, beat)
    beat()
    return measured

  def _make(self, number: int, beat: Callable[[], None]) -> dict[str, float]:
    """Makes the reward model of a step and takes it; returns how good it is."""
    c, config, target = self._c, self._first.config, self._target(number)
    pairs = self._pairs(range(number - c.reward.refresh, number))
    fresh, tests = self._texts(pairs), self._encoded(preference_pairs.sampled(pairs, NUM_TESTED))
    if not fresh:
      atomic.remove(target)
      return {'refresh/pairs': 0.0}
    source = setup.reference(c, self._newest(number))
    masters = setup.load_params(c, source, config, self._mesh, dtype=jnp.float32)
    before = self._scores(masters, tests)
    state = trainer.begin_from(c, config, _rule(c, config), self._mesh, masters)
    for step in range(c.reward.refresh_steps):
      num = c.reward.refresh_pairs // 2
      batch = self._batch(fresh, number, step, num)
      batch += self._batch(self._known, number, step, c.reward.refresh_pairs - num)
      texts, margins = zip(*batch, strict=True)
      arrays, num_micro = reward_model.minibatch(texts, margins, _shape(c, self._mesh))
      state, _ = self._step_fn(state, arrays, num_micro)
      jax.block_until_ready(state.step)
      beat()
    after, heldout = (self._scores(state.params, found) for found in (tests, self._heldout))
    scale = {'mean': float(heldout.mean()), 'std': float(heldout.std())}
    with atomic.folder(target) as draft:
      hf.save(draft, config, state.params, self._first.tokenizer)
      (draft / registry.SCALE).write_text(json.dumps(scale) + '\n')
    self._now.take(str(target))
    found = {'before': before, 'after': after, 'heldout': heldout}
    accuracy = {f'refresh/{k}': float(np.mean(s[:, 0] > s[:, 1])) for k, s in found.items()}
    return accuracy | {'refresh/pairs': float(len(pairs))}

  def _pairs(self, steps: range) -> list[types.Preference]:
    """Returns a pair for each valid answer in the first batches of those steps."""
    c, found = self._c, []
    for number in (sampling.batch_numbers(c, step)[0] for step in steps):
      rollout = self._store.rollout(number)
      if rollout is None:
        raise FileNotFoundError(
          f'{self._folder.parent / "rollouts"}: batch {number} is missing, and reward.refresh '
          'needs it; begin the run anew'
        )
      chosen = sampling.take(c, self._prompts, number)
      for sample in scoring.samples(c, self._decode, chosen, rollout):
        asked, answer = sample.prompt.text, sample.parsed.answer
        passage = self._passages.get(asked, '')
        if sample.parsed.valid and passage and answer != passage:
          found.append(types.Preference(asked, passage, answer, SOURCE))
    return found

  def _batch(self, texts: Sequence, number: int, step: int, num: int) -> list:
    def rng(epoch: int) -> np.random.Generator:
      return np.random.default_rng((self._c.seed, number, epoch))

    return [texts[i] for i in epochs.take(len(texts), step, num, rng)]

  def _encoded(self, pairs: list[types.Preference]):
    return preference_pairs.encoded(self._c, self._first.tokenizer, pairs, drop=True)[1]

  def _texts(self, pairs: list[types.Preference]) -> list:
    return preference_pairs.texts(self._c, self._first.tokenizer, pairs, drop=True)

  def _scores(self, params: qwen.Params, pairs: Sequence) -> np.ndarray:
    cast = jax.tree.map(lambda leaf: leaf.astype(self._first.config.dtype), params)
    return preference_pairs.scores(self._first.score_fn, cast, pairs, self._first.shape)

  def _target(self, number: int) -> epath.Path:
    return self._folder / f'step-{number:06d}'

  def _newest(self, before: int) -> str:
    """Returns the last model made for a step below `before`, or the first one."""
    every = self._c.reward.refresh
    made = [self._target(number) for number in range(every, before, every)]
    return str(next((path for path in reversed(made) if path.exists()), self._c.reward.model))
