"""The card of an exported model, its README.md: what it is, how it is asked, how it was trained."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lwz.report import summary, table

_TAG = '- lwz'  # in the front matter of every card
_TRANSFORMERS = """\
```python
from transformers import AutoModelForCausalLM, {tokenizer}

tok = {tokenizer}.from_pretrained('.')  # this folder
model = AutoModelForCausalLM.from_pretrained('.')
asked = [{{'role': 'user', 'content': 'Write a letter to a friend.'}}]
ids = tok.apply_chat_template(
  asked, add_generation_prompt=True, return_tensors='pt', return_dict=True
)
written = model.generate(**ids, tokenizer=tok)  # which the stop strings need
print(tok.decode(written[0, ids['input_ids'].shape[1] :]))
```
"""
_CLASSIFIER = """\
```python
from transformers import AutoModelForSequenceClassification, {tokenizer}

tok = {tokenizer}.from_pretrained('.')  # this folder
model = AutoModelForSequenceClassification.from_pretrained('.')
```
"""
_VLLM = """\
```bash
vllm serve . --served-model-name {name}{length}
curl localhost:8000/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'
```

vLLM takes the sampling of `generation_config.json`, but not its stop strings: they are in the
request.
"""
_OLLAMA = """\
```bash
ollama create {name} -f Modelfile{languages}
llama-server -m {file} --jinja
```
"""
_CHINESE = '  # for requests in English\nollama create {name}-zh -f Modelfile.zh  # and in Chinese'
_LANGUAGES = """
A template of Ollama cannot tell the language of a request, so there are two; `--jinja` has
llama-server take the file's own chat template, which can. Name the stop strings of the Modelfile in
requests to llama-server.
"""


def is_ours(card: str) -> bool:
  """Whether a README.md is a card of `text`."""
  return card.startswith('---\n') and f'\n{_TAG}\n' in card.split('\n---\n')[0] + '\n'


def text(
  name: str,
  *,
  stage: str,
  base: str,
  license: str,
  lineage: Sequence[str],
  settings: Mapping[str, Any],
  rewards: Mapping[str, float],
  prompt: tuple[str, str] | None,
  notes: Sequence[str],
  usage: str,
  results: Sequence[summary.Row],
) -> str:
  """Returns the card, in Markdown under the YAML that hubs read.

  `prompt` is the style and the template of a policy, None where its prompt is not known; `notes`
  are sentences about what a client cannot reproduce; `usage` is a text of this module.
  """
  origin = f'It began with {base}' if base else 'It began with random parameters'
  terms = f'{license}, that of {base}' if license else 'that of the base model'
  made = f'Trained by lwz (stage {stage}).' if stage else 'Exported by lwz, which did not train it.'
  if not stage:
    origin = f'It is {base}'
  parts = [
    _front(stage, base, license),
    f'# {name}',
    f'{made} {origin}. License: {terms if base else "that of whoever trained it"}.',
    '## Prompt',
    _prompt(prompt),
    *(['\n'.join(f'* {note}' for note in notes)] if notes else []),
    '## Use',
    usage.rstrip(),
  ]
  if stage:
    rows = [('runs, the last one first', ' < '.join(lineage)), *settings.items()]
    parts += ['## Training', table.markdown('Settings', ('key', 'value'), rows).rstrip()]
  if rewards:
    weighted = table.markdown('Rewards', ('reward', 'weight'), rewards.items())
    parts += [weighted.rstrip()]
  if results:
    measured = table.markdown(
      'Means over the first and the last steps',
      ('metric', 'first', 'last'),
      [(row.name, row.first, row.last) for row in results],
    )
    parts += ['## Results', measured.rstrip()]
  return '\n\n'.join(parts) + '\n'


def transformers_usage(
  name: str, stops: Sequence[str], context: int, *, tokenizer: str, scalar_head: bool
) -> str:
  """Returns the lines that load the folder with transformers, and serve it with vLLM."""
  if scalar_head:
    return _CLASSIFIER.format(tokenizer=tokenizer)
  asked = [{'role': 'user', 'content': 'Write a letter to a friend.'}]
  body: dict[str, Any] = {'model': name, 'messages': asked}
  if stops:
    body |= {'stop': list(stops), 'include_stop_str_in_output': True}
  length = f' --max-model-len {context}' if context else ''
  serve = _VLLM.format(name=name, length=length, body=json.dumps(body, ensure_ascii=False))
  return f'{_TRANSFORMERS.format(tokenizer=tokenizer)}\n{serve}'


def gguf_usage(name: str, file: str, *, languages: bool) -> str:
  """Returns the lines that run a GGUF file; `languages`: it has a Modelfile for each."""
  name = name.lower().removesuffix('.gguf')
  chinese = _CHINESE.format(name=name) if languages else ''
  return _OLLAMA.format(name=name, file=file, languages=chinese) + _LANGUAGES * languages


def _front(stage: str, base: str, license: str) -> str:
  kind = 'text-classification' if stage == 'reward_model' else 'text-generation'
  lines = [f'pipeline_tag: {kind}', 'tags:', _TAG, *([f'- {stage}'] if stage else [])]
  if base.count('/') == 1 and ':' not in base:  # a hub id
    lines.append(f'base_model: {base}')
  if license:
    lines.append(f'license: {license}')
  return '\n'.join(['---', *lines, '---'])


def _prompt(prompt: tuple[str, str] | None) -> str:
  if prompt is None:
    return 'No prompt of its training is known; the chat template, if there is one, is its own.'
  style, template = prompt
  said = (
    f'The model answers to the prompt that it was trained with, of style `{style}` and template '
    f'`{template}`. The chat template renders it, in Chinese where the request has a Chinese '
    'character (U+4E00 to U+9FFF), else in English. '
  )
  if template.startswith('chat'):
    return said + "It puts an instruction before each message of the user; the rest is the model's."
  return said + (
    'Send one message of the user. A message of the system before it is put before the request, '
    'with a blank line between; further turns are refused, as the model has seen none.'
  )
