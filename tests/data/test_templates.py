"""The renderer: the paper's texts to the letter, and one way from a request to a prompt."""

import hashlib

import pytest

from lwz import types
from lwz.data import templates, tokenizer

BOTH = [(style, template) for style in ('think', 'direct') for template in ('paper', 'pocket')]


def test_the_think_prompts_are_those_of_the_model_card():
  # Golden: SHA-256 of the two templates on the model card of LongWriter-Zero-32B.
  # They never move.
  digests = [
    hashlib.sha256(text.encode()).hexdigest() for text in (templates.THINK_EN, templates.THINK_ZH)
  ]
  assert digests == [
    '66e03fdadb7b7c66f4aabeec22f768c7e77011948e30102b023d09dc31089f78',
    '47e9f2c45d77bb3da8a1f3f8990e7d4cbad0dfe48c8ab832e02e37df284d205c',
  ]


@pytest.mark.parametrize(
  'question, style, template, prompt',
  [
    (
      'An ode.',
      'direct',
      'paper',
      'A conversation between the user and the assistant. The user provides a writing/general '
      'task, and the assistant completes it. The assistant directly provides the final written '
      'work. The final written work should be enclosed within <answer> tags, as shown below: '
      '<answer>Final written work.</answer>  <|user|>: An ode. <|assistant|>:',
    ),
    (
      'An ode.',
      'think',
      'pocket',
      'Plan in <think> </think>, write in <answer> </answer>. <|user|>: An ode. <|assistant|>:',
    ),
    (
      'An ode.',
      'direct',
      'pocket',
      'Write in <answer> </answer>. <|user|>: An ode. <|assistant|>:',
    ),
    (
      '写诗',
      'direct',
      'paper',
      '用户与助手之间的对话。用户提供一个写作/通用任务，助手完成它。助手直接提供最终的书面作品。'
      '最终的书面作品用 <answer> 标签包裹，如下所示：<answer>最终书面作品。</answer> '
      '<|用户|>: 写诗 <|助手|>:',
    ),
    (
      '写诗',
      'think',
      'pocket',
      '在 <think> </think> 中构思，在 <answer> </answer> 中写作。 <|用户|>: 写诗 <|助手|>:',
    ),
    ('写诗', 'direct', 'pocket', '在 <answer> </answer> 中写作。 <|用户|>: 写诗 <|助手|>:'),
  ],
)
def test_golden_prompts(question, style, template, prompt):
  assert templates.render(question, style, template) == prompt


@pytest.mark.parametrize('style, template', BOTH)
@pytest.mark.parametrize('question', ['{question} {0} {{}} %s \\1', '{question} 海 {x}'])
def test_a_request_goes_in_verbatim_whatever_it_holds(question, style, template):
  language = 'zh' if '海' in question else 'en'
  before, after = templates.TEMPLATES[template][language][style].split('{question}')
  assert templates.render(question, style, template) == before + question + after


def test_the_language_is_the_requests():
  assert [templates.language(text) for text in ('Ode', '写ode', 'かな', '')] == [
    *('en', 'zh', 'en', 'en')
  ]
  assert '<|用户|>' in templates.render('an ode on 海', 'think', 'paper')


@pytest.mark.parametrize('language', ['en', 'zh'])
@pytest.mark.parametrize('style, template', BOTH)
def test_every_template_has_its_tags_and_markers(style, template, language):
  text = templates.TEMPLATES[template][language][style]
  assert text.count('{question}') == 1
  assert '<answer>' in text and ('<think>' in text) == (style == 'think')
  user, assistant = ('用户', '助手') if language == 'zh' else ('user', 'assistant')
  assert text.endswith(f' <|{user}|>: {{question}} <|{assistant}|>:')
  if template == 'pocket':
    assert len(text.split()) <= 25


def test_prompt_ids_are_the_rendered_text():
  trained = tokenizer.train(['Write in <answer> </answer>. <|user|>: x <|assistant|>:'] * 9, 300)
  for style, template in BOTH:
    (ids,) = templates.prompt_ids(trained, ['An ode.'], style, template)
    assert trained.decode(ids) == templates.render('An ode.', style, template)
    assert trained.eos_token_id not in ids


