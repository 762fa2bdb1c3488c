"""Stop strings are found wherever blocks and tokens end, and cut at the first match."""

import numpy as np
import pytest

from lwz.rollout import stops


def spell(ids):
  """A tokenizer whose tokens are three letters long: 'abc', 'def', ..."""
  return ''.join(PIECES[i] for i in ids)


PIECES = ['ab', 'c<', '/x', '>', '> d', 'é', '<', '/', 'x']


@pytest.mark.parametrize(
  'text, found', [('ab</x>cd</x>', 'ab</x>'), ('abEND</x>', 'abEND'), ('none', 'none'), ('', '')]
)
def test_a_text_ends_with_the_first_of_them(text, found):
  assert stops.cut(text, ['</x>', 'END']) == found


def test_of_stop_strings_only_those_that_are_kept_stay():
  assert stops.cut('one two three', ['three', 'two'], kept=()) == 'one '
  assert stops.cut('one two three', ['three', 'two'], kept=['two']) == 'one two'
  assert stops.cut('one two three', [], kept=()) == 'one two three'


@pytest.mark.parametrize('block', [1, 2, 3, 7])
@pytest.mark.parametrize(
  'ids, keep',
  [
    ([0, 1, 2, 4, 0, 1, 2, 3], 4),
    ([0, 5, 6, 7, 8, 3, 0], 6),
    ([0, 0, 0, 0], None),
    ([1, 2, 0, 3], None),
  ],
)
def test_a_match_is_the_same_whatever_the_size_of_a_block(ids, keep, block):
  matcher = stops.Matcher(spell, ['</x>'])
  for end in range(block, len(ids) + block, block):
    found = matcher(5, ids[:end])
    if found is not None:
      break
  assert found == keep
  assert matcher.matched == ({5} if keep else set())


def test_trajectories_are_told_apart():
  matcher = stops.Matcher(spell, ['</x>'])
  assert matcher(0, [0, 1, 2]) is None and matcher(1, [3]) is None
  assert matcher(0, [0, 1, 2, 3]) == 4


def test_an_empty_string_is_refused():
  with pytest.raises(ValueError, match='empty'):
    stops.Matcher(spell, [''])


def first_loop(ids, length):
  """By the definition, one end and one unit at a time."""
  for end in range(length, len(ids) + 1):
    last = ids[end - length : end]
    if any(last[unit:] == last[:-unit] for unit in range(1, length // 2 + 1)):
      return end
  return None


@pytest.mark.parametrize('block', [1, 3, 7, 100])
def test_a_loop_ends_at_the_same_token_whatever_the_block(block):
  rng = np.random.default_rng(0)
  for length in (2, 5, 8, 12):
    for _ in range(30):
      ids = rng.integers(0, 3, 40).tolist()
      unit = rng.integers(0, 9, rng.integers(1, 7)).tolist()
      ids += unit * 6
      loop, found = stops.Loop(length), None
      for end in range(block, len(ids) + block, block):
        found = loop(4, ids[:end])
        if found is not None:
          break
      assert found == first_loop(ids, length), (ids, length)
      assert loop.matched == ({4} if found else set())


def test_a_list_whose_numbers_rise_is_no_loop():
  ids = [x for number in range(100) for x in (number, 500, 501, 502)]
  assert stops.Loop(32)(0, ids) is None


def test_a_loop_of_one_token_is_refused():
  with pytest.raises(ValueError, match='a loop of 1 tokens'):
    stops.Loop(1)
