"""The writing reward model: Bradley-Terry on preference pairs (Eq. 4).

Pairs come from a JSONL file, or are made by damaging passages of the corpus and written to one. One
step:

  1. take a batch of pairs, both sides of each packed into the same rows      data, rows
  2. one optimiser step on - log sigmoid(r(chosen) - r(rejected))             programs.reward_model
  3. record, and save

At the end: accuracy on held-out pairs, by source; mean and spread of the scores, which give the
writing reward its scale.
"""

import dataclasses

import jax
import numpy as np

from lwz import rows as rows_lib
from lwz import types
from lwz.data import corpus, preferences, templates, tokenizer
from lwz.model import qwen
from lwz.programs import program, reward_model
from lwz.reward import length
from lwz.stages import prepare, training


def check(c) -> None:
  prepare.check(c, ['init'])
  prepare.check_mesh(c, ['init'])
  if c.data.preferences and not all(_from_file(c)[:2]):
    raise ValueError(
      f'{c.data.preferences}: too few pairs: some must be left to train on, and a share of '
      f'data.heldout={c.data.heldout} of the requests to test with'
    )


def run(c) -> None:
  opened = prepare.open_run(c)
  train, heldout = _pairs(c, opened.folder)
  tok = prepare.load_tokenizer(c, opened.folder)
  config = prepare.model_config(c, opened.folder, len(tok), scalar_head=True)
  train, texts = _encoded(c, tok, train)
  heldout, tests = _encoded(c, tok, heldout)

  mesh = prepare.mesh(c)
  loop = training.Training(c, opened, config, mesh)
  compiled = programs(c, {'policy': config}, mesh)
  step_fn, score_fn = compiled['reward_model'].jit(), compiled['score'].jit()

  def evaluate(params) -> np.ndarray:
    flat = [ids for pair in tests for ids in pair]
    return reward_model.score_all(score_fn, params, flat, **_shape(c)).reshape(-1, 2)

  state = loop.state
  for step in loop:
    measured = {}
    if step % c.eval.every == 0 or step + 1 == c.train.num_steps:
      scores_B2 = evaluate(state.params)
      measured = {'heldout/accuracy': np.mean(scores_B2[:, 0] > scores_B2[:, 1])}
    batch = _take(len(texts), step, c.train.rows, c.seed)
    state, values = step_fn(state, *_batch([texts[i] for i in batch], c.data.row_length))
    loop.record(step, state, jax.device_get(values) | measured, show=('loss', 'accuracy'))

  scores_B2 = evaluate(state.params)
  table = _accuracies(scores_B2, [pair.source for pair in heldout])
  prepare.finish(
    c,
    opened,
    keys=['loss', 'accuracy', 'margin', 'heldout/accuracy', 'grad_norm'],
    pictures=[
      {'keys': ['loss'], 'title': 'Bradley-Terry loss', 'unit': 'nats per pair'},
      {'keys': ['accuracy', 'heldout/accuracy'], 'title': 'accuracy'},
      {'keys': ['margin'], 'title': 'r(chosen) - r(rejected)'},
    ],
    facts={'pairs': len(train), 'held-out pairs': len(heldout)},
    tables=[('held-out accuracy by source', ('source', 'pairs', 'accuracy'), table)],
    result={
      'mean': float(scores_B2.mean()),
      'std': float(scores_B2.std()),
      'heldout_by_source': {source: accuracy for source, _, accuracy in table},
    },
  )
  for source, num, accuracy in table:
    print(f'  held-out accuracy, {source}: {accuracy:.3f} of {num} pairs')


def models(c) -> dict[str, qwen.QwenConfig]:
  """The model of a run as its config promises it."""
  return {'policy': dataclasses.replace(prepare.expected(c, c.init), scalar_head=True)}


def programs(
  c, models: dict[str, qwen.QwenConfig], mesh: jax.sharding.Mesh
) -> dict[str, program.Program]:
  """What a run compiles: the training step, and scoring of held-out pairs."""
  train = reward_model.train_step(
    models['policy'],
    training.adamw(c),
    num_pairs=c.train.rows,
    remat=c.train.remat,
    mesh=mesh,
    **_shape(c),
  )
  return {
    'reward_model': train,
    'score': reward_model.score(models['policy'], mesh=mesh, **_shape(c)),
  }