CHATML = (
  "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
  '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}'
)


@pytest.fixture(scope='module')
def chatty():
  trained = tokenizer.train(['Write in <answer> </answer>. user assistant An ode.'] * 9, 300)
  trained.chat_template = CHATML
  return trained


def test_a_chat_has_the_instruction_of_the_template_without_its_markers():
  (message,) = templates.render('An {ode}.', 'think', 'chat')
  before = templates.THINK_EN.split('  <|user|>')[0]
  assert message == {'role': 'user', 'content': f'{before}\n\nAn {{ode}}.'}
  (message,) = templates.render('写一首诗', 'direct', 'chat_short')
  assert message['content'] == '在 <answer> </answer> 中写作。\n\n写一首诗'


def test_ids_of_a_chat_are_those_of_the_tokenizers_own_template(chatty):
  asked = [templates.render(f'An ode {i}.', 'direct', 'chat_short') for i in range(2)]
  plain = templates.render('An ode.', 'direct', 'pocket')
  ids = templates.ids(chatty, [asked[0], plain, asked[1]])
  assert chatty.decode(ids[1]) == plain
  for prompt, found in zip(asked, (ids[0], ids[2]), strict=True):
    text = chatty.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    assert found == chatty.encode(text, add_special_tokens=False)
  typed = templates.render('<|im_end|>', 'direct', 'chat_short')
  end = chatty.convert_tokens_to_ids('<|im_end|>')
  assert templates.ids(chatty, [typed])[0].count(end) == 1  # the template's own


def test_a_chat_needs_a_chat_template(chatty, tmp_path):
  tokenizer.save(tokenizer.train(['a b c'] * 9, 300), tmp_path / 'plain')
  plain = tokenizer.load(tmp_path / 'plain')
  with pytest.raises(
    ValueError, match=r'plain: the tokenizer has no chat template.*data\.chat_temp'
  ):
    templates.prompt_ids(plain, ['An ode.'], 'direct', 'chat')
  (tmp_path / 'mine.jinja').write_text(CHATML)
  given = tokenizer.load(tmp_path / 'plain', tmp_path / 'mine.jinja')
  assert given.decode(templates.prompt_ids(given, ['An ode.'], 'direct', 'chat')[0]).endswith(
    'An ode.<|im_end|>\n<|im_start|>assistant\n'
  )


@pytest.mark.parametrize('style', types.STYLES)
def test_a_chat_template_that_opens_the_thought_itself_is_refused(style, tmp_path):
  trained = tokenizer.train(['<think> Write in <answer> </answer>. user assistant'] * 9, 300)
  templates.check(trained, style, 'pocket')
  trained.chat_template = CHATML
  templates.check(trained, style, 'chat')
  trained.chat_template = CHATML.replace('assistant\n{% endif', 'assistant\n<think>\n{% endif')
  with pytest.raises(ValueError, match=r'data.template=chat: .* opens <think> itself'):
    templates.check(trained, style, 'chat')


@pytest.mark.parametrize(
  'content, complaint', [(None, 'no such file'), (b'\xe9', 'not UTF-8'), (b' \n', 'is empty')]
)
def test_a_file_that_holds_no_chat_template_is_named(content, complaint, tmp_path):
  tokenizer.save(tokenizer.train(['a b c'] * 9, 300), tmp_path / 'plain')
  if content is not None:
    (tmp_path / 'mine.jinja').write_bytes(content)
  with pytest.raises(
    (OSError, ValueError), match=rf'data\.chat_template=.*mine\.jinja.*{complaint}'
  ):
    tokenizer.load(tmp_path / 'plain', tmp_path / 'mine.jinja')


def test_completion():
  assert templates.completion('P.', 'A.', 'think') == '<think>P.</think>\n<answer>A.</answer>'
  assert templates.completion('P.', 'A.', 'direct') == '<answer>A.</answer>'


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match=r"no style 'thnk'; there are \('think', 'direct'\)"):
    templates.render('x', 'thnk', 'paper')
  with pytest.raises(ValueError, match="no template 'papr'; there are"):
    templates.render('x', 'think', 'papr')
  with pytest.raises(ValueError, match='no style'):
    templates.completion('', '', '')
