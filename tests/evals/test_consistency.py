"""Planted contradictions are found, where they were planted; honest statements are none."""

import json

import pytest

from lwz.evals import consistency, numerals, planted, position, statements
from tests import prose

PARAGRAPHS = {
  'en': [p for p in prose.ENGLISH.split('\n\n') if p] * 2,
  'zh': [p for p in prose.CHINESE.split('\n\n') if p] * 2,
}


def find(text, ask_facts=statements.facts, ask_conflicts=statements.conflicts):
  """Both passes, by the rule-based finder, through the replies that a judge would give."""
  facts, dropped = [], 0
  for window in position.windows(text, consistency.SIZE, consistency.MOST):
    reply = json.dumps({'facts': ask_facts(window.text)})
    inside, out = consistency.located(window, consistency.read_facts(reply))
    facts, dropped = facts + inside, dropped + out
  found = []
  for batch in consistency.batches(facts):
    reply = json.dumps({'conflicts': ask_conflicts(batch)})
    found += consistency.conflicts(batch, consistency.read_conflicts(reply))
  return found, facts, dropped


@pytest.mark.parametrize('language', PARAGRAPHS)
@pytest.mark.parametrize('seed', range(4))
def test_planted_contradictions_are_found_where_they_are(language, seed):
  made = planted.plant(PARAGRAPHS[language], language, seed, pairs=12, honest=12)
  assert {pair.kind for pair in made.pairs} == set(consistency.CLASSES)
  for pair in made.pairs:
    assert made.text[slice(*pair.first)] and made.text[slice(*pair.second)]
    assert pair.first[1] <= pair.second[0]
  found, _, dropped = find(made.text)
  met = planted.hits(found, made.pairs)
  assert dropped == 0 and None not in met and len({*met}) >= 0.9 * len(made.pairs)
  kinds = [made.pairs[i].kind for i in met]
  assert [one.kind for one in found] == kinds
  for one in found:
    assert made.text[one.first.start : one.first.end] == one.first.quotation
    assert one.first.start < one.second.start and one.first.before < one.second.before


@pytest.mark.parametrize('language', PARAGRAPHS)
def test_honest_texts_have_none(language):
  made = planted.plant(PARAGRAPHS[language], language, 0, pairs=0, honest=40)
  assert find(made.text)[0] == []
  documents = '\n\n'.join(prose.documents(200)[:150])
  assert find(documents if language == 'en' else prose.CHINESE + prose.REPORT_CHINESE)[0] == []


def test_too_few_paragraphs_are_told():
  with pytest.raises(ValueError, match='3 paragraphs of sentences'):
    planted.plant(['A.'] * 3 + ['Title'] * 9, 'en', 0, pairs=1, honest=0)


TEXT = 'Mara had green eyes. ' + 'She went on. ' * 5 + 'Then Mara closed her\nbrown eyes.'


def fact(quotation, value='green'):
  named = {'subject': 'Mara', 'attribute': 'eyes', 'value': value}
  return named | {'quotation': quotation}


def test_a_quotation_that_does_not_stand_there_is_no_fact():
  (window,) = position.windows(TEXT)
  told = [fact('“Mara had green eyes.”'), fact('Mara closed her brown eyes'), fact('Mara was tall')]
  facts, dropped = consistency.located(window, told)
  assert dropped == 1 and [TEXT[f.start : f.end] for f in facts] == [
    'Mara had green eyes.',
    'Mara closed her\nbrown eyes',
  ]
  assert [f.before for f in facts] == [0, 20]


def test_conflicts_need_two_facts_and_count_once():
  (window,) = position.windows(TEXT)
  facts, _ = consistency.located(window, [fact('Mara had green eyes'), fact('brown eyes', 'brown')])
  said = {'first': 2, 'second': 1, 'class': 'Factual & Detail Consistency', 'why': 'green, brown'}
  bad = [said | {'first': 1, 'second': 1}, said | {'second': 9}, said | {'first': 'one'}]
  reply = '<think>hm</think>\n```json\n' + json.dumps({'conflicts': [said, said, *bad]}) + '\n```'
  (found,) = consistency.conflicts(facts, consistency.read_conflicts(reply))
  assert found.kind == 'factual detail' and found.first.value == 'green'
  asked = consistency.conflict_messages(facts)[0]['content']
  assert '2. Mara, eyes: brown ("brown eyes", word 23)' in asked


