"""Chat templates render what `templates` renders, by transformers' own sandbox."""

import copy
import re

import jinja2
import pytest
import transformers

from lwz.data import chat_template, templates, tokenizer

CHATML = (
  "{%- if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe good.<|im_end|>\\n' }}"
  '{%- endif %}{% for message in messages %}'
  "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
  '{% endfor %}'
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEXTS = [
  'Rivers carry water to the sea. {{ x }} {% if %}',
  '河流把水带到大海。',
  '<think> </answer>',
]
# One language in each, and all that a template could take for its own.
QUESTIONS = (
  'Write an ode.',
  '写一首诗。',
  'Braces {{ x }} {% raw %} {question} {# no #}\n\n"quoted" and \'so\' \\n \\u4e00 \\\\u5000',
  '  blanks around, 字 among them \n',
  '',
)
ALL = [(style, template) for style in ('think', 'direct') for template in templates.NAMES]


@pytest.fixture(scope='module')
def trained():
  found = tokenizer.train(TEXTS * 9, 400)
  found.chat_template = CHATML
  return found


def carrying(tok, style, template):
  changed = copy.copy(tok)
  changed.chat_template = chat_template.build(style, template, tok.chat_template)
  return changed


@pytest.fixture
def loaded(trained, tmp_path):
  """Returns the tokenizer that a client loads, by style and template."""

  def load(style, template):
    tokenizer.save(carrying(trained, style, template), tmp_path / 'saved')
    return transformers.AutoTokenizer.from_pretrained(tmp_path / 'saved')

  return load


def asked(text):
  return [{'role': 'user', 'content': text}]


def text_of(tok, messages, **options):
  return tok.apply_chat_template(messages, tokenize=False, **options)


@pytest.mark.parametrize('style, template', ALL)
def test_a_client_asks_as_the_training_did(loaded, trained, style, template):
  tok = loaded(style, template)
  found = [
    tok.apply_chat_template(asked(q), add_generation_prompt=True, tokenize=True)['input_ids']
    for q in QUESTIONS
  ]
  assert found == templates.prompt_ids(trained, QUESTIONS, style, template)


@pytest.mark.parametrize('template', ['pocket', 'chat_short'])
@pytest.mark.parametrize(
  'text', ['\u4dff', '\u4e00', '\u9fff', '\ua000', '\\u4e00', '\\\\u9fff', '\U00020000', 'a\u3002']
)
def test_the_language_is_that_of_the_renderer(loaded, text, template):
  rendered = templates.render(text, 'think', template)
  wanted = rendered if isinstance(rendered, str) else rendered[0]['content']
  assert wanted in text_of(loaded('think', template), asked(text), add_generation_prompt=True)


def test_a_message_of_the_system_stands_in_the_request(loaded):
  tok = loaded('think', 'pocket')
  for system, request in (('Be brief.', 'Be brief.\n\nAn ode.'), ('', 'An ode.')):
    messages = [{'role': 'system', 'content': system}, *asked('An ode.')]
    found = text_of(tok, messages, add_generation_prompt=True)
    assert found == templates.render(request, 'think', 'pocket')


def test_a_prompt_begins_the_text_of_an_answered_request(loaded):
  tok = loaded('direct', 'pocket')
  prompt = text_of(tok, asked('An ode.'), add_generation_prompt=True)
  answered = [*asked('An ode.'), {'role': 'assistant', 'content': '<answer>O!</answer>'}]
  assert text_of(tok, answered) == f'{prompt}<answer>O!</answer>{tok.eos_token}'
  assert prompt == text_of(tok, asked('An ode.')) + ' <|assistant|>:'


@pytest.mark.parametrize(
  'messages, fault',
  [
    ([{'role': 'system', 'content': 'a'}], 'single requests'),
    ([*asked('a'), *asked('b')], 'single requests'),
    ([*asked('a'), {'role': 'system', 'content': 'b'}], 'single requests'),
    ([*asked('a'), {'role': 'assistant', 'content': 'b'}, *asked('c')], 'single requests'),
    ([*asked('a'), {'role': 'assistant', 'content': 'b'}], 'single requests'),
    ([{'role': 'user', 'content': [{'type': 'text', 'text': 'a'}]}], 'must be a text'),
  ],
)
def test_what_the_model_has_never_seen_is_refused(trained, messages, fault):
  changed = carrying(trained, 'think', 'pocket')
  with pytest.raises(jinja2.exceptions.TemplateError, match=fault):
    text_of(changed, messages, add_generation_prompt=True)


def test_a_chat_keeps_all_but_the_messages_of_the_user(trained):
  changed = carrying(trained, 'think', 'chat_short')
  turns = [
    *({'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'An ode.'}),
    *({'role': 'assistant', 'content': 'O!'}, {'role': 'user', 'content': '诗'}),
  ]
  wanted = [
    templates.render(one['content'], 'think', 'chat_short')[0] if one['role'] == 'user' else one
    for one in turns
  ]
  assert text_of(changed, turns) == text_of(trained, wanted)


@pytest.mark.parametrize(
  'begin', ['\n', '\n\n  ', '  ', '{% if true %} x{% endif %}\n', '{#- a #}']
)
def test_an_own_template_begins_as_it_did(trained, begin):
  own = begin + CHATML.replace('{%- if', '{% if', 1)
  tok = copy.copy(trained)
  tok.chat_template = own
  wanted = text_of(tok, templates.render('An ode.', 'think', 'chat_short'))
  assert text_of(carrying(tok, 'think', 'chat_short'), asked('An ode.')) == wanted


def test_a_chat_without_a_template_is_refused():
  with pytest.raises(ValueError, match=r'data\.template=chat needs the chat template'):
    chat_template.build('think', 'chat', None)


def test_what_no_template_can_render_is_known(trained):
  tok = tokenizer.train(TEXTS, 300)
  tok.add_special_tokens({'additional_special_tokens': ['<|user|>']})
  assert not chat_template.carried(tok, 'think', 'pocket')[1]
  changed, exact = chat_template.carried(trained, 'think', 'chat_short')
  assert exact and changed.chat_template == carrying(trained, 'think', 'chat_short').chat_template
  assert trained.chat_template == CHATML


def test_a_special_token_that_a_user_typed_can_be_split_where_no_chat_is(loaded, trained):
  text = 'a <|endoftext|> b'
  (wanted,) = templates.prompt_ids(trained, [text], 'think', 'pocket')
  options = {'add_generation_prompt': True, 'tokenizer_kwargs': {'split_special_tokens': True}}
  tok = loaded('think', 'pocket')
  assert tok.apply_chat_template(asked(text), **options)['input_ids'] == wanted
  assert tok.apply_chat_template(asked(text), add_generation_prompt=True)['input_ids'] != wanted


def test_it_loops_over_messages_alone():
  """A loop over a message's content has vLLM send a list of parts; llama.cpp has none over text."""
  for style, template in ALL:
    loops = re.findall(r'\bfor \w+ in ([^%]+)%', chat_template.build(style, template, ' '))
    assert {loop.strip() for loop in loops} == {'messages'}
