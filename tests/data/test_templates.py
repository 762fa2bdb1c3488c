"""The renderer: the paper's texts to the letter, and one way from a request to a prompt."""

import hashlib

import pytest

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
    ids = templates.prompt_ids(trained, 'An ode.', style, template)
    assert trained.decode(ids) == templates.render('An ode.', style, template)
    assert trained.eos_token_id not in ids


def test_completion():
  assert templates.completion('P.', 'A.', 'think') == '<think>P.</think>\n<answer>A.</answer>'
  assert templates.completion('P.', 'A.', 'direct') == '<answer>A.</answer>'


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match=r"no style 'thnk'; there are \('think', 'direct'\)"):
    templates.render('x', 'thnk', 'paper')
  with pytest.raises(ValueError, match=r"no template 'papr'; there are \['paper', 'pocket'\]"):
    templates.render('x', 'think', 'papr')
  with pytest.raises(ValueError, match='no style'):
    templates.completion('', '', '')
