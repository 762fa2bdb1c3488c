"""Prompt templates: the one renderer of training, rollout, evaluation and serving.

A prompt is a text, as the paper's models read it, or the messages of a chat, which the tokenizer's
own chat template renders: what an instruction-tuned model has learnt to answer.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lwz import types
from lwz.data import tokenizer as tokenizers

Prompt = str | Sequence[Mapping[str, Any]]

# Stop strings of the model card of LongWriter-Zero-32B.
STOPS = ('<|user|>', '<|endoftext|>', '</answer>')

# The card's think prompt, exact: the double full stops and the two blanks before <|user|> belong
# to it.
THINK_EN = (
  'A conversation between the user and the assistant. The user provides a writing/general task, '
  'and the assistant completes it. The assistant first deeply thinks through the '
  'writing/answering process in their mind before providing the final written work to the user. '
  'The assistant should engage in comprehensive and in-depth planning to ensure that every aspect '
  'of the writing/general task is detailed and well-structured. If there is any uncertainty or '
  'ambiguity in the writing request, the assistant should reflect, ask themselves clarifying '
  'questions, and explore multiple writing approaches to ensure the final output meets the highest '
  'quality standards. Since writing is both a creative and structured task, the assistant should '
  'analyze it from multiple perspectives, considering coherence, clarity, style, tone, audience, '
  'purpose, etc.. Additionally, the assistant should review and refine the work to enhance its '
  'expressiveness. The writing thought process and the final written work should be enclosed '
  'within <think> </think> and <answer> </answer> tags, respectively, as shown below: <think>A '
  'comprehensive strategy for writing that encompasses detailed planning and structural '
  'design—including brainstorming, outlining, style selection, audience adaptation, '
  'self-reflection, quality assurance, etc..</think> <answer>The final written work after thorough '
  'optimization and refinement.</answer>  <|user|>: {question} <|assistant|>:'
)
THINK_ZH = (
  '用户与助手之间的对话。用户提供一个写作/通用任务，助手完成它。助手首先在脑海中深入思考写作/回答过程，'
  '然后向用户提供最终的书面作品。助手应进行全面而深入的规划，确保写作/通用任务的每个方面都详细且结构合理。'
  '如果写作要求存在任何不确定性或歧义，助手应反思，向自己提出澄清性问题，并探索多种写作方式，'
  '以确保最终作品达到最高质量标准。由于写作是一个既富有创造性又需要结构性的任务，助手应从多个角度进行分析，'
  '考虑连贯性、清晰度、风格、语气、受众和目的，等等因素。'
  '此外，助手还应对作品进行审查和优化，以增强其表达效果。'
  '写作思考过程和最终的书面作品分别用 <think> </think> 和 <answer> </answer> 标签包裹，如下所示：'
  '<think>详细的写作规划和结构设计，可能包括头脑风暴、大纲制定、风格选择、受众适配、'
  '反思以及质量检查等等。</think> '
  '<answer>经过充分优化和润色的最终书面作品。</answer> <|用户|>: {question} <|助手|>:'
)

# The paper's direct prompt. Its role markers are not known, and neither is a Chinese one: the
# markers are those of the think prompt, and DIRECT_ZH is our own twin in the words of THINK_ZH.
DIRECT_EN = (
  'A conversation between the user and the assistant. The user provides a writing/general task, '
  'and the assistant completes it. The assistant directly provides the final written work. The '
  'final written work should be enclosed within <answer> tags, as shown below: <answer>Final '
  'written work.</answer>  <|user|>: {question} <|assistant|>:'
)
DIRECT_ZH = (
  '用户与助手之间的对话。用户提供一个写作/通用任务，助手完成它。助手直接提供最终的书面作品。'
  '最终的书面作品用 <answer> 标签包裹，如下所示：<answer>最终书面作品。</answer> '
  '<|用户|>: {question} <|助手|>:'
)

# The paper's think prompt is some 500 tokens of a vocabulary of 2,048: more than a pocket model's
# whole context.
POCKET_EN = {
  'think': (
    'Plan in <think> </think>, write in <answer> </answer>. <|user|>: {question} <|assistant|>:'
  ),
  'direct': 'Write in <answer> </answer>. <|user|>: {question} <|assistant|>:',
}
POCKET_ZH = {
  'think': (
    '在 <think> </think> 中构思，在 <answer> </answer> 中写作。 <|用户|>: {question} <|助手|>:'
  ),
  'direct': '在 <answer> </answer> 中写作。 <|用户|>: {question} <|助手|>:',
}

# template -> language -> style -> text
TEMPLATES = {
  'paper': {
    'en': {'think': THINK_EN, 'direct': DIRECT_EN},
    'zh': {'think': THINK_ZH, 'direct': DIRECT_ZH},
  },
  'pocket': {'en': POCKET_EN, 'zh': POCKET_ZH},
}
# Chats, whose instruction is that of another template, without its role markers.
CHATS = {'chat': 'paper', 'chat_short': 'pocket'}
NAMES = (*TEMPLATES, *CHATS)


def language(question: str) -> str:
  """'zh' where the text has a character of U+4E00 to U+9FFF, else 'en' (the card's rule)."""
  return 'zh' if re.search(r'[\u4e00-\u9fff]', question) else 'en'


def render(question: str, style: str, template: str) -> Prompt:
  """The prompt for a writing request, in the request's language; braces in it are left alone.

    render('Write an ode.', 'direct', 'pocket')
    == 'Write in <answer> </answer>. <|user|>: Write an ode. <|assistant|>:'
    render('Write an ode.', 'direct', 'chat_short')
    == [{'role': 'user', 'content': 'Write in <answer> </answer>.\\n\\nWrite an ode.'}]

  `style` is 'think' (plan, then answer) or 'direct' (answer only); `template` is 'paper' (as
  published) or 'pocket' (short, for models with a tiny context), or, for models that have learnt
  to chat, 'chat' or 'chat_short', with the same instructions. Raises ValueError for others.
  """
  before, after = parts(style, template, language(question))
  text = f'{before}{question}{after}'
  return [{'role': 'user', 'content': text}] if template in CHATS else text


def parts(style: str, template: str, language: str) -> tuple[str, str]:
  """Returns the texts before and after a request in a prompt, or in the message of a chat.

    parts('direct', 'pocket', 'en')
    == ('Write in <answer> </answer>. <|user|>: ', ' <|assistant|>:')
    parts('direct', 'chat_short', 'en') == ('Write in <answer> </answer>.\\n\\n', '')

  Raises ValueError for an unknown style or template.
  """
  _check(style)
  if template not in NAMES:
    raise ValueError(f'no template {template!r}; there are {sorted(NAMES)}')
  before, _, after = TEMPLATES[CHATS.get(template, template)][language][style].partition(
    '{question}'
  )
  if template not in CHATS:
    return before, after
  return re.split(r'<\|(?:user|用户)\|>', before)[0].strip() + '\n\n', ''


def ids(tokenizer: Any, prompts: Sequence[Prompt]) -> list[list[int]]:
  """The token ids of rendered prompts, without special tokens that a user typed.

  A text has neither bos nor eos; the special tokens of a chat are those of its template. There is
  always a token boundary between prompt and completion: they are tokenized separately.

  Raises ValueError if a prompt is a chat and the tokenizer has no template for it.
  """
  chats = [prompt for prompt in prompts if not isinstance(prompt, str)]
  if chats and not tokenizer.chat_template:
    raise ValueError(
      f'{tokenizer.name_or_path}: the tokenizer has no chat template, which the data.template of a '
      "chat needs; name one under data.chat_template, or set data.template='paper'"
    )
  rendered = iter(tokenizers.chat_ids(tokenizer, chats) if chats else ())
  plain = {'add_special_tokens': False, 'split_special_tokens': True}
  return [
    tokenizer.encode(prompt, **plain) if isinstance(prompt, str) else next(rendered)
    for prompt in prompts
  ]


def prompt_ids(
  tokenizer: Any, questions: Sequence[str], style: str, template: str
) -> list[list[int]]:
  """The token ids of the rendered prompts of writing requests, see `render` and `ids`."""
  return ids(tokenizer, [render(question, style, template) for question in questions])


def check(tokenizer: Any, style: str, template: str) -> None:
  """Raises ValueError if no completion of a prompt of this tokenizer could be well-formed."""
  (found,) = prompt_ids(tokenizer, ['Write.'], style, template)
  if tokenizer.decode(found).rstrip().endswith(types.THINK_OPEN):
    raise ValueError(
      f'data.template={template}: the chat template of {tokenizer.name_or_path} opens '
      f'{types.THINK_OPEN} itself, which the model would have to write: give a template that does '
      "not as data.chat_template, or set data.template='paper'"
    )


def completion(think: str, answer: str, style: str) -> str:
  """The well-formed completion of a prompt; `think` is not used in style 'direct'.

  completion('Plan.', 'Text.', 'think')
  == '<think>Plan.</think>\\n<answer>Text.</answer>'
  """
  _check(style)
  answer = f'{types.ANSWER_OPEN}{answer}{types.ANSWER_CLOSE}'
  if style == 'direct':
    return answer
  return f'{types.THINK_OPEN}{think}{types.THINK_CLOSE}\n{answer}'


def judged(question: str, answer: str) -> str:
  """The input of a reward model: the request and the answer, without template or thoughts."""
  return f'{question}\n\n{answer}'


def _check(style: str) -> None:
  if style not in types.STYLES:
    raise ValueError(f'no style {style!r}; there are {types.STYLES}')
