"""The page is one file that asks for nothing, runs nothing, and shows text as text."""

import html.parser
import re

import pytest

from lwz.report import curves, page, summary

HOSTILE = '<think>a</think><script src="https://evil.test/x.js"></script><img src=x onerror=y>'
RECORDS = [{'step': i, 'loss': 2.0 - i / 50, 'reward/length': i / 50} for i in range(50)]


class Elements(html.parser.HTMLParser):
  """Every element of a page with its attributes, and all the text outside of style."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.text, self.within = [], '', None
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    self.within = tag

  def handle_data(self, data):
    if self.within != 'style':
      self.text += data


def sample(step, **more):
  fields = {'step': step, 'prompt': 'Write.', 'think': 'hm', 'answer': 'So.', 'text': 'hm So.'}
  return fields | {'valid': True, 'fault': '', 'words': 90, 'lower': 80, 'upper': 120} | more


@pytest.fixture
def written(tmp_path):
  def write(**sections):
    path = tmp_path / 'deep' / 'report.html'
    page.write(path, **({'title': 'run'} | sections))
    return path.read_bytes().decode()

  return write


def everything(text=HOSTILE):
  faulty = sample(0, valid=False, text=text, fault=text, prompt=text, rewards={text: 0.5})
  return {
    'title': text,
    'subtitle': text,
    'facts': {text: text, 'steps': 1234},
    'table': [(text, 1.0, 2.0, 1.0), *summary.first_last(RECORDS, ['loss', 'reward/length'])],
    'curves': [(text, curves.draw(RECORDS, ['loss'], title=text))],
    'samples': [faulty, sample(9, think=text, answer=text, prompt=text)],
    'tables': [(text, [text, 'n'], [[text, 3]])],
    'notes': [text],
  }


def test_it_asks_for_nothing_outside_itself(written):
  text = written(**everything(text='plain'))
  assert not re.search(r'https?://|@import', text)
  elements = Elements(text).elements
  assert not {'script', 'link', 'iframe', 'img', 'object', 'base'} & {tag for tag, _ in elements}
  for _, attributes in elements:
    assert 'src' not in attributes
    assert attributes.get('href', '#').startswith('#')
  assert all(m.startswith('#') for m in re.findall(r'url\(([^)]*)\)', text))
  policy = [a['content'] for t, a in elements if a.get('http-equiv')]
  assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_hostile_text_is_shown_and_never_becomes_an_element(written):
  plain, hostile = (Elements(written(**everything(text))) for text in ('plain', HOSTILE))
  assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
  assert [sorted(a) for _, a in hostile.elements] == [sorted(a) for _, a in plain.elements]
  assert hostile.text.count(HOSTILE) == plain.text.count('plain') > 12


def test_sections_stand_only_where_something_was_given(written):
  bare = Elements(written())
  assert not {'table', 'figure', 'article', 'dl', 'aside', 'section'} & {
    t for t, _ in bare.elements
  }
  assert 'arXiv 2506.18841' in bare.text
  full = Elements(written(**everything()))
  assert {'table', 'figure', 'article', 'dl', 'aside'} <= {t for t, _ in full.elements}


def test_the_same_run_gives_the_same_bytes(written):
  assert written(**everything()) == written(**everything())


def test_a_change_is_better_or_worse_by_the_direction_of_its_metric():
  rows = [('loss', 2.0, 1.0, -1.0), ('reward/length', 0.5, 0.2, -0.3), ('entropy', 1.0, 2.0, 1.0)]
  assert [page._change(row)['verdict'] for row in rows] == ['better', 'worse', '']
  still = page._change(('loss', 1.0, 1.0, 0.0))
  assert (still['verdict'], still['arrow'], still['change']) == ('', '', '0')


def test_samples_of_one_prompt_stand_in_a_row():
  samples = [sample(1, prompt=p) for p in 'ab'] + [sample(4, prompt='a'), sample(5, prompt='b')]
  samples += [sample(9, prompt=p) for p in 'cb']
  steps, rows = page._rows(samples)
  assert steps == [1, 5, 9]
  assert [row['prompt'] for row in rows] == ['b', None]
  told = [[card and card['prompt'] for card in row['cards']] for row in rows]
  assert told == [['b', 'b', 'b'], ['a', None, 'c']]


@pytest.mark.parametrize(
  ('steps', 'shown'),
  [
    ([], []),
    ([3], [3]),
    ([0, 9], [0, 9]),
    ([0, 1, 2, 100], [0, 2, 100]),
    ([0, 40, 80], [0, 40, 80]),
  ],
)
def test_the_middle_is_the_step_nearest_to_it(steps, shown):
  assert page._ends_and_middle(steps) == shown


def test_samples_of_one_step_stand_alone_and_sides_may_be_missing(written):
  assert 'Before and after' not in written(samples=[sample(3), sample(3)])
  _, pairs = page._rows([sample(1), sample(2), sample(2)])
  assert [[card is None for card in pair['cards']] for pair in pairs] == [
    [False, False],
    [True, False],
  ]
  assert written(samples=[sample(1), sample(2), sample(2)]).count('<article') == 3
  with pytest.raises(ValueError, match="sample 0 has no 'step'"):
    written(samples=[{'prompt': 'x'}])


def test_an_invalid_sample_is_shown_as_it_was_written(written):
  text = Elements(written(samples=[sample(1, valid=False, text='RAW', fault='no answer')])).text
  assert 'RAW' in text
  assert 'no answer' in text
  assert 'So.' not in text


def test_think_can_be_opened_and_is_closed(written):
  (details,) = [a for tag, a in Elements(written(samples=[sample(1)])).elements if tag == 'details']
  assert 'open' not in details


@pytest.mark.parametrize(
  ('words', 'inside'), [(79, False), (80, True), (100, True), (120, True), (121, False)]
)
def test_the_length_bar_holds_the_range_and_the_words(words, inside):
  bar = page._length(words, 80, 120)
  assert bar['inside'] == inside
  end = 1.1 * max(words, 120)
  assert bar['left'] == pytest.approx(100 * 80 / end, abs=0.06)
  assert bar['left'] + bar['width'] == pytest.approx(100 * 120 / end, abs=0.11)
  assert bar['mark'] == pytest.approx(100 * words / end, abs=0.06)


def test_a_sample_may_be_text_alone(written):
  text = Elements(written(samples=[{'step': 4, 'text': 'Once upon a time'}])).text
  assert 'Once upon a time' in text
  assert 'words' not in text


def test_half_a_character_does_not_stop_the_page(written):
  assert '\\ud800' in written(samples=[sample(1, answer='x\ud800')])
