"""The referee: its comparison with step 0, its log-probabilities, and what it refuses to count."""

import json
import types as std_types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.evals import position
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.programs import language_model
from lwz.rl import referee

PROSE = 'The sea is wide and the sky is high. ' * 6


def judge(tmp_path, scores, logp=None):
  """A referee whose models are tables: text -> score, text -> log-probability."""
  tmp_path.mkdir(exist_ok=True)
  made = object.__new__(referee.Referee)
  made._start = tmp_path / 'start.json'
  made._scorer = lambda pairs: np.array([scores[text] for _, text in pairs])
  by = logp or scores
  made.logprobs = lambda answers: [np.array([by[a.text]] if a.text else []) for a in answers]
  made._corpus, made._vocabulary = {'referee': 0.9}, frozenset()
  return made


def answers(*texts):
  return [referee.Answer(f'request {i}', text) for i, text in enumerate(texts)]


def measured(made, *texts):
  given = answers(*texts)
  return made.measure({'greedy': given}, {'greedy': made.scores(given, made.logprobs(given))})


def test_now_is_compared_with_step_0_on_the_same_prompts(tmp_path):
  made = judge(tmp_path, {'a': 0.2, 'b': 0.6, 'c': 0.6, 'd': 0.1})
  first = measured(made, 'a', 'b', 'c', '')
  assert first['eval/referee_win_rate/greedy'] == 0.5  # with itself
  assert first['eval/referee_pairs/greedy'] == 3
  now = measured(made, 'b', 'c', 'd', 'a')  # better, equal, worse; the last had no answer before
  assert now['eval/referee_win_rate/greedy'] == pytest.approx(0.5)
  better = measured(made, 'b', '', 'c', 'a')
  assert better['eval/referee_pairs/greedy'] == 2
  assert better['eval/referee_win_rate/greedy'] == pytest.approx(0.75)


def test_a_resumed_run_still_knows_step_0(tmp_path):
  scores = {'a': 0.2, 'b': 0.6}
  measured(judge(tmp_path, scores), 'a', '')
  again = measured(judge(tmp_path, scores), 'b', 'b')
  assert again['eval/referee_win_rate/greedy'] == 1.0 and again['eval/referee_pairs/greedy'] == 1
  assert json.loads((tmp_path / 'start.json').read_text()) == {'greedy': {'request 0': 0.2}}


def test_broken_answers_count_nowhere(tmp_path):
  found = measured(judge(tmp_path, {'a': 0.2}, {'a': -3.0}), 'a', '', '')
  assert found['eval/referee/greedy'] == pytest.approx(0.2)
  assert found['eval/logp/greedy'] == pytest.approx(-3.0)
  none = measured(judge(tmp_path / 'other', {}), '', '')
  assert np.isnan(none['eval/referee/greedy']) and np.isnan(none['eval/referee_win_rate/greedy'])
  assert set(found) <= set(referee.names(['greedy']))


def test_scores_and_surprise_inside_sound_answers(tmp_path):
  made = judge(tmp_path, {})
  made._scorer = lambda pairs: np.array([len(text) for _, text in pairs])
  text = 'One two three four. Five six. Seven eight nine ten eleven.'
  found = made.within(answers('', text, 'Short.'), [-np.arange(1.0, 5.0)] * 3, 4)
  assert set(found['referee']) == set(found['surprise']) == {1, 2}
  windows = position.windows(text, 4)
  assert found['referee'][1].value_W.tolist() == [len(window.text) for window in windows]
  assert (np.diff(found['referee'][1].at_W) > 0).all() and found['referee'][1].at_W[-1] < 1
  assert found['referee'][2].value_W.tolist() == [len('Short.')]
  assert found['surprise'][1].at_W.tolist() == [0.125, 0.375, 0.625, 0.875]
  assert found['surprise'][1].value_W.tolist() == [1, 2, 3, 4]
  assert made.within(answers(''), [np.zeros(0)], 4) == {'referee': {}, 'surprise': {}}


def test_style_of_prose_and_of_noise():
  prose, noise = referee.style(PROSE), referee.style('the; of; a. the; is an; of the. ' * 6)
  assert prose['disorder'] == 0.0 < 1.0 < noise['disorder']
  assert prose['marks'] == pytest.approx(1 / 9) and noise['marks'] > 0.5
  assert referee.style('one two three')['distinct'] == 1.0
  assert referee.style('one two one two')['distinct'] == pytest.approx(2 / 3)
  assert np.isnan(referee.style('')['marks'])
  assert referee.known('The river, the vocabularing.', {'the', 'river'}) == 0.75
  assert np.isnan(referee.known('', {'the'}))


def test_mean_logprob_equals_each_text_alone():
  config = config_lib.preset('micro')
  params = qwen.init(jax.random.key(0), config)
  shape = language_model.RowShape(2, 16)
  texts = [[5, 6, 7, 8, 9], [4, 3, 2], [1] * 17, [9, 8, 7, 6, 5, 4, 3]]
  heads = [2, 3, 1, 1]
  fn = language_model.token_logprob(config, shape, chunk=8).jit()
  found = language_model.mean_logprob(fn, params, texts, heads, shape)
  assert np.isnan(found[[1, 2]]).all()  # nothing behind the head; longer than a row
  for i in (0, 3):
    ids = jnp.array([texts[i]])
    hidden = qwen.forward(params, ids, config)
    logp = jax.nn.log_softmax(hidden @ qwen.head_weights(params, config))[0]
    each = [logp[t - 1, texts[i][t]] for t in range(heads[i], len(texts[i]))]
    np.testing.assert_allclose(found[i], np.mean(each), atol=1e-5)


def test_the_head_of_a_log_probability_is_the_request(monkeypatch):
  seen = {}

  class Tokenizer:
    def encode(self, text, **_):
      return [ord(x) for x in text]

    def __call__(self, texts, **_):
      return std_types.SimpleNamespace(input_ids=[[ord(x) for x in text] for text in texts])

  made = object.__new__(referee.Referee)
  made._tok, made._params, made._logprob, made._shape = Tokenizer(), None, None, None
  (prompt,) = referee.templates.prompt_ids(Tokenizer(), ['Ode'], 'direct', 'pocket')
  made._prompts = {'Ode': prompt}
  monkeypatch.setattr(
    referee.tokenizer, 'encode', lambda tok, texts, end: [tok.encode(text) for text in texts]
  )
  monkeypatch.setattr(
    referee.language_model,
    'logprobs',
    lambda fn, params, texts, heads, shape: seen.update(texts=texts, heads=heads) or [-np.ones(3)],
  )
  found = made.logprobs([referee.Answer('Ode', ''), referee.Answer('Ode', 'Sea.')])
  assert list(map(len, found)) == [0, 3] and not made.logprobs([referee.Answer('Ode', '')])[0].size
  (text,), (head,) = seen['texts'], seen['heads']
  whole = ''.join(map(chr, text))
  assert 'Ode' in whole[:head] and whole[:head].endswith('<answer>') and whole[head:] == 'Sea.'


def test_the_outcome_counts_a_broken_answer_as_nothing():
  np.testing.assert_array_equal(referee.outcome(np.array([0.5, np.nan, 1.0])), [0.5, 0.0, 1.0])
