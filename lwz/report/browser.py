"""A browser of rollouts: one HTML page, and data files beside it that the page opens in pieces.

    rollouts.html              the page; it opens from a disk, without a network
    browser/run.js             facts of the run, and which index files there are
    browser/index-0000.js      a line per batch of 64 steps: the numbers of every sample
    browser/batch-000007-0.js  prompts and texts of a batch; size and log-probability of each token

Data files are scripts, since a page on a disk may not read files: each calls a function of the page
with one JSON value. A text is about 9 bytes per token.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lwz.report import page

INDEX_STEPS = 64  # steps of an index file, which is written anew at each of them
_PIECE = 4_000_000  # characters of a piece beyond which the next group begins another one
_LARGEST = 4_095  # number of a code
_GROUP = 16  # tokens that a character, or a decoder's whim, may join
_LINE = re.compile(r'^lwz\.batch\(\{"step":(\d{1,18}),.*\);\n', re.MULTILINE)
_DIGITS = np.frombuffer(
  b'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', np.uint8
)


def html(title: str) -> str:
  """Returns the page, which is the same for every run but for its title."""
  return page.TEMPLATES.get_template('browser.html.jinja').render(title=title)


def run(facts: Mapping[str, Any]) -> str:
  """Returns run.js."""
  return f'lwz.run({page.script_json(facts)});\n'


def line(batch: Mapping[str, Any]) -> str:
  """Returns the line of a batch in an index file; its first key is `step`."""
  return f'lwz.batch({page.script_json(batch)});\n'


def lines(index: str) -> list[tuple[int, str]]:
  """Returns the lines of an index file, each with its step; what is none is left out."""
  return [(int(found[1]), found[0]) for found in _LINE.finditer(index)]


def pieces(name: str, groups: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], list[int]]:
  """Returns the data files of a batch, NAME-0 and so on, and the number of each group's file.

  A group has `prompt` and, of each sample, `texts`, `sizes` and `logp`, see `encode`.
  """
  files: list[list[str]] = [[]]
  places = []
  for group in groups:
    text = page.script_json(group)
    if files[-1] and sum(map(len, files[-1])) + len(text) > _PIECE:
      files.append([])
    files[-1].append(text)
    places.append(len(files) - 1)
  named = {f'{name}-{i}': found for i, found in enumerate(files)}
  return {n: f'lwz.piece("{n}",[{",".join(found)}]);\n' for n, found in named.items()}, places


def encode(numbers: Sequence[int] | np.ndarray) -> str:
  """Returns two characters, digits to the base 64, for each number from 0 to 4,095.

  Of sizes, UTF-16 units of each token; of log-probabilities, hundredths of a nat below 0.

  >>> encode([0, 65, 9999])
  'AABB//'
  """
  kept = np.clip(np.asarray(numbers, np.int64), 0, _LARGEST)
  return _DIGITS[np.stack([kept >> 6, kept & 63], axis=-1).reshape(-1)].tobytes().decode()


def sizes(
  ids: Sequence[int],
  text: str,
  spell: Callable[[int], str],
  decode: Callable[[Sequence[int]], str],
) -> list[int]:
  """Returns the UTF-16 units of each token in the text of all of them; they add up to its units.

  `spell` is the text of one token behind another. Where it is not what stands in the text, as of a
  part of a character, tokens are joined until it is: the last of them has their text, the others 0.
  """
  found, start, position = [], 0, 0
  for i, token in enumerate(ids):
    piece = spell(token) if start == i else decode(ids[start : i + 1])
    if text.startswith(piece, position) or i - start == _GROUP or i + 1 == len(ids):
      end = len(text) if i + 1 == len(ids) else position + len(piece)
      units = len(text[position:end].encode('utf-16-le', 'surrogatepass')) // 2
      found += [0] * (i - start) + [units]
      start, position = i + 1, end
  return found
