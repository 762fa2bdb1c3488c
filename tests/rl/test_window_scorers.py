"""Windows scored by models: a reward model per window, surprise in the text before it."""

import types

import numpy as np
import pytest

from experiments import base
from lwz.evals import position
from lwz.rl import window_scorers

TEXT = 'abcd. ' * 40


class Letters:
  """A tokenizer of letters."""

  def __call__(self, texts, **_):
    return {'input_ids': [[ord(char) for char in text] for text in texts]}


@pytest.fixture
def models(monkeypatch):
  """Models 'judge', with a scalar head, and 'writer', to whom each token is worth its letter."""
  config = {
    name: types.SimpleNamespace(scalar_head=name == 'judge', name=name, num_positions=256)
    for name in ('judge', 'writer')
  }
  seen = {'pairs': [], 'ids': []}
  setup = window_scorers.setup
  monkeypatch.setattr(setup, 'reference', lambda c, source: source)
  monkeypatch.setattr(setup, 'computed', lambda c, config: config)
  monkeypatch.setattr(setup, 'mesh', lambda c: None)
  monkeypatch.setattr(setup, 'pass_rows', lambda c, mesh, rows: 2)
  monkeypatch.setattr(setup, 'load_params', lambda *args: None)
  monkeypatch.setattr(window_scorers.model_source, 'config', config.__getitem__)
  monkeypatch.setattr(window_scorers.systems, 'name', lambda c, source: source)
  monkeypatch.setattr(window_scorers.tokenizers, 'load', lambda folder: Letters())

  def score(pairs):
    seen['pairs'] += pairs
    return np.arange(len(pairs)) / 10

  def logprob(params, rows):
    ids_NT = np.asarray(rows['ids'])
    seen['ids'].append(ids_NT)
    return -np.roll(ids_NT, -1, axis=1).astype(float)

  program = types.SimpleNamespace(jit=lambda: logprob)
  monkeypatch.setattr(window_scorers.registry, 'OwnScorer', lambda *args: score)
  monkeypatch.setattr(
    window_scorers.language_model, 'token_logprob', lambda *args, **kwargs: program
  )
  return seen


def made(row_length=128):
  c = base.get_config('micro')
  c.eval.scorers, c.data.row_length = ('judge', 'writer'), row_length
  return window_scorers.measures(c)


def test_a_reward_model_scores_each_window_as_an_answer(models):
  measure = made()['reward judge']
  found = position.score(TEXT, measure, size=10, request='Write letters')
  assert measure.worse == -1 and found.value_W == pytest.approx(np.arange(4) / 10)
  assert [prompt for prompt, _ in models['pairs']] == ['Write letters'] * 4
  assert ' '.join(text for _, text in models['pairs']) == TEXT.strip()


@pytest.mark.parametrize('row_length', [512, 128])
def test_surprise_is_of_the_window_alone_after_what_stood_before(models, row_length):
  measure = made(row_length)['surprise writer']
  windows = position.windows(TEXT, size=10)
  values = measure.of(TEXT, windows, 'Write letters')
  means = [np.mean([ord(char) for char in window.text]) for window in windows]
  assert measure.worse == 1 and values == pytest.approx(means)
  said = [''.join(map(chr, row)) for rows in models['ids'] for row in rows]
  assert any('Write letters\n\nabcd.' in row for row in said)
  assert all(len(row) == min(row_length, 256) for row in said)  # of the model's positions


def test_a_reward_model_without_a_scale_is_told_before_any_work(monkeypatch, models):
  def scale(c, source):
    raise ValueError(f'{source} has no measured scale')

  monkeypatch.setattr(window_scorers.registry, 'scale', scale)
  c = base.get_config('micro')
  c.eval.scorers = ('writer', 'reward_model:micro')  # the second is a run to come
  window_scorers.check(c)
  c.eval.scorers = ('writer', 'judge')
  with pytest.raises(ValueError, match='judge has no measured scale'):
    window_scorers.check(c)
