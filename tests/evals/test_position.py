"""Windows cover a text, and a fall is found where it was planted, in English and Chinese."""

import math

import numpy as np
import pytest

from lwz import text as texts
from lwz.evals import position
from lwz.reward import redundancy
from tests import prose

TEXTS = {'en': prose.ENGLISH, 'zh': prose.CHINESE}


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_windows_are_whole_sentences_and_cover_every_word(text):
  found = position.windows(text, size=200, most=100)
  assert len(found) == round(len(texts.words(text)) / 200)
  assert [w.before for w in found] == [0, *np.cumsum([w.words for w in found])[:-1]]
  assert sum(w.words for w in found) == len(texts.words(text))
  assert [texts.words(w.text) for w in found] == [texts.words(text[w.start : w.end]) for w in found]
  assert all(w.text == text[w.start : w.end] and 100 < w.words < 300 for w in found)
  ends = [sentence[-1] for sentence in texts.sentences(text)]
  assert all(w.text[-1] in ends for w in found)


def test_of_many_windows_some_are_taken_with_both_ends():
  text = ' '.join(f'Sentence {i} has five words.' for i in range(1_000))
  found = position.windows(text, size=50, most=7)
  assert len(found) == 7 and found[0].start == 0 and found[-1].end == len(text)
  gaps = np.diff([w.before for w in found])
  assert gaps.max() - gaps.min() <= 50
  assert position.windows('', 50, 7) == position.windows(' ...\n', 50, 7) == []


def test_a_sentence_without_an_end_is_cut():
  text = 'and so on ' * 1_000
  found = position.windows(text, size=100, most=100)
  assert len(found) == 30 and all(w.words == 100 for w in found)


def test_sections_begin_at_headings():
  text = 'Preface here.\n\n# One\n\na b c\n\n## Two\n\nd e'
  found = position.sections(text)
  assert [(w.before, w.words) for w in found] == [(2, 4), (6, 3)]
  assert [w.text.split()[0] for w in position.sections('第一章 始\n甲\n第二章 末\n乙\n')] == [
    '第一章',
    '第二章',
  ]
  assert position.sections('# Only one\n\ntext') == []
  assert len(position.sections('Chapter One\na\nPart II: b\nc\nDay twenty-two\nd')) == 3
  assert len(position.sections('**The storm**\n\na\n\n**After it**\n\nb **not** c\n')) == 2
  assert len(position.sections('一、风暴\n甲，乙。\n二、之后\n一、二、三都在，没有人走。\n')) == 2
  assert position.sections('Part of it burned.\nDay after day it rained.\nWeek in, week out.') == []


def test_a_measure_may_have_finer_windows_and_more_of_them():
  text = ' '.join(f'Sentence {i} has five words.' for i in range(1_000))
  fine = position.Measure(position.each(len), 1, 'characters', part=0.5)
  found = position.cut(text, fine, size=50, most=30)
  assert len(found) == 60 and all(20 <= window.words <= 30 for window in found)
  scored = position.score(text, fine, size=50, most=30)
  assert scored.value_W.tolist() == [len(window.text) for window in found]
  sections = position.Measure(position.each(len), 1, 'characters', 'sections', part=0.5)
  assert position.cut('# A\n\nb\n\n# C\n\nd', sections) == position.sections('# A\n\nb\n\n# C\n\nd')


def test_repetition_of_a_window_is_that_of_its_sentences_after_all_before():
  first = prose.ENGLISH
  counts = redundancy.profile(first + '\n\n' + first)
  half = counts[:, 0] >= len(first)
  assert counts[half, 1].sum() > 0.95 * counts[half, 2].sum()
  assert counts[~half, 1].sum() < 0.05 * counts[~half, 2].sum()
  assert redundancy.share(first) == pytest.approx(
    redundancy.profile(first)[:, 1].sum() / redundancy.profile(first)[:, 2].sum()
  )
  assert all(first[at] == first[at].strip() for at, _, _ in redundancy.profile(first))


def scored(*values):
  """One text with equal windows."""
  at = (np.arange(len(values)) + 0.5) / len(values)
  return position.Scored(at, np.array(values, float))


def test_a_curve_is_a_mean_over_windows_with_an_interval_over_texts():
  of = {0: scored(1, 1, 2, 2), 1: scored(3, 3, 4, np.nan)}
  low, high = position.curve(of, 0, parts=2)
  assert (low.at, low.mean, low.num) == (0.25, 2.0, 4)
  assert high.mean == pytest.approx((2 + 2 + 4) / 3) and high.num == 3
  assert low.low == 1.0 and low.high == 3.0  # a bootstrap of two texts has both alone
  (alone,) = position.curve({0: scored(1, 2)}, 0, parts=1)
  assert alone.mean == 1.5 and math.isnan(alone.low)
  assert position.curve({0: scored(np.nan)}, 0) == []


def test_a_fall_is_positive_where_texts_become_worse():
  of = {0: scored(0.9, 0.9, 0.5, 0.1), 1: scored(0.8, 0.7, 0.6, 0.4), 2: scored(0.5)}
  found = position.fall(of, -1, seed=0)
  assert found.value == pytest.approx((0.8 + 0.4) / 2) and found.texts == 2
  assert found.low == pytest.approx(0.4) and found.high == pytest.approx(0.8)
  assert position.fall(of, 1, seed=0).value == pytest.approx(-0.6)
  nothing = position.fall({0: scored(1)}, 1, seed=0)
  assert nothing.texts == 0 and math.isnan(nothing.value)


def test_a_change_is_found_where_it_is_and_not_in_noise():
  rng = np.random.default_rng(0)
  noise = rng.normal(size=(100, 20)) * 0.1
  step = np.where(np.arange(20) >= 12, 1.0, 0.0)
  assert position.change(noise[0] + step, 1) == 12
  assert position.change(-noise[0] - step, -1) == 12
  assert position.change(noise[0] - step, 1) is None  # it becomes better
  gap = np.where(np.arange(20) == 5, np.nan, noise[0] + step)
  assert position.change(gap, 1) == 12
  alarms = sum(position.change(row, 1) is not None for row in noise)
  assert alarms <= 4  # LEVEL of them is expected
  assert position.change(noise[0] + step, 1, least=0.8) == 12
  assert position.change(noise[0] + step, 1, least=1.5) is None  # too small to matter
  assert position.change(np.ones(20), 1) is None and position.change(step[10:14], 1) is None
  half = np.repeat([0.0, 1.0], 5)  # 1 of C(10, 5) = 252 orders is as bad
  assert position.change(half, 1) == 5 and position.change(half[1:], 1) is None


def test_means_of_parts_are_those_of_the_curve():
  rng = np.random.default_rng(0)
  scored = {
    i: position.Scored(
      np.linspace(0.05, 0.95, 10), np.where(rng.random(10) < 0.2, np.nan, rng.random(10))
    )
    for i in range(5)
  }
  means = dict(zip((np.arange(4) + 0.5) / 4, position.means(scored.values(), 4), strict=True))
  for point in position.curve(scored, 0, 4):
    assert means[point.at] == pytest.approx(point.mean)
  assert np.isnan(position.means([position.Scored(np.array([0.1]), np.array([2.0]))], 2)[1])
