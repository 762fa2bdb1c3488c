"""The prose of a technical text: paragraphs without code, tables and markup."""

import itertools
import re
import textwrap

from lwz import text as words

GAP = ''  # takes the place of a block that was left out

_FENCE = re.compile(r'^\s*(```|~~~|>>>|\.\.\.( |$)|\.\. |\$ |[-+|=]{3})')
_ITEM = re.compile(r'^\s*(?:[*+•-]|\(?\d{1,2}[.)])\s+')
_MARKUP = (
  (re.compile(r':[a-z]+(?::[a-z]+)?:`~?([^`<]+?)(?: <[^`>]*>)?`'), r'\1'),  # :class:`Path`
  (re.compile(r'``([^`]+)``|`([^`<]+?)(?: <[^`>]*>)?`_{0,2}'), r'\1\2'),  # ``x``, `x`, `x <link>`_
  (re.compile(r"``([^`']{1,60})''"), r'"\1"'),  # TeX's quotes
  (re.compile(r'(?<![\w*])\*{1,2}(\w[^*\n]*?)\*{1,2}(?![\w*])'), r'\1'),  # *x*, **x**
  (re.compile(r'"([A-Za-z_][\w.]*(?:\(\))?)"'), r'\1'),  # "None", as pydoc prints literals
  (re.compile(r'(?<=\w)\s*::?$'), ':'),  # the :: that announces a code block
  (re.compile(r'\s*\[\d+\](?=\s|[.,;]|$)'), ''),  # footnotes
)
_ANNOUNCES = re.compile(
  r'\b(is|are|as|by|to|with|like|in|of|examples?|instance|follow(s|ing)|these|this|below|syntax)$'
)
_SYMBOLS = re.compile(r'[_=<>{}\[\]|\\/+@#$%^&~*`]')
_END = re.compile(r'[.!?:。！？：…]["\'”’)）」』]*$')


def blocks(text: str) -> list[tuple[int, list[str]]]:
  """The blocks of lines between blank lines, each with the indent of its first line, in columns."""
  found = []
  for block in re.split(r'\n[ \t]*\n', text.expandtabs().replace('\r\n', '\n')):
    lines = [line.rstrip() for line in block.split('\n') if line.strip()]
    if lines:
      found.append((len(lines[0]) - len(lines[0].lstrip()), lines))
  return found


def unmark(text: str) -> str:
  """The text without reStructuredText's inline marks: ':class:`Path` is *not*' -> 'Path is not'."""
  for pattern, replacement in _MARKUP:
    text = pattern.sub(replacement, text)
  return text.strip()


def is_prose(paragraph: str) -> bool:
  """Whether a one-line paragraph is prose: a few words, few symbols, an end mark."""
  words = re.findall(r"[^\W\d_]{1,}(?:['’-][^\W\d_]+)*", paragraph)
  symbols = len(_SYMBOLS.findall(paragraph))
  han = len(re.findall(r'[\u4e00-\u9fff]', paragraph))
  return (
    (len(words) >= 4 or han >= 8)
    and symbols <= 0.035 * len(paragraph)
    and (paragraph[0].isalnum() or paragraph[0] in '"\'(“‘《「')
    and bool(_END.search(paragraph))
  )


def paragraphs(lines: list[str]) -> list[str]:
  """A block's paragraphs, unwrapped and without markup; [] for code, a table or a title.

  A list gives one paragraph per item, without its bullet.
  """
  if any(_FENCE.match(line) for line in lines):
    return []
  runs: list[list[str]] = []
  for line in textwrap.dedent('\n'.join(lines)).split('\n'):
    if not runs or _ITEM.match(line):
      runs.append([])
    runs[-1].append(_ITEM.sub('', line))
  unbroken = (re.sub(r'(?<=\w)-\n\s*(?=\w)', '-', '\n'.join(run)) for run in runs)
  flat = (unmark(re.sub(r'\s+', ' ', run)) for run in unbroken)
  return [paragraph for paragraph in flat if paragraph and is_prose(paragraph)]


def _without_colon(sentence: str) -> str:
  """The paragraph without a sentence that only announces a block with a colon."""
  bare = sentence.rstrip(' :：')
  return '' if _ANNOUNCES.search(bare) or len(words.words(bare)) < 8 else bare + '.'


def join(found: list[str]) -> str:
  """The paragraphs as one text; a sentence that only announces a `GAP` is left out too.

  join(['Lists grow. For example:', GAP, 'They shrink.']) == 'Lists grow.\\n\\nThey shrink.'
  """
  kept = []
  for paragraph, following in itertools.pairwise([*found, GAP]):
    if following == GAP and paragraph.endswith((':', '：')):
      last = words.sentences(paragraph)[-1]
      paragraph = paragraph[: paragraph.rindex(last)] + _without_colon(last)
      paragraph = paragraph.rstrip()
    if paragraph != GAP:
      kept.append(paragraph)
  return '\n\n'.join(kept)