def test_replies_that_cannot_be_read_and_those_that_name_none():
  assert consistency.read_facts('{"facts": []}') == []
  assert consistency.read_facts('There are none.') is None
  assert consistency.read_facts('{"facts": [{"subject": "a"') is None
  assert consistency.read_facts('{"facts": [{"subject": "a"}, 3]}') == []
  told = json.dumps({'facts': [fact('{"facts": []}')]})  # as may stand in a text
  assert len(consistency.read_facts(f'Of none it is {{"facts": []}}. Here: {told}')) == 1
  assert consistency.read_facts(f'{told} or {told[:-3]}') is None
  many = {'facts': [fact(str(i)) for i in range(99)]}
  assert len(consistency.read_facts(json.dumps(many))) == consistency.FACTS


def test_batches_keep_a_subject_together():
  facts = [
    consistency.Fact(f'S{i % 100}', 'a', 'v', 'q', i, i + 1, i)
    for i in range(2 * consistency.BATCH)
  ]
  found = consistency.batches(facts)
  assert sum(map(len, found)) == len(facts) and max(map(len, found)) <= consistency.BATCH
  apart = [{f.subject for f in batch} for batch in found]
  assert len(apart[0] & apart[1]) <= 1
  assert all(batch == sorted(batch, key=lambda f: f.start) for batch in found)


@pytest.mark.parametrize(
  'first, second, other',
  [
    ('The village has 300 inhabitants.', 'The village has 450 inhabitants.', 'has 450 wells.'),
    ('Anna had three sons.', 'Anna had two sons.', 'Anna had two hats.'),
    (
      'The river is 40 metres wide.',
      'The river is 60 metres wide.',
      'The river is 60 metres deep.',
    ),
    ('Peter is Mary’s brother.', 'Peter is Mary’s uncle.', 'Peter is Ruth’s uncle.'),
    ('Peter was the son of Mary.', "Peter was Mary's nephew.", 'Peter was the nephew of Ruth.'),
    ('The fair was on Tuesday.', 'The fair was on Friday.', 'The ball was on Friday.'),
    ('The siege had three days of rain.', 'The siege had two weeks of rain.', ''),
    ('塔有十二层。', '这座塔有十五层。', '塔有十五道门。'),
    ('村里有三百户人家。', '村里有五百户人家。', '城里有五百户人家。'),
    ('这条河长四十公里。', '这条河长六十公里。', '这条河宽六十米。'),
    ('这座图书馆建于1890年。', '图书馆建于1912年。', '图书馆的桥建于1912年。'),
    ('王芳是李明的姐姐。', '王芳是李明的妹妹。', '王芳是张伟的妹妹。'),
    (
      'The shop opened at six.',
      'The shop opens at eight, as always.',
      'On Sundays the shop opens at eight.',
    ),
    ('The hall had four windows.', 'The hall had six windows.', 'If the hall had six windows!'),
    (
      'The mill was built in 1740.',
      'The mill was built in 1820.',
      'He lied that the mill was built in 1820.',
    ),
    ('小镇位于河的北面。', '小镇就在河以南。', '小镇位于山的南面。'),
  ],
)
def test_statements_of_another_value_conflict_and_those_of_another_thing_do_not(
  first, second, other
):
  assert len(find(f'{first} {second}')[0]) == bool(other)
  assert find(f'{first} {other}')[0] == find(f'{first} {first}')[0] == []


def test_density_is_per_10000_words():
  assert consistency.density(3, 15_000) == 2.0


@pytest.mark.parametrize(
  'written, number',
  [
    *(('12', 12), ('1,250', 1250), ('twenty-three', 23), ('two hundred', 200), ('二十三', 23)),
    *(('一百零五', 105), ('十', 10), ('一九〇二', 1902), ('many', None), ('', None)),
  ],
)
def test_numbers_as_they_are_written(written, number):
  assert numerals.value(written) == number
