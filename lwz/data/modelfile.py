"""Ollama's Modelfile beside a GGUF file: the prompt of a policy, and how it samples."""

import collections.abc
from typing import Any

from lwz.data import templates

# Key of a generation_config.json, and Ollama's parameter.
PARAMETERS = {
  'max_new_tokens': 'num_predict',
  'temperature': 'temperature',
  'top_p': 'top_p',
  'top_k': 'top_k',
}
_CHAT = (
  "# A template of Ollama is a Go program, which the Jinja template of this model's chat is not:\n"
  '# render prompts by the file\'s tokenizer.chat_template, and send them with "raw": true.\n'
)


def has_languages(prompt: tuple[str, str] | None) -> bool:
  """Whether the Modelfiles of two languages differ."""
  return prompt is not None and prompt[1] not in templates.CHATS


def text(
  file: str,
  prompt: tuple[str, str] | None,
  language: str,
  sampling: collections.abc.Mapping[str, Any],
  context: int,
) -> str:
  """Returns the Modelfile of a GGUF file that lies beside it.

  `prompt` is the style and the template of the policy, None where no prompt is known; `sampling`
  is a generation_config.json, `context` the number of tokens of prompt and answer together. Go
  templates cannot tell the language of a request: each `language` has a Modelfile of its own.
  """
  lines = [f'FROM ./{file}']
  if prompt and has_languages(prompt):
    before, after = templates.parts(*prompt, language)
    asked = '{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}'
    lines.append(f'TEMPLATE """{before}{asked}{after}{{{{ .Response }}}}"""')
  elif prompt:
    lines.append(_CHAT.rstrip())
  if context:
    lines.append(f'PARAMETER num_ctx {context}')
  named = {ours: sampling[theirs] for theirs, ours in PARAMETERS.items() if theirs in sampling}
  if prompt:  # a repetition penalty, which Ollama may set, is no part of how the policy was trained
    named |= {'repeat_penalty': 1.0}
  lines += [f'PARAMETER {name} {value}' for name, value in named.items()]
  stops = sampling.get('stop_strings', ())
  return '\n'.join([*lines, *(f'PARAMETER stop "{stop}"' for stop in stops)]) + '\n'
