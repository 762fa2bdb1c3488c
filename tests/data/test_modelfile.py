"""Ollama's Modelfile asks as the training did."""

import re

import pytest

from lwz.data import modelfile, templates

SAMPLING = {'temperature': 0.8, 'top_k': 0, 'max_new_tokens': 96, 'stop_strings': ['</answer>']}


def filled(text, prompt, system=''):
  """What Ollama makes of the template."""
  template = re.search(r'TEMPLATE """(.*?)"""', text, re.DOTALL)[1]
  kept = r'\1' if system else ''
  template = re.sub(r'\{\{ if \.System \}\}(.*?)\{\{ end \}\}', kept, template, flags=re.DOTALL)
  values = {'System': system, 'Prompt': prompt, 'Response': ''}
  return re.sub(r'\{\{ \.(\w+) \}\}', lambda found: values[found[1]], template)


@pytest.mark.parametrize('style', ['think', 'direct'])
@pytest.mark.parametrize('template', ['paper', 'pocket'])
@pytest.mark.parametrize('language, request_', [('en', 'An ode.'), ('zh', '诗')])
def test_the_template_is_the_prompt(style, template, language, request_):
  text = modelfile.text('m.gguf', (style, template), language, SAMPLING, 256)
  assert filled(text, request_) == templates.render(request_, style, template)
  joined = templates.render(f'Brief.\n\n{request_}', style, template)
  assert filled(text, request_, 'Brief.') == joined


def test_the_parameters_are_those_of_the_rollouts():
  text = modelfile.text('m.gguf', ('think', 'pocket'), 'en', SAMPLING, 256)
  assert text.startswith('FROM ./m.gguf\n')
  assert set(re.findall(r'^PARAMETER (.*)$', text, re.MULTILINE)) == {
    *('num_ctx 256', 'num_predict 96', 'temperature 0.8', 'top_k 0', 'repeat_penalty 1.0'),
    'stop "</answer>"',
  }


def test_what_is_not_known_is_left_to_ollama():
  assert modelfile.text('m.gguf', None, 'en', {}, 0) == 'FROM ./m.gguf\n'
  chat = modelfile.text('m.gguf', ('think', 'chat'), 'en', {}, 0)
  assert 'TEMPLATE' not in chat and '"raw": true' in chat
