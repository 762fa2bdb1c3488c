"""The judge of rules says what it is, in words that the parsers read."""

from lwz.evals import arena, marks, offline

RULES = {
  'length': lambda question, answer, asked: min(1, len(answer.split()) / asked) if asked else None,
  'novelty': lambda question, answer, asked: len(set(answer.split())) / len(answer.split()),
}


def test_the_better_by_the_rules_wins_in_either_order():
  good, poor = 'a b c d', 'a a'
  for texts, letter in (((good, poor), 'A'), ((poor, good), 'B'), ((good, good), 'C')):
    said = offline.compare('q', *texts, 4, RULES)
    assert arena.verdict(said) == letter and said.startswith('offline-rules: ')


def test_marks_go_from_1_to_10():
  for text, score in (('a b c d', 10), ('a b', 8), ('', 1)):
    mark = marks.read(offline.mark('q', text, 4, RULES))
    assert mark.score == score and mark.reason.startswith('offline-rules: ')


def test_a_rule_that_does_not_apply_is_left_out():
  assert offline.quality('q', 'a b', 0, RULES) == 1.0
  assert offline.quality('q', 'a b', 4, RULES) == 0.75
  assert offline.quality('q', 'a b', 0, {'length': RULES['length']}) == 0.0
