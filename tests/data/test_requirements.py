"""Pairs that differ by what of the request is covered."""

import numpy as np
import pytest

from lwz import text as words
from lwz import types
from lwz.data import formatted, preferences, requirements

TEXT = 'Estuaries collect silt from rivers. Herons hunt there. Barges bring timber downstream.'
OTHER = 'Clocks count hours for sailors. Lamps burn oil. Bakers knead dough before dawn.'
REST = 'Marshes shelter young fish. Ferries cross twice daily.'


def rng(seed=0):
  return np.random.default_rng(seed)


def test_terms_are_content_words_and_pairs_of_han():
  assert requirements.terms('The river flows, it is wide 2024.') == {
    'river': 'river',
    'flow': 'flows',
    'wide': 'wide',
  }
  assert requirements.terms('大河，流过北京的') == {'大河': '大河', '北京': '北京'}
  assert '河流' not in requirements.terms('大河，流水')  # a comma lies between


def test_what_is_named_is_of_different_sentences_and_not_of_the_title():
  for seed in range(20):
    found = requirements.named(TEXT, 'Rivers', 3, rng(seed))
    assert [requirements.covered(s, found) for s in words.sentences(TEXT)] == [1, 1, 1]
    assert not {'rivers', 'from', 'there'} & {*found} and requirements.covered(TEXT, found) == 3
  every = requirements.named(TEXT, 'Rivers', 99, rng())
  assert len(every) == 9 == len({*every})
  assert requirements.named('It is.', 'Rivers', 3, rng()) == []


def test_a_form_of_a_term_covers_it():
  assert requirements.covered('A river flowed.', ['Rivers', 'flows', 'silt']) == 2
  assert requirements.covered('Nothing of the kind.', ['silt']) == 0


@pytest.mark.parametrize('seed', range(20))
def test_only_sentences_that_carry_a_lost_term_give_way(seed):
  facets, whole = ['silt', 'Herons', 'timber'], words.sentences(TEXT)
  worse = requirements.dropped(TEXT, facets, words.sentences(REST), OTHER, rng(seed))
  kept = [sentence for sentence in whole if sentence in worse]
  assert requirements.covered(worse, facets) == len(kept) < 3
  known = [*whole, *words.sentences(REST), *words.sentences(OTHER)]
  assert all(sentence in known for sentence in words.sentences(worse))
  assert abs(words.count_words(worse) - words.count_words(TEXT)) <= 2
  assert requirements.dropped(TEXT, [], [], OTHER, rng(seed)) == TEXT


def test_sentences_of_the_same_document_come_first():
  own = ['Herons eat more fish.', 'Marshes shelter very young fish.']
  other = 'Lamps burn fine oil.'
  worse = requirements.dropped('Herons hunt silver fish.', ['Herons'], own, other, rng())
  assert worse == own[1]  # the first one covers what is to be lost
  assert (
    requirements.dropped('Herons hunt.', ['Herons'], own, 'Lamps burn.', rng()) == 'Lamps burn.'
  )


def test_sentences_of_chinese_take_a_place_without_blanks():
  text = '河流携带泥沙奔向大海，滋养两岸的农田和村庄。鸟儿飞过。'
  own = ['山上的雪慢慢融化了。', '农民在清晨播种小麦。']
  worse = requirements.dropped(text, ['泥沙'], own, '', rng())
  assert worse == ''.join([*own, '鸟儿飞过。'])


def test_pairs_of_documents():
  topics = [
    'granite',
    'basalt',
    'marble',
    'quartz',
    'copper',
    'nickel',
    'cobalt',
    'silver',
    'mercury',
    'sulphur',
  ]
  found = [
    types.Document(
      f'title {x}{y}', f'The {x} lies under {y}. Miners dig {x}{y} by lamp. All of it ends.', ''
    )
    for x in topics
    for y in topics
  ]
  args = {'lower': 10, 'upper': 20, 'seed': 0}
  pairs = requirements.from_documents(found, num=2, **args)
  assert pairs == requirements.from_documents(found, num=2, **args)
  assert len(pairs) > 50 and {pair.source for pair in pairs} == {'require'}
  texts = {document.text: document for document in found}
  longer = 0
  for pair in pairs:
    document = texts[pair.chosen]
    request, _, named = pair.prompt.partition(' Cover: ')
    assert request == formatted.request(document, document.text)
    facets = named.rstrip('.').split(', ')
    assert 1 <= len(facets) <= 2
    assert requirements.covered(pair.rejected, facets) < len(facets)
    assert requirements.covered(pair.chosen, facets) == len(facets)
    longer += words.count_words(pair.rejected) - words.count_words(pair.chosen)
  assert abs(longer / len(pairs)) < 0.5  # words: length tells nothing
  share = [requirements.from_documents(found, num=2, share=s, **args) for s in ((0, 0.6), (0.6, 1))]
  assert sorted(p.prompt for part in share for p in part) == sorted(p.prompt for p in pairs)
  plain = {formatted.request(d, d.text) for d in found}
  assert {p.prompt.partition(' Cover: ')[0] for p in share[0]} == {
    request for request in plain if preferences.is_in(request, (0, 0.6))
  } & {p.prompt.partition(' Cover: ')[0] for p in pairs}


def test_a_request_in_chinese_names_them_in_chinese():
  assert formatted.covering('写一篇关于河流的文章。', ['泥沙', '洪水']) == (
    '写一篇关于河流的文章。涵盖：泥沙、洪水。'
  )
