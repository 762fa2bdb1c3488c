"""Writes texts: one to the terminal while it comes into being, or several into a folder.

1. take the prompts, with the words that each asks for    data.prompts
2. read the model, and how it is asked                    runtime.policy
3. write, block by block, from where it stopped           rollout.local, store.drafts
4. show what is new, thoughts dimmed, or how far it is    rich, report.terminal
5. rank the drafts of each prompt                         rl.registry

It has no run folder: without `generate.folder` it keeps nothing, and a second start writes again.
"""

import contextlib
import dataclasses
import functools
import math
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import rich.console
import rich.text

from lwz import text as words_lib
from lwz import types
from lwz.data import formatted, prompts, templates
from lwz.evals import answers
from lwz.report import table, terminal
from lwz.rl import best_of, registry
from lwz.rollout import local, scheduler, stops
from lwz.runtime import policy, setup
from lwz.store import checksum, drafts

# What a terminal would obey, as Unicode's symbols for it.
_CODES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in '\n\t'}
_CODES |= dict.fromkeys(range(0x7F, 0xA0), '\N{SYMBOL FOR DELETE}')
_SLOTS = 32  # texts that are written at a time
_UNFINISHED = '\N{REPLACEMENT CHARACTER}'  # a character of which not all bytes are written
_ENDS = {'end': 'to its end', 'length': 'cut at rollout.max_tokens', 'loop': 'stopped in a loop'}


OnText = Callable[[int, str, bool], None]
READS = (*policy.READS, *registry.READS, 'prompt', 'data.slack', 'generate')


def check(c) -> None:
  if not c.generate.prompts and not c.prompt:
    raise ValueError('prompt is empty: ask for something, --config.prompt="Write ..."')
  if c.generate.loop == 1:
    raise ValueError('generate.loop=1: a token alone is no loop; choose 0 or at least 2')
  if len(_asked(c)) * c.generate.drafts > 1 and not c.generate.folder:
    raise ValueError('generate.folder is empty: several texts need a folder that keeps them')
  policy.check(c)
  num, room = c.generate.words, c.rollout.max_tokens
  if num > room and any(templates.language(one.text) == 'en' for one in _asked(c)):
    # A word takes a token at least; a token may be several characters of Chinese.
    positions = setup.expected(c, c.init).num_positions
    raise ValueError(
      f'generate.words={num}: so many words, of a token at least each, do not fit '
      f'rollout.max_tokens={room}: ask for fewer, or raise it, to the '
      f'{positions - c.rollout.max_prompt_tokens} tokens that the {positions} positions of '
      f'init={c.init} leave beside the prompt'
    )
  if c.reward.model:
    registry.check_rewards(c)


def run(c) -> None:
  asked, num_drafts = _asked(c), c.generate.drafts
  stats = scheduler.Stats()
  kept = drafts.Drafts(c.generate.folder) if c.generate.folder else None
  with _shown(c, asked, kept) as on_text:
    found = write(c, [p.text for p in asked], on_text, stats, num_drafts=num_drafts, kept=kept)
  marks = {}
  if len(found) > 1:
    print(f'{len(found)} texts in {c.generate.folder}')
    marks = _ranked(c, asked, found) if num_drafts > 1 and c.reward.model else {}
    print(_table(asked, found, num_drafts, marks))
  for number, prompt_drafts in enumerate(_grouped(found, num_drafts) if marks else ()):
    best = max(prompt_drafts, key=lambda one: np.nan_to_num(marks[one.index], nan=-1.0))
    assert kept
    kept.save_best(number, best.text)
    print(f'prompt {number + 1}: draft {best.index % num_drafts + 1} is the best')
  pace = f'{stats.tokens:,} tokens, {stats.tokens / max(stats.seconds, 1e-9):.3g} per second'
  if len(found) > 1:
    print(pace)
    return
  length = f'{_words(found[0].text):,} words'
  if asked[0].upper:
    length += f' of {asked[0].lower:,} to {asked[0].upper:,} asked for'
  ended = _ENDS[_end(found[0])].replace('max_tokens', f'max_tokens={c.rollout.max_tokens}')
  print(f'{pace}, {length}, {ended}')


