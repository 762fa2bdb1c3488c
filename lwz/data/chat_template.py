"""Chat templates (Jinja) that render the prompts of `templates`: what an export carries.

A client that sends messages then asks a policy as it was trained: the same text, in the language
of the request. See `build`.
"""

import copy
import json
import re
from typing import Any

from lwz.data import templates, tokenizer

# In JSON of ASCII alone, U+4E00 to U+9FFF are \u4e00 to \u9fff: a backslash that is no such
# escape is taken out before. No loop over characters: llama.cpp's Jinja has none.
_LANGUAGE = r"""
{%- set escaped = asked.request | replace('\\', '') | tojson(ensure_ascii=true) %}
{%- set asked.chinese = '\\u4e' in escaped or '\\u4f' in escaped or '\\u5' in escaped
  or '\\u6' in escaped or '\\u7' in escaped or '\\u8' in escaped or '\\u9' in escaped %}
"""
_TEXT_ONLY = "{{- raise_exception('the content of a message must be a text') }}"
_SINGLE = (
  "{{- raise_exception('this model answers single requests: send one message of the user, with at "
  "most one of the system before it') }}"
)
_COMPLETION = f"""\
{{%- set asked = namespace(request='', answer='', turn='none', chinese=false) %}}
{{%- for message in messages %}}
  {{%- if message['content'] is not string %}}
    {_TEXT_ONLY}
  {{%- elif message['role'] == 'system' and loop.first %}}
    {{%- if message['content'] %}}
      {{%- set asked.request = message['content'] + '\\n\\n' %}}
    {{%- endif %}}
  {{%- elif message['role'] == 'user' and asked.turn == 'none' %}}
    {{%- set asked.request = asked.request + message['content'] %}}
    {{%- set asked.turn = 'user' %}}
  {{%- elif message['role'] == 'assistant' and asked.turn == 'user' %}}
    {{%- set asked.answer = message['content'] %}}
    {{%- set asked.turn = 'assistant' %}}
  {{%- else %}}
    {_SINGLE}
  {{%- endif %}}
{{%- endfor %}}
{{%- if asked.turn == 'none' or (asked.turn == 'assistant' and add_generation_prompt) %}}
  {_SINGLE}
{{%- endif %}}{_LANGUAGE}\
{{%- if asked.chinese %}}
  {{%- set before = BEFORE_ZH %}}
  {{%- set marker = AFTER_ZH %}}
{{%- else %}}
  {{%- set before = BEFORE_EN %}}
  {{%- set marker = AFTER_EN %}}
{{%- endif %}}
{{{{- before + asked.request }}}}
{{%- if add_generation_prompt or asked.turn == 'assistant' %}}
  {{{{- marker }}}}
{{%- endif %}}
{{%- if asked.turn == 'assistant' %}}
  {{{{- asked.answer + eos_token }}}}
{{%- endif %}}
"""
# Set before the tokenizer's own template. It ends with a line end, which Jinja takes out as
# transformers sets it up, so that the own template begins at the beginning of a line, as it did.
_INSTRUCTED = f"""\
{{%- set asked = namespace(messages=[], request='', chinese=false) %}}
{{%- for message in messages %}}
  {{%- if message['role'] == 'user' %}}
    {{%- if message['content'] is not string %}}
      {_TEXT_ONLY}
    {{%- endif %}}
    {{%- set asked.request = message['content'] %}}{_LANGUAGE}\
    {{%- if asked.chinese %}}
      {{%- set asked.request = BEFORE_ZH + asked.request %}}
    {{%- else %}}
      {{%- set asked.request = BEFORE_EN + asked.request %}}
    {{%- endif %}}
    {{%- set changed = {{'role': 'user', 'content': asked.request}} %}}
    {{%- set asked.messages = asked.messages + [changed] %}}
  {{%- else %}}
    {{%- set asked.messages = asked.messages + [message] %}}
  {{%- endif %}}
{{%- endfor %}}
{{%- set messages = asked.messages %}}
"""
_QUESTIONS = ('Write about {{ x }}.\n\n"Rivers" & {seas}', '写一篇关于河流的文章。')


def build(style: str, template: str, own: str | None) -> str:
  """Returns the chat template of a policy that was trained with this style and template.

  One message of the user renders what `templates.render` does; one of the system before it stands
  in the request, separated by a blank line. Without `add_generation_prompt` the text ends with the
  request; an answer of the assistant follows its marker, and eos ends it. Anything else is refused.

  For 'chat' and 'chat_short', `own` is the tokenizer's template. It gets the messages with the
  instruction before each of the user's, and renders everything else as it does.

  Raises ValueError if such a template needs `own` and there is none.
  """
  texts = {}
  for language in ('en', 'zh'):
    before, after = templates.parts(style, template, language)
    texts |= {f'BEFORE_{language.upper()}': before, f'AFTER_{language.upper()}': after}
  if template not in templates.CHATS:
    return _filled(_COMPLETION, texts)
  if not own:
    raise ValueError(
      f'data.template={template} needs the chat template of the tokenizer, which has none; name '
      'one under data.chat_template'
    )
  return _filled(_INSTRUCTED, texts) + own


def carried(tok: Any, style: str, template: str) -> tuple[Any, bool]:
  """Returns the tokenizer with the template of `build`, and whether it renders `templates`' ids.

  It does unless the fixed text of a prompt holds a special token of this tokenizer: a prompt has
  the ids of its characters, a template cannot ask for them.
  """
  own = tok.get_chat_template() if tok.chat_template else None
  changed = copy.copy(tok)
  changed.chat_template = build(style, template, own)
  texts = tokenizer.chat(changed, [[{'role': 'user', 'content': q}] for q in _QUESTIONS])
  found = [tok.encode(text, add_special_tokens=False) for text in texts]
  return changed, found == templates.prompt_ids(tok, _QUESTIONS, style, template)


def _filled(jinja: str, texts: dict[str, str]) -> str:
  """The template with the texts, quoted, in place of their names."""
  names = re.compile('|'.join(texts))
  return names.sub(lambda found: json.dumps(texts[found[0]], ensure_ascii=False), jinja)
