"""Writes one text to the terminal while it comes into being.

1. read the model, and how it is asked          runtime.policy
2. write, block by block                        rollout.local
3. show what is new, thoughts dimmed            rich

It keeps nothing, so it has no folder, and a second start writes again.
"""

import sys
from collections.abc import Callable, Sequence

import numpy as np
import rich.console
import rich.text

from lwz import types
from lwz.data import templates
from lwz.rollout import local, scheduler
from lwz.runtime import policy

# What a terminal would obey, as Unicode's symbols for it.
_CODES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in '\n\t'}
_CODES |= dict.fromkeys(range(0x7F, 0xA0), '\N{SYMBOL FOR DELETE}')
_SLOTS = 32  # prompts that are answered at a time
_UNFINISHED = '\N{REPLACEMENT CHARACTER}'  # a character of which not all bytes are written


READS = (*policy.READS, 'prompt')


def check(c) -> None:
  if not c.prompt:
    raise ValueError('prompt is empty: ask for something, --config.prompt="Write ..."')
  policy.check(c)


def run(c) -> None:
  printer = Printer(rich.console.Console(file=sys.stdout, highlight=False))
  stats = scheduler.Stats()
  (completion,) = write(c, [c.prompt], lambda index, text: printer.show(text), stats)
  printer.show(completion.text, last=True)
  cut = f'cut at rollout.max_tokens={c.rollout.max_tokens}'
  ended = 'to its end' if completion.finished else cut
  print(f'{stats.tokens:,} tokens, {stats.tokens / stats.seconds:.3g} per second, {ended}')


def write(
  c,
  prompts: Sequence[str],
  on_text: Callable[[int, str], None] | None = None,
  stats: scheduler.Stats | None = None,
) -> list[local.Completion]:
  """Returns the completion of each prompt by the model that `c.init` names; see `local.stream`."""
  model = policy.describe(c)
  ids = [np.array(one, np.int32) for one in model.ids(prompts)]
  if (longest := max(map(len, ids))) > c.rollout.max_prompt_tokens:
    raise ValueError(
      f'the prompt has {longest} tokens, more than rollout.max_prompt_tokens='
      f'{c.rollout.max_prompt_tokens}: raise it, or shorten the prompt'
    )
  engine, params = policy.engine(c, model, min(len(ids), c.rollout.slots or _SLOTS))
  asked = local.requests(
    ids,
    num_samples=1,
    max_tokens=c.rollout.max_tokens,
    min_tokens=c.rollout.min_tokens,
    seed=c.seed,
    step=0,
  )
  found = local.stream(
    engine,
    params,
    asked,
    decode=model.decoder(),
    stops=templates.STOPS,
    on_text=on_text,
    stats=stats,
  )
  return sorted(found, key=lambda completion: completion.index)


class Printer:
  """Writes a growing text to a console, each part once; what is thought before the answer, dimmed.

  >>> printer = Printer(rich.console.Console())
  >>> printer.show('<think>A plan'); printer.show('<think>A plan.</think> A text.', last=True)
  <think>A plan.</think> A text.
  """

  def __init__(self, console: rich.console.Console):
    self._console, self._shown = console, 0

  def show(self, text: str, *, last: bool = False) -> None:
    """`text` is all that was written so far; with `last`, the line is ended."""
    whole = text if last else text.rstrip(_UNFINISHED)
    thought = self._thought(whole)
    for start, end, style in ((0, thought, 'dim'), (thought, len(whole), '')):
      part = whole[max(start, self._shown) : end]
      if part and self._console.is_terminal:
        shown = rich.text.Text(part.translate(_CODES), style)
        self._console.print(shown, end='', soft_wrap=True)
      elif part:
        self._console.file.write(part)
    self._shown = max(self._shown, len(whole))
    if last:
      self._console.print()
    self._console.file.flush()

  def _thought(self, text: str) -> int:
    """How much of the text, from its beginning, is thought."""
    begun = text.lstrip()[: len(types.THINK_OPEN)]  # of the tag, perhaps, only a part
    if not types.THINK_OPEN.startswith(begun):
      return 0
    before, closed, _ = text.partition(types.THINK_CLOSE)
    return len(before) + len(closed)
