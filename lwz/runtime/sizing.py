"""Numbers of the size `small` that follow from the model it begins with and from the prompts.

The other sizes state theirs in experiments/base.py. There, a key of `OPEN` that is 0 at `small` is
left to `fill`; one that the user sets stays.
"""

from lwz import rows
from lwz import text as words
from lwz.data import prompts, templates, tokenizer
from lwz.runtime import keys, setup, tokenizers
from lwz.store import model_source

SMALL = 'small'
BEGIN = 'base_model'  # as the value of init: what the key of this name holds
# Tokens of tags and of a plan, see `data.formatted`.
_PLANS = {'short': 96, 'full': 192, 'countdown': 192}
OPEN = (
  *('data.lower', 'data.upper', 'data.row_length', 'reward.max_words'),
  *('rollout.max_prompt_tokens', 'rollout.max_tokens'),
)


def settle(c) -> None:
  """Makes a config ready for use: paths expanded, numbers filled in, bounds and names checked."""
  keys.expand_paths(c)
  fill(c)
  keys.check(c)


def fill(c) -> None:
  """Gives init and the keys of OPEN their values, where they are left open.

    data.lower       half of the least words that a prompt asks for
    data.upper       3/2 of the most words
    max_words        twice the most words: there, the length reward is 0
    max_prompt_tokens  those of the longest rendered prompt
    max_tokens       those of 5/4 of the most words, and of a plan
    row_length       both together: a trajectory fits a row

  Raises ValueError if no model is named, or if it has fewer positions than that.
  """
  if c.size != SMALL:
    return
  if c.init == BEGIN and c.base_model:
    c.init = c.base_model
  if not c.base_model:
    raise ValueError(
      f'size {SMALL} names no model: name the one to begin with, as '
      '--config.base_model=HuggingFaceTB/SmolLM2-135M-Instruct, a folder, or a GGUF file'
    )
  if c.init == 'random':
    raise ValueError(f"init='random': size {SMALL} has no shape of its own; name a model or a run")
  named = setup.size_name(c, SMALL)  # it may end with -small itself
  if c.name.endswith(f'-{SMALL}') and not c.name.endswith(f'-{named}'):
    c.name = f'{c.name.removesuffix(SMALL)}{named}'
  left = [key for key in OPEN if not keys.get(c, key)]
  if left:
    found = _numbers(c)
    for key in left:
      keys.set_value(c, key, found[key])
    _check(c)


def _numbers(c) -> dict[str, int]:
  """Returns a value for each key of OPEN."""
  if not c.data.prompts:
    raise ValueError(
      f'data.prompts is empty: size {SMALL} takes its lengths from a file of prompts'
    )
  asked = prompts.load(setup.input_file(c, 'data.prompts'))
  if not asked:
    raise ValueError(f'data.prompts={c.data.prompts}: the file has no prompts; name another')
  tok = tokenizers.load(c.data.tokenizer or c.base_model, c.data.chat_template)
  texts = [prompt.text for prompt in asked]
  least, most = min(prompt.lower for prompt in asked), max(prompt.upper for prompt in asked)
  sizes = [
    len(ids)
    for style in ('think', 'direct')
    for ids in templates.prompt_ids(tok, texts, style, c.data.template)
  ]
  encoded = tokenizer.encode(tok, texts, end=False)
  per_word = sum(map(len, encoded)) / max(1, sum(words.count_words(text) for text in texts))
  longest = rows.bucket(max(sizes), 16)
  budget = rows.bucket(round(1.25 * most * max(per_word, 1.0)) + _PLANS[c.data.plan], 32)
  return {
    'data.lower': max(1, least // 2),
    'data.upper': most * 3 // 2,
    'reward.max_words': 2 * most,
    'rollout.max_prompt_tokens': longest,
    'rollout.max_tokens': budget,
    'data.row_length': rows.bucket(
      (c.rollout.max_prompt_tokens or longest) + (c.rollout.max_tokens or budget), 64
    ),
  }


def _check(c) -> None:
  positions = model_source.config(c.base_model).num_positions
  if c.data.row_length > positions:
    raise ValueError(
      f'data.prompts={c.data.prompts}: its longest prompt and answer take {c.data.row_length} '
      f'tokens, more than the {positions} positions of base_model={c.base_model}; drop the longest '
      'prompts, or lower rollout.max_tokens and data.row_length'
    )
