"""Criteria and references made out of a prompt's true text."""

import dataclasses
import re

import pytest

from lwz import text, types
from lwz.data import guidance, requirements
from lwz.judge import scripted
from lwz.reward import questions, rubric
from tests import prose

TEXTS = {'en': ' '.join(prose.ENGLISH.split()[:70]), 'zh': prose.CHINESE[:120]}


def prompt(language):
  asked = {'en': 'Write about one thing.', 'zh': '写一篇文章。'}[language]
  size = text.count_words(TEXTS[language])
  return types.Prompt('p', asked, size, size, language, references=(TEXTS[language],))


@pytest.mark.parametrize('language', TEXTS)
def test_the_true_text_meets_every_criterion_and_stands_above_its_damaged_copies(language):
  made = guidance.add(prompt(language))
  assert len(made.criteria) == guidance.NUM and made.references[-1] == TEXTS[language]
  assert len({*made.references}) == 1 + len(guidance.RUNGS)
  terms = [re.search('[“"](.+)[”"]', one.text)[1] for one in made.criteria]
  assert requirements.covered(TEXTS[language], terms) == len(terms)
  checks = [questions.Check(made, one) for one in (TEXTS[language], made.text)]
  verdicts = [list(scripted._check('scripted-perfect', check, None).values()) for check in checks]
  assert rubric.share(made.criteria, verdicts[0]) == 1.0
  own = requirements.covered(made.text, terms)
  assert rubric.share(made.criteria, verdicts[1]) == own / guidance.NUM <= 0.5
  assert own == (language == 'en')  # the text has a thing, and no 文章
  good = [scripted.quality('scripted-perfect', made, one) for one in made.references]
  assert max(good[:-1]) < good[-1]


def test_what_is_made_follows_from_the_request_and_is_made_once():
  made = guidance.add(prompt('en'))
  assert guidance.add(made) == made == guidance.add(prompt('en'))
  other = guidance.add(dataclasses.replace(prompt('en'), text='Write about another.'))
  assert other.criteria != made.criteria and other.references[-1] == made.references[-1]


def test_a_text_that_no_damage_changes_is_its_only_reference():
  short = dataclasses.replace(prompt('en'), references=('Silt.',))
  assert guidance.add(short).references == ('Silt.',)
