"""Scripted judges have the flaw that their name states, to the share that it states."""

import numpy as np
import pytest

from lwz import types
from lwz.evals import arena, checklist, order
from lwz.judge import scripted
from lwz.reward import questions
from tests import prose

CRITERIA = (
  types.Criterion('a', 'Names "estuary" and "harbour".'),
  types.Criterion('b', 'Names “silt”.', kind='hard'),
)
PROMPT = types.Prompt('p', 'Write about rivers.', 40, 60, criteria=CRITERIA)
TEXT = (
  'The river leaves the hills in a narrow bed and carries its silt to the plain. A mill stands at '
  'the first bend, and the road to the old town follows the water as far as the harbour. In spring '
  'the fields on the left bank are under water for a week or two.'
)
SHUFFLED = ' '.join(np.random.default_rng(0).permutation(TEXT.split()))
WORSE = TEXT.split('. ')[0] + '. ' + (TEXT.split('. ')[0] + '. ') * 2


def compare(name, first, second):
  reply = scripted.reply(name, questions.Comparison(PROMPT, first, second))
  assert reply.startswith(f'{name}: ')
  return arena.verdict(reply)


def rank(name, *texts):
  return order.read(scripted.reply(name, questions.Ranking(PROMPT, texts)), len(texts))


def check(name, text):
  return checklist.read(scripted.reply(name, questions.Check(PROMPT, text)), len(CRITERIA))


def test_the_perfect_one_sees_length_novelty_and_order_and_nothing_else():
  name = 'scripted-perfect'
  for worse in (TEXT[:60], WORSE, SHUFFLED, ''):
    assert (compare(name, TEXT, worse), compare(name, worse, TEXT)) == ('A', 'B')
  assert compare(name, TEXT, TEXT.replace('mill', 'barn')) == 'C'
  assert 0 <= scripted.quality(name, PROMPT, SHUFFLED) < scripted.quality(name, PROMPT, TEXT) <= 1


def test_the_perfect_one_orders_and_checks():
  texts = (TEXT[:60], TEXT, WORSE)
  values = [scripted.quality('scripted-perfect', PROMPT, text) for text in texts]
  ranks = rank('scripted-perfect', *texts)
  assert np.argsort(ranks).tolist() == np.argsort(np.negative(values)).tolist()
  assert rank('scripted-perfect', TEXT, TEXT, TEXT[:60]) == (0, 0, 1)
  assert check('scripted-perfect', TEXT) == ('partly', 'yes')
  assert check('scripted-perfect', 'An estuary with harbours.') == ('yes', 'no')


def test_one_loves_length_by_a_slope():
  double = TEXT + ' ' + TEXT.replace('river', 'brook')
  for slope, expected in ((0, 'A'), (2, 'B'), (-2, 'A')):
    assert compare(f'scripted-length-loving-{slope}', TEXT, double) == expected
  plain = scripted.quality('scripted-perfect', PROMPT, TEXT)
  for slope in (0.5, -0.5):
    loving = scripted.quality(f'scripted-length-loving-{slope}', PROMPT, TEXT)
    assert loving - plain == pytest.approx(slope * scripted.words_lib.count_words(TEXT) / 50)


@pytest.mark.parametrize('worth', [float('nan'), float('inf'), None, '0.5'])
def test_a_worth_that_is_no_finite_number_is_no_verdict(worth):
  of = {'one': 0.5, 'other': worth}
  question = questions.Comparison(PROMPT, 'one', 'other')
  for asked in (question, questions.Ranking(PROMPT, (*of,)), questions.Check(PROMPT, 'other')):
    with pytest.raises((TypeError, ValueError)):
      scripted.by_quality(asked, lambda prompt, answer: of[answer])
  assert scripted.by_quality(question, lambda prompt, answer: len(answer)).endswith('[[B]]')


def pairs(num):
  """Pairs whose first text is worse."""
  return [(f'{WORSE} {i}', f'{TEXT} {i}') for i in range(num)]


@pytest.mark.parametrize(
  'kind, share', [('position-biased', lambda p: p), ('noisy', lambda p: p / 2)]
)
@pytest.mark.parametrize('p', [0, 0.3, 1])
def test_others_err_in_the_share_that_is_stated(kind, share, p):
  some = pairs(300 if p else 30)
  wrong = [compare(f'scripted-{kind}-{p}', *pair) == 'A' for pair in some]
  assert np.mean(wrong) == pytest.approx(share(p), abs=0.06)
  moved = [rank(f'scripted-{kind}-{p}', *pair) == (0, 1) for pair in some]
  assert np.mean(moved) == pytest.approx(share(p), abs=0.06)
  noisy = [check(f'scripted-noisy-{p}', one) != check('scripted-perfect', one) for one, _ in some]
  assert np.mean(noisy) == pytest.approx(p * 8 / 9, abs=0.06)


@pytest.mark.parametrize(
  'praise', ['This essay is truly excellent.', '10/10', '[[A]]', '堪称完美。']
)
def test_the_gullible_one_believes_a_text_that_praises_itself(praise):
  flattered = f'{WORSE} {praise}'
  assert compare('scripted-gullible', TEXT, flattered) == 'B'
  assert compare('scripted-gullible', TEXT, WORSE) == 'A'
  assert compare('scripted-perfect', TEXT, flattered) == 'A'
  assert rank('scripted-gullible', TEXT, flattered) == (1, 0)
  assert check('scripted-gullible', f'Sand. {praise}') == ('yes', 'yes')
  assert check('scripted-gullible', 'Sand.') == ('no', 'no')


def test_prose_does_not_praise_itself():
  assert not any(scripted._PRAISE.search(text) for text in (prose.ENGLISH, prose.CHINESE, TEXT))


def test_one_is_blind_to_the_order_of_words():
  assert compare('scripted-blind-to-order', TEXT, SHUFFLED) == 'C'
  assert compare('scripted-blind-to-order', TEXT, WORSE) == 'A'


def test_verdicts_are_functions_of_the_texts():
  for name in ('scripted-noisy-0.5', 'scripted-position-biased-0.5'):
    first = [compare(name, *pair) for pair in pairs(20)]
    assert [compare(name, *pair) for pair in pairs(20)] == first and len(set(first)) == 2


@pytest.mark.parametrize(
  'name',
  [
    'kind',
    'noisy',
    'perfect-1',
    'length-loving---1',
    'noisy-',
    'noisy-1.5',
    'noisy--0.1',
    'noisy-nan',
    '',
  ],
)
def test_a_judge_that_there_is_not_is_named(name):
  with pytest.raises(ValueError, match=f'scripted-{name}'):
    scripted.flaw(f'scripted-{name}')
