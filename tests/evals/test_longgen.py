"""Tasks are checked by rules: what is right is right, and what is broken is found in its place."""

import math

import numpy as np
import pytest

from lwz.evals import longgen

CASES = [(kind, language) for kind in ('diary', 'tower') for language in ('en', 'zh')]


def written(task, language, *, skip=(), wrong=(), words=None):
  """An answer that keeps every rule but those of the units in `wrong`, without those in `skip`."""
  out = []
  for unit in range(1, task.units + 1):
    if unit in skip:
      continue
    said = [rule.thing for rule in task.rules if unit in rule.units and unit not in wrong]
    filler = 'plain ' if language == 'en' else '平'
    body = filler * (words or task.words)
    name = f'{task.unit.title()} {unit}:' if language == 'en' else f'第{unit}{task.unit}：'
    out.append(f'**{name}** {body} {", ".join(said)}.')
  return '\n\n'.join(out)


@pytest.mark.parametrize('kind, language', CASES)
@pytest.mark.parametrize('length', [100, 3_000, 30_000])
def test_an_answer_that_does_all_has_everything(kind, language, length):
  task = longgen.parse(longgen.make(length, kind, language, seed=3, index=length))
  assert task.units * task.words == pytest.approx(length, rel=0.1)
  assert {rule.kind for rule in task.rules} == set(longgen.KINDS)
  found = longgen.metrics([longgen.check(task, written(task, language))])
  assert found == dict.fromkeys(found, 1.0) | {'stray': 0.0}
  assert all(rule.thing in task.prompt for rule in task.rules)


@pytest.mark.parametrize('kind, language', CASES)
def test_what_is_missing_or_wrong_is_found_in_its_place(kind, language):
  task = longgen.parse(longgen.make(6_000, kind, language, seed=1))
  asked = sorted({unit for rule in task.rules for unit in rule.units})
  wrong, skip = {asked[-1]}, set(range(1, task.units + 1)) - set(asked)
  skip = {min(skip), max(skip)}
  found = longgen.check(task, written(task, language, skip=skip, wrong=wrong))
  assert set(np.flatnonzero(~found.there_U) + 1) == skip
  assert set(np.flatnonzero(found.kept_U == 0) + 1) == wrong
  metrics = longgen.metrics([found])
  assert metrics['completion'] == 1 - len(skip) / task.units
  num = sum(len(rule.units) for rule in task.rules)
  broken = sum(unit in rule.units for rule in task.rules for unit in wrong)
  assert metrics['accuracy'] == metrics['accuracy/written'] == pytest.approx(1 - broken / num)


def test_all_things_in_every_unit_keep_the_rules_and_stray():
  task = longgen.parse(longgen.make(6_000, 'diary', 'en', seed=1))
  every = ' '.join(rule.thing for rule in task.rules)
  answer = '\n'.join(f'Week {u}: {"plain " * task.words}{every}' for u in range(1, task.units + 1))
  found = longgen.metrics([longgen.check(task, answer)])
  assert found['accuracy'] == 1 and found['stray'] > 0.9


def test_short_units_double_units_and_order():
  task = longgen.parse(longgen.make(6_000, 'tower', 'en', seed=1))
  short = longgen.check(task, written(task, 'en', words=task.words // 5))
  assert not short.there_U.any() and longgen.metrics([short])['accuracy'] == 0
  assert math.isnan(longgen.metrics([short])['accuracy/written'])
  answer = written(task, 'en').split('\n\n')
  turned = longgen.check(task, '\n\n'.join(reversed(answer)))
  assert turned.there_U.all() and turned.ordered == 0
  assert longgen.metrics([longgen.check(task, '')])['completion'] == 0


def test_headings_in_other_forms():
  assert [n for n, _ in longgen.parts('week', '## Week 1\na\n- week 02 - b\nthe week 3 was')] == [
    1,
    2,
  ]
  assert [n for n, _ in longgen.parts('周', '第一周：甲\n【第二十三周】乙\n在第三周')] == [1, 23]
  forms = 'Week 1\n**Week 2** a\nWeek 3. b\nWeek 4 The Long Night\n> Week 5 – c\n[Week 6] d'
  assert [n for n, _ in longgen.parts('week', forms)] == [1, 2, 3, 4, 5, 6]
  assert [n for n, _ in longgen.parts('周', '第1周\n甲\n第2周 初雪\n乙\n第3周的记录：丙')] == [
    1,
    2,
    3,
  ]


def test_prose_that_names_a_unit_begins_none():
  prose = 'Week 2: We worked.\nWeek 1 had been hard.\nWeek 3, they said, would be worse.'
  assert longgen.parts('week', prose) == [(2, prose[6:])]
  prose = '第2周：下雪了。\n第1周过得很辛苦。\n第3周，也许更难。'
  assert longgen.parts('周', prose) == [(2, prose[3:])]


@pytest.mark.parametrize('kind, language', CASES)
def test_a_table_of_contents_takes_nothing_away(kind, language):
  task = longgen.parse(longgen.make(6_000, kind, language, seed=1))
  answer = written(task, language)
  contents = '\n'.join(line.partition(' ')[0] for line in answer.split('\n\n'))
  if language == 'en':
    contents = '\n'.join(f'{task.unit.title()} {u}: {u}' for u in range(1, task.units + 1))
  found, plain = (longgen.check(task, text) for text in (f'{contents}\n\n{answer}', answer))
  assert plain.there_U.all() and found.pairs == plain.pairs and found.ordered == 1
  assert (found.there_U == plain.there_U).all()


@pytest.mark.parametrize('kind, language', CASES)
def test_the_request_for_a_brief_text_is_brief(kind, language):
  task = longgen.parse(longgen.make(80, kind, language, seed=3))
  assert len(task.prompt.encode()) < 180 and all(rule.thing in task.prompt for rule in task.rules)
  found = longgen.metrics([longgen.check(task, written(task, language))])
  assert found == dict.fromkeys(found, 1.0) | {'stray': 0.0}


@pytest.mark.parametrize(
  'change, complaint',
  [
    ({'units': 0}, 'units'),
    ({'units': 10**9}, 'units'),
    ({'rules': None}, 'a list of rules'),
    ({'rules': [{'thing': 'x', 'units': ['1']}]}, 'a rule needs'),
    ({'prompt': ''}, 'a prompt'),
  ],
)
def test_a_record_that_is_no_task_is_told(change, complaint):
  with pytest.raises(ValueError, match=complaint):
    longgen.parse(longgen.make(3_000, 'diary', 'en', seed=0) | change)
