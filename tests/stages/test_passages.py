"""A model's own answers as documents: of the prompts that are trained on, of a fitting length."""

import itertools
import json

import pytest

from experiments import passages as experiment
from lwz.data import corpus, formatted, prompts
from lwz.runtime import setup, sources
from lwz.stages import passages


def ask(folder, asked):
  """Writes the prompts of a config: {text: (lower, upper)}."""
  rows = [{'text': text, 'lower': a, 'upper': b} for text, (a, b) in asked.items()]
  (folder / 'mine.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))


def config(folder):
  ask(folder, {f'Write about {i}.': (3, 9) for i in range(40)})
  c = experiment.get_config('micro')
  c.init, c.runs_dir, c.data.prompts = 'org/model', str(folder), str(folder / 'mine.jsonl')
  c.data.lower, c.data.upper, c.data.tested, c.pairs.openings = 3, 9, 0.25, 1
  return c


def sentences(num, ends='tnd'):
  """A text of sentences of four words, none of which stands in two."""
  found = [''.join(letters) for letters in itertools.product('bcdfgklmp', 'aeiou', ends)]
  return ' '.join(f'{" ".join(found[4 * i : 4 * i + 4])}.'.capitalize() for i in range(num))


def test_answers_of_a_fitting_length_are_documents(tmp_path, monkeypatch):
  asked = []

  def answers(c, source, requests, temperature):
    asked.append(temperature)
    said = [request.messages[0]['content'] for request in requests]
    return [
      'word ' * 50 if text == 'Write about 0.' else f'It is {text} {temperature}' for text in said
    ]

  monkeypatch.setattr(passages.systems, 'answers', answers)
  c = config(tmp_path)
  passages.run(c)
  assert asked == [0.3, 0.7]
  c.data.folder = 'passages:micro'
  found = list(sources.stream(c))
  trained = {prompt.text for prompt in sources.writing_prompts(c)}
  assert 20 < len(trained) < 40
  assert {d.request for d in found} == trained - {'Write about 0.'}
  assert len(found) == 2 * len({d.request for d in found})
  # What is asked of them is the request itself, in fine-tuning as in pairs.
  assert formatted.request(found[0], found[0].text) == found[0].request
  assert setup.input_file(c, 'data.folder').endswith('passages-micro/corpus')


def test_a_passage_is_the_opening_of_the_length_that_its_request_asks_for(tmp_path, monkeypatch):
  said = sentences(10)
  monkeypatch.setattr(passages.systems, 'answers', lambda c, s, requests, t: [said] * len(requests))
  c = config(tmp_path)
  c.data.tested = 0.0
  asked = {'Short.': (3, 7), 'Longer.': (8, 14), 'Longest.': (50, 60)}
  ask(tmp_path, asked)
  passages.run(c)
  c.data.folder = 'passages:micro'
  found = {document.request: len(document.text.split()) for document in sources.stream(c)}
  assert found == {'Short.': 4, 'Longer.': 12}


def test_shorter_openings_answer_requests_for_their_own_length(tmp_path, monkeypatch):
  def answers(c, source, requests, temperature):
    asked = [request.messages[0]['content'] for request in requests]
    return [sentences(30, 'rsv' if 'ode' in text else 'tnd') for text in asked]

  monkeypatch.setattr(passages.systems, 'answers', answers)
  c = config(tmp_path)
  c.data.tested, c.pairs.openings, c.data.lower, c.data.upper = 0.0, 4, 12, 200
  asked = {'Write 60 to 80 words.': (60, 80), 'Write an ode.': (50, 60)}
  ask(tmp_path, asked)
  passages.run(c)
  c.data.folder = 'passages:micro'
  found = list(sources.stream(c))
  lengths = {document.request: len(document.text.split()) for document in found}
  assert lengths == {
    'Write 60 to 80 words.': 80,
    'Write 10 to 30 words.': 24,
    'Write 30 to 50 words.': 44,
    'Write 50 to 70 words.': 60,
    'Write an ode.': 60,
  }
  # One passage lies on one side of training and held-out documents, whatever its length.
  assert {document.title for document in found} == set(asked)
  # What is judged by requests, and so shared out by them, has each answer once.
  judged = [document.request for document, _ in corpus.openings(found, 12, 200)]
  assert judged == list(asked)
  assert len([*corpus.openings(found, 12, 200, every=True)]) == 5


def test_an_opening_that_repeats_itself_is_left_out(tmp_path, monkeypatch):
  looped = sentences(6) + ' It was a box with a silver label.' * 9
  monkeypatch.setattr(passages.systems, 'answers', lambda c, s, asked, t: [looped] * len(asked))
  c = config(tmp_path)
  c.data.tested, c.pairs.openings, c.data.lower, c.data.upper = 0.0, 4, 12, 200
  asked = {'Write 60 to 80 words.': (60, 80), 'Write 20 to 30 words.': (20, 30)}
  ask(tmp_path, asked)
  passages.run(c)
  c.data.folder = 'passages:micro'
  found = [document.text for document in sources.stream(c)]
  assert found and all(text in looped and text.count('silver') < 2 for text in found)


def test_too_few_answers_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(passages.systems, 'answers', lambda c, s, requests, t: [''] * len(requests))
  with pytest.raises(ValueError, match=r'0 of .* open with as many words as .*mine.jsonl asks for'):
    passages.run(config(tmp_path))


def test_a_documents_request_is_read_and_made_a_prompt(tmp_path):
  record = {'request': 'Sing of the sea.', 'text': 'The sea is wide and blue and deep.'}
  (tmp_path / 'a.jsonl').write_text(json.dumps(record) + '\n')
  (document,) = corpus.stream(tmp_path)
  assert (document.request, document.title) == ('Sing of the sea.', 'Sing of the sea.')
  (prompt,) = prompts.from_documents([document], lower=3, upper=20, slack=0.5)
  assert (prompt.text, prompt.lower, prompt.upper) == ('Sing of the sea.', 4, 12)
