"""The card of an exported model, its README.md: what it is, how it is asked, how it was trained."""

import dataclasses
import json
from collections.abc import Sequence
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


@dataclasses.dataclass(frozen=True)
class Provenance:
  """Facts about a model; of one that is no run, its base alone, which is the model itself."""

  name: str  # of the run's folder, or of the model
  base: str  # the model that the first run began with; '' where that began with random parameters
  license: str  # of the base; '' where its files name none
  stage: str = ''
  lineage: tuple[str, ...] = ()  # runs, the last one first, each of which began with the next
  settings: dict[str, str] = dataclasses.field(default_factory=dict)  # value by key of a config
  rewards: dict[str, float] = dataclasses.field(default_factory=dict)  # weight by name
  prompt: tuple[str, str] | None = None  # style and template; None where it is not known
  sampling: dict[str, Any] = dataclasses.field(default_factory=dict)  # generation_config.json
  context: int = 0  # tokens of prompt and answer; 0: not known
  results: tuple[summary.Row, ...] = ()


def is_ours(card: str) -> bool:
  """Whether a README.md is a card of `text`."""
  return card.startswith('---\n') and f'\n{_TAG}\n' in card.split('\n---\n')[0] + '\n'


def text(known: Provenance, *, notes: Sequence[str] = (), usage: str = '') -> str:
  """Returns the card, in Markdown under the YAML that hubs read.

  `notes` are sentences about what a client cannot reproduce; `usage` is a text of this module.
  """
  stage, base, license = known.stage, known.base, known.license
  origin = f'It began with {base}' if base else 'It began with random parameters'
  terms = f'{license}, that of {base}' if license else 'that of the base model'
  made = f'Trained by lwz (stage {stage}).' if stage else 'Exported by lwz, which did not train it.'
  if not stage:
    origin = f'It is {base}'
  parts = [
    _front(stage, base, license),
    f'# {known.name}',
    f'{made} {origin}. License: {terms if base else "that of whoever trained it"}.',
    '## Prompt',
    _prompt(known.prompt),
    *(['\n'.join(f'* {note}' for note in notes)] if notes else []),
    '## Use',
    usage.rstrip(),
  ]
  if stage:
    rows = [('runs, the last one first', ' < '.join(known.lineage)), *known.settings.items()]
    parts += ['## Training', table.markdown('Settings', ('key', 'value'), rows).rstrip()]
  if known.rewards:
    weighted = table.markdown('Rewards', ('reward', 'weight'), known.rewards.items())
    parts += [weighted.rstrip()]
  if known.results:
    measured = table.markdown(
      'Means over the first and the last steps',
      ('metric', 'first', 'last'),
      [(row.name, row.first, row.last) for row in known.results],
    )
    parts += ['## Results', measured.rstrip()]
  return '\n\n'.join(parts) + '\n'


def transformers_usage(known: Provenance, *, tokenizer: str, scalar_head: bool) -> str:
  """Returns the lines that load the folder with transformers, and serve it with vLLM."""
  if scalar_head:
    return _CLASSIFIER.format(tokenizer=tokenizer)
  asked = [{'role': 'user', 'content': 'Write a letter to a friend.'}]
  body: dict[str, Any] = {'model': known.name, 'messages': asked}
  if known.sampling:
    body |= {'stop': known.sampling['stop_strings'], 'include_stop_str_in_output': True}
  length = f' --max-model-len {known.context}' if known.context else ''
  serve = _VLLM.format(name=known.name, length=length, body=json.dumps(body, ensure_ascii=False))
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
