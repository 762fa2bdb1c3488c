"""A direction is declared for exact names; nothing is guessed."""

import pytest

from lwz.report import directions


@pytest.mark.parametrize(
  ('name', 'sign'),
  [
    ('reward/length', 1), ('reward/redundancy', 1), ('eval/win_rate/greedy', 1), ('accuracy', 1),
    ('tokens/per_second', 1), ('loss', -1), ('heldout/loss', -1), ('seconds/learn', -1),
    ('fault/nested', -1), ('learn/loss', 0), ('entropy', 0), ('eval/rating/low', 0),
    ('my/loss', 0), ('reward', 0), ('reward/a/b', 0), ('rewards/length', 0), ('', 0),
  ],
)  # fmt: skip
def test_only_declared_names_have_a_direction(name, sign):
  assert directions.of(name) == sign


def test_no_metric_has_two_directions():
  declared = directions.HIGHER_IS_BETTER + directions.LOWER_IS_BETTER
  assert len(set(declared)) == len(declared)
  assert all(directions.of(name.replace('{}', 'x')) for name in declared)


def test_a_metric_without_direction_is_refused_with_those_that_have_one():
  directions.check('checkpoint.best', 'reward/writing')
  with pytest.raises(ValueError, match=r'checkpoint\.best=entropy: .* choose from .*reward/NAME, '):
    directions.check('checkpoint.best', 'entropy')


@pytest.mark.parametrize(
  'name, first, last, verdict',
  [
    ('reward/length', 0.2, 0.8, 1),
    ('loss', 0.2, 0.8, -1),
    ('redundancy', 3e-9, 1e-10, 0),  # noise is no improvement
    ('loss', 5.0, 4.999, 0),
    ('eval/sibling_similarity', 0.2, 0.8, -1),
    ('eval/openings/sampled', 0.2, 0.8, 1),
    ('learn/entropy', 1.0, 2.0, 0),
    ('loss', 1.0, float('nan'), 0),
  ],
)
def test_a_verdict_needs_a_direction_and_a_change(name, first, last, verdict):
  assert directions.verdict(name, first, last) == verdict


@pytest.mark.parametrize(
  'first, last, shown',
  [
    (0.25, 0.75, '+0.500'),
    (12.0, 0.0, '−12.00'),
    (3e-9, 1e-10, '≈ 0'),
    (1.0, 1.0, '0'),
    (1.0, float('nan'), '–'),
  ],
)
def test_a_change_is_shown_with_its_sign_unless_it_is_noise(first, last, shown):
  assert directions.change(first, last) == shown
