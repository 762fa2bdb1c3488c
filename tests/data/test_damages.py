"""Kinds of damage, and that no model learns from the kinds that another is tested with."""

import collections
import itertools
import re

import numpy as np
import pytest

from lwz import text as texts
from lwz.data import corpus, damages

TEXT = (
  'Rivers carry water to the sea. Lakes keep it for years.\n\n'
  'Clouds bring all of it back to the hills. Snow waits there. Springs begin again.'
)
OTHER = 'Stars burn slowly. Planets turn around them. Moons follow. Comets come and go. Dust falls.'
ZH = '河流把水带到大海。湖泊把水留住多年。\n云把水带回山上，雪在那里等待。泉水重新开始。'
OTHER_ZH = '星星慢慢燃烧。行星绕着它们转。月亮跟随。彗星来了又走。尘埃落下。'


def rng(seed=0):
  return np.random.Generator(np.random.Philox(seed))


def sentences(text):
  return [text[start:end] for start, end in corpus.spans(text)]


@pytest.mark.parametrize('kind', damages.DAMAGES)
@pytest.mark.parametrize('text, other', [(TEXT, OTHER), (ZH, OTHER_ZH)], ids=['en', 'zh'])
def test_damage_changes_a_text_the_same_way_for_the_same_seed(kind, text, other):
  damage = damages.DAMAGES[kind]
  damaged = [damage(text, rng(seed), other) for seed in range(20)]
  assert damaged == [damage(text, rng(seed), other) for seed in range(20)]
  assert sum(one != text for one in damaged) >= 18  # a shuffle may be the identity
  assert len(set(damaged)) > 1
  assert all(one == one.strip() and one for one in damaged)


@pytest.mark.parametrize('text', [TEXT, ZH])
def test_shuffling_keeps_the_sentences_and_the_paragraphs(text):
  for seed in range(20):
    damaged = damages.shuffle(text, rng(seed), '')
    assert sorted(sentences(damaged)) == sorted(sentences(text))
    assert re.findall(r'\s+', damaged).count('\n\n') == text.count('\n\n')
    assert len(damaged) == len(text)


@pytest.mark.parametrize('text', [TEXT, ZH])
def test_repeating_keeps_the_length_and_adds_nothing(text):
  ratios = []
  for seed in range(20):
    damaged = damages.repeat(text, rng(seed), '')
    assert 0.75 < len(damaged) / len(text) < 1.25
    assert set(sentences(damaged)) <= set(sentences(text))
    assert max(collections.Counter(sentences(damaged)).values()) > 1
    ratios.append(len(damaged) / len(text))
  assert 0.95 < np.mean(ratios) < 1.05


@pytest.mark.parametrize('text', [TEXT, ZH])
def test_a_cut_text_breaks_off_inside_a_sentence(text):
  for seed in range(60):
    damaged = damages.cut(text, rng(seed), '')
    assert text.startswith(damaged)
    assert text[len(damaged)] not in '.。'
    assert 0.4 <= len(damaged) / len(text) <= 0.9
    assert sentences(damaged)[-1] not in sentences(text)


def test_replacing_keeps_the_frame_and_takes_words_of_the_other():
  words = re.compile(r'[^\W\d_]+')
  shares = []
  for seed in range(50):
    damaged = damages.replace(TEXT, rng(seed), OTHER)
    assert words.sub('', damaged) == words.sub('', TEXT)
    pairs = list(zip(words.findall(TEXT), words.findall(damaged), strict=True))
    assert all(new == old or new in OTHER for old, new in pairs)
    shares.append(np.mean([new != old for old, new in pairs]))
  assert 0.25 < np.mean(shares) < 0.35


def test_mixing_takes_every_second_sentence_of_the_other():
  for seed in range(20):
    ours = [one in sentences(TEXT) for one in sentences(damages.mix(TEXT, rng(seed), OTHER))]
    assert ours in ([True, False, True, False, True], [False, True, False, True, False])


@pytest.mark.parametrize('kind', ['shuffle', 'repeat', 'mix'])
def test_one_sentence_has_no_order_to_damage(kind):
  assert damages.DAMAGES[kind]('One sentence alone.', rng(), OTHER) == 'One sentence alone.'


def test_the_three_groups_share_nothing():
  groups = damages.TRAINED, damages.REFEREE, damages.UNSEEN
  assert sorted(sum(groups, ())) == sorted(damages.DAMAGES)


def words(text):
  return re.findall(r'\w+', text.lower())


@pytest.mark.parametrize('kind', ['marks', 'swap', 'alphabet'])
def test_these_keep_the_words(kind):
  for seed in range(20):
    assert sorted(words(damages.DAMAGES[kind](TEXT, rng(seed), OTHER))) == sorted(words(TEXT))


def test_dropping_takes_little_words_alone():
  for seed in range(20):
    left = collections.Counter(words(damages.drop(TEXT, rng(seed), OTHER)))
    lost = collections.Counter(words(TEXT)) - left
    assert lost and set(lost) <= texts.STOP_WORDS and left <= collections.Counter(words(TEXT))


def test_a_chain_has_only_neighbours_of_the_two_texts():
  both = f'{TEXT} {OTHER}'.split()
  known = set(itertools.pairwise(both)) | {(both[-1], word) for word in both}
  made = damages.chain(TEXT, rng(3), OTHER).split()
  assert len(made) == len(TEXT.split())
  assert set(itertools.pairwise(made)) <= known


def test_stuffing_adds_one_word_many_times():
  for seed in range(20):
    more = collections.Counter(words(damages.stuff(TEXT, rng(seed), OTHER)))
    more -= collections.Counter(words(TEXT))
    assert len(more) <= 1


def test_misspelling_changes_a_letter_inside_some_words():
  shares = []
  for seed in range(50):
    pairs = list(zip(words(TEXT), words(damages.misspell(TEXT, rng(seed), '')), strict=True))
    wrong = [(old, new) for old, new in pairs if new != old]
    for old, new in wrong:
      assert len(old) > 3 and abs(len(new) - len(old)) <= 1 and set(new) <= set(old)
    shares.append(len(wrong) / sum(len(old) > 3 for old, _ in pairs))
  assert min(shares) > 0 and 0.15 < np.mean(shares) < 0.35


def test_chinese_is_misspelt_by_the_order_of_characters_alone():
  made = damages.misspell(ZH, rng(1), '')
  assert made != ZH and sorted(made) == sorted(ZH) and len(sentences(made)) == len(sentences(ZH))


def test_glue_says_nothing():
  assert set(words(damages.glue(TEXT, rng(), OTHER))) <= texts.STOP_WORDS


def test_echo_repeats_neighbouring_phrases():
  made = damages.echo(TEXT, rng(1), OTHER).split()
  assert any(made[i : i + n] == made[i + n : i + 2 * n] for n in range(3, 7) for i in range(9))


def test_a_frame_opens_every_sentence():
  made = damages.frame(TEXT, rng(1), OTHER)
  opening = ' '.join(TEXT.split()[:3])
  assert made.count(opening) >= 3