def write(
  c,
  requests: Sequence[str],
  on_text: OnText | None = None,
  stats: scheduler.Stats | None = None,
  *,
  num_drafts: int = 1,
  kept: drafts.Drafts | None = None,
) -> list[local.Completion]:
  """Returns what the model that `c.init` names writes to requests, see `local.stream`.

  Draft g of request p has the index p * num_drafts + g. With `kept` each goes on where it stopped.
  `on_text` is called with an index, the text so far, and whether it has ended: after each block, or
  with `kept` whenever a text is saved.
  """
  model = policy.describe(c)
  ids = [np.array(one, np.int32) for one in model.ids(requests)]
  if (longest := max(map(len, ids))) > c.rollout.max_prompt_tokens:
    raise ValueError(
      f'the prompt has {longest} tokens, more than rollout.max_prompt_tokens='
      f'{c.rollout.max_prompt_tokens}: raise it, or shorten the prompt'
    )
  limits = {'max_tokens': c.rollout.max_tokens, 'min_tokens': c.rollout.min_tokens}
  wanted = local.requests(ids, num_samples=num_drafts, **limits, seed=c.seed, step=0)
  begun = [drafts.Draft(requests[i // num_drafts]) for i in range(len(wanted))]
  if kept:
    begun = [kept.load(*divmod(i, num_drafts), one.prompt) for i, one in enumerate(begun)]
  wanted = [
    dataclasses.replace(request, begun=np.array(one.ids, np.int32))
    for request, one in zip(wanted, begun, strict=True)
  ]
  todo = [i for i, one in enumerate(begun) if not one.ended]
  num_slots = max(1, min(len(todo), c.rollout.slots or _SLOTS))
  params = policy.load(c, model)
  if kept:
    kept.begin(_settings(c, model, params, ids))
  room = {  # a text that goes on is read, and has less to write
    'max_prompt_tokens': max([c.rollout.max_prompt_tokens, *(len(wanted[i].ids) for i in todo)]),
    'max_tokens': max([1, *(c.rollout.max_tokens - len(wanted[i].begun) for i in todo)]),
  }
  engine, params = policy.engine(c, model, params, num_slots, **room)
  decode = model.decoder()
  tell = on_text or (lambda index, text, ended: None)

  def on_ids(number: int, new: np.ndarray) -> None:
    assert kept
    i = todo[number]
    # Not the last token, which may have ended the text: it is sampled once more.
    one = dataclasses.replace(begun[i], ids=tuple(new[:-1].tolist()))
    text = kept.save(*divmod(i, num_drafts), one, lambda: decode(new))
    if text is not None:
      tell(i, text, False)

  def on_block(number: int, text: str) -> None:
    tell(todo[number], text, False)

  found = {}
  for done in local.stream(
    engine,
    params,
    [wanted[i] for i in todo],
    decode=decode,
    stops=templates.STOPS,
    loop=c.generate.loop,
    on_text=on_block if on_text and not kept else None,
    on_ids=on_ids if kept else None,
    stats=stats,
  ):
    i = todo[done.index]
    found[i] = dataclasses.replace(done, index=i)
    tell(i, done.text, True)
    if kept:
      one = dataclasses.replace(begun[i], ids=tuple(done.ids.tolist()), ended=_end(done))
      kept.save(*divmod(i, num_drafts), one, functools.partial(str, done.text))
  for i, one in enumerate(begun):
    if one.ended:
      found[i] = _completion(i, one, decode)
      tell(i, found[i].text, True)
  return [found[i] for i in sorted(found)]


def _asked(c) -> list[types.Prompt]:
  """Returns the prompts; one without a stated length has the range 0 to 0."""
  found = [types.Prompt('', c.prompt, 0, 0)]
  if c.generate.prompts:
    found = prompts.load(c.generate.prompts, ranged=False)
    if not found:
      raise ValueError(f'generate.prompts={c.generate.prompts}: the file has no prompts')
  if not (num := c.generate.words):
    return found
  lower, upper = round(num * (1 - c.data.slack)), round(num * (1 + c.data.slack))
  return [
    dataclasses.replace(one, text=formatted.asking(one.text, num), lower=lower, upper=upper)
    for one in found
  ]


def _settings(c, model: policy.Policy, params: Any, ids: Sequence[np.ndarray]) -> dict[str, Any]:
  """Returns what determines the tokens of the texts."""
  names = ('max_tokens', 'min_tokens', 'top_p', 'top_k', 'temperature', 'int8')
  found = {name: c.rollout[name] for name in names}
  if c.rollout.weights != 'float':
    found['kind of weights'] = c.rollout.weights
  found |= {'weights': checksum.of(params), 'stop ids': list(model.sampling.stop_ids)}
  found |= {'prompts': zlib.crc32(np.concatenate(ids).tobytes())}
  return found | {'seed': c.seed, 'drafts': c.generate.drafts, 'loop': c.generate.loop}


def _end(done: local.Completion) -> str:
  return 'loop' if done.looped else 'end' if done.finished else 'length'


def _completion(index: int, kept: drafts.Draft, decode) -> local.Completion:
  """Returns a text that an earlier start has finished."""
  ids, finished = np.array(kept.ids, np.int32), kept.ended != 'length'
  text = stops.cut(decode(ids), templates.STOPS)
  zeros = np.zeros(len(ids), np.float32)
  return local.Completion(index, ids, zeros, finished, text, kept.ended == 'loop')


def _words(text: str) -> int:
  return words_lib.count_words(answers.final(text))


def _grouped(found: Sequence[local.Completion], size: int) -> list[Sequence[local.Completion]]:
  return [found[i : i + size] for i in range(0, len(found), size)]


@contextlib.contextmanager
def _shown(c, asked: Sequence[types.Prompt], kept) -> Iterator[OnText]:
  """Gives what is told of growing texts: one is printed, of several their words are counted."""
  if len(asked) * c.generate.drafts == 1 and not kept:
    printer = Printer(rich.console.Console(file=sys.stdout, highlight=False))
    yield lambda index, text, ended: printer.show(text, last=ended)
    return
  total = len(asked) * c.generate.drafts
  num_words: dict[int, int] = {}
  done: set[int] = set()
  with terminal.Progress(total, label='generate', unit='text') as bar:

    def count(index: int, text: str, ended: bool) -> None:
      num_words[index] = _words(text)
      done.update({index} if ended else ())
      bar.update(len(done), words=sum(num_words.values()))

    yield count


def _ranked(c, asked, found: Sequence[local.Completion]) -> dict[int, float]:
  """Returns the reward model's mark of each answer; NaN where it cannot read it."""
  scorer = registry.scorer(c, setup.mesh(c), c.reward.model)
  owners = [asked[one.index // c.generate.drafts].text for one in found]
  pairs = [(text, one.text) for text, one in zip(owners, found, strict=True)]
  values = best_of.marks(scorer, pairs)
  return {one.index: value for one, value in zip(found, values, strict=True)}


def _table(asked, found: Sequence[local.Completion], num_drafts: int, marks) -> str:
  header = ('prompt', 'draft', 'words', 'asked', 'tokens', 'end', *(['mark'] if marks else []))
  rows = []
  for one in found:
    prompt = asked[one.index // num_drafts]
    wanted = f'{prompt.lower} to {prompt.upper}' if prompt.upper else '-'
    mark = [marks.get(one.index, math.nan)] if marks else []
    place = one.index // num_drafts + 1, one.index % num_drafts + 1
    rows.append((*map(str, place), _words(one.text), wanted, len(one.ids), _end(one), *mark))
  return table.markdown('texts', header, rows)


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
