"""Stop strings are found wherever blocks and tokens end, and cut at the first match."""

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
