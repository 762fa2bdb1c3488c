"""A model's own answers as documents: of the prompts that are trained on, of a fitting length."""

import json

import pytest

from experiments import passages as experiment
from lwz.data import corpus, formatted, prompts
from lwz.runtime import setup, sources
from lwz.stages import passages


def config(folder):
  rows = [{'text': f'Write about {i}.', 'lower': 3, 'upper': 9} for i in range(40)]
  (folder / 'mine.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  c = experiment.get_config('micro')
  c.init, c.runs_dir, c.data.prompts = 'org/model', str(folder), str(folder / 'mine.jsonl')
  c.data.lower, c.data.upper, c.data.tested = 3, 9, 0.25
  return c


def test_answers_of_a_fitting_length_are_documents(tmp_path, monkeypatch):
  asked = []

  def answers(c, source, requests, temperature):
    asked.append(temperature)
    said = [request.messages[0]['content'] for request in requests]
    long = {'Write about 0.': ' word' * 50, 'Write about 1.': ''}
    return [f'It is {text} {temperature}' + long.get(text, '') for text in said]

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


def test_too_few_answers_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(passages.systems, 'answers', lambda c, s, requests, t: [''] * len(requests))
  with pytest.raises(ValueError, match=r'0 of .* have data.lower=3 to data.upper=9 words'):
    passages.run(config(tmp_path))


def test_a_documents_request_is_read_and_made_a_prompt(tmp_path):
  record = {'request': 'Sing of the sea.', 'text': 'The sea is wide and blue and deep.'}
  (tmp_path / 'a.jsonl').write_text(json.dumps(record) + '\n')
  (document,) = corpus.documents(tmp_path)
  assert (document.request, document.title) == ('Sing of the sea.', 'Sing of the sea.')
  (prompt,) = prompts.from_documents([document], lower=3, upper=20, slack=0.5)
  assert (prompt.text, prompt.lower, prompt.upper) == ('Sing of the sea.', 4, 12)