def _shape(c) -> dict[str, int]:
  return {'row_length': c.data.row_length, 'num_rows': 2 * c.train.rows}


def _pairs(c, folder) -> tuple[list[types.Preference], list[types.Preference]]:
  """Training and held-out pairs; no request is on both sides."""
  if c.data.preferences:
    train, heldout, num_skipped = _from_file(c)
    if num_skipped:
      print(f'{c.data.preferences}: {num_skipped} unreadable lines skipped')
    return train, heldout
  parts = []
  for name, documents in zip(('train', 'heldout'), prepare.documents(c), strict=True):
    path = folder / f'preferences-{name}.jsonl'
    made = preferences.from_documents(
      documents,
      lower=c.data.lower,
      upper=c.data.upper,
      seed=c.seed,
      count_words=length.count_words,
    )
    preferences.save(path, made)
    parts.append(preferences.load(path)[0])
  return parts[0], parts[1]


def _from_file(c) -> tuple[list[types.Preference], list[types.Preference], int]:
  """Training pairs, held-out pairs, and how many lines of the file were skipped."""
  found, num_skipped = preferences.load(c.data.preferences, skip_broken=c.data.skip_broken)
  held = [corpus.fraction(pair.prompt, 'heldout') < c.data.heldout for pair in found]
  train = [pair for pair, out in zip(found, held, strict=True) if not out]
  return train, [pair for pair, out in zip(found, held, strict=True) if out], num_skipped


def _encoded(c, tok, pairs: list[types.Preference]) -> tuple[list, list]:
  """The pairs that fit a row, and their (chosen, rejected) ids. Nothing is truncated.

  A pair of a user's file that is too long is refused; of those made here it is left out.
  """
  sides = [
    tokenizer.encode(tok, [templates.judged(p.prompt, getattr(p, side)) for p in pairs], end=True)
    for side in ('chosen', 'rejected')
  ]
  kept, texts = [], []
  for pair, ids in zip(pairs, zip(*sides, strict=True), strict=True):
    size = max(map(len, ids))
    if size <= c.data.row_length:
      kept.append(pair)
      texts.append(ids)
    elif c.data.preferences:
      raise ValueError(
        f'{c.data.preferences}: the pair for {pair.prompt[:60]!r} has {size} tokens, '
        f'more than data.row_length={c.data.row_length}: raise it, or drop the pair'
      )
  if not kept:
    raise ValueError('no preference pair is left to train on or to test with')
  return kept, texts


def _take(num_pairs: int, step: int, num: int, seed: int) -> list[int]:
  """The pairs of a step: a new permutation in each epoch, a pure function of its arguments."""
  chosen = []
  for i in range(step * num, (step + 1) * num):
    epoch, place = divmod(i, num_pairs)
    chosen.append(int(np.random.default_rng((seed, epoch)).permutation(num_pairs)[place]))
  return chosen


def _batch(pairs, row_length: int) -> tuple[dict, np.ndarray, np.ndarray]:
  """Packed rows of all chosen, then all rejected texts, and where each one's last token stands."""
  texts = [ids for side in zip(*pairs, strict=True) for ids in side]
  needed = len(rows_lib.first_fit_decreasing([len(t) for t in texts], row_length))
  rows = rows_lib.lay(texts, row_length=row_length, num_rows=rows_lib.bucket(needed, 8))
  last = rows.offset + np.array([len(t) for t in texts], np.int32) - 1
  return reward_model.as_dict(rows), rows.row, last


def _accuracies(scores_B2: np.ndarray, sources: list[str]) -> list[tuple[str, int, float]]:
  """(source, pairs, share with r(chosen) > r(rejected)), over all first."""
  right = scores_B2[:, 0] > scores_B2[:, 1]
  names = np.array(sources)
  table = [('all', len(right), float(right.mean()))]
  for source in sorted(set(sources)):
    table.append((source, int((names == source).sum()), float(right[names == source].mean())))
  return table
