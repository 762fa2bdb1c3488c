"""Documents: titled texts to pretrain on, to imitate and to ask for."""

import collections.abc
import contextlib
import functools
import hashlib
import itertools
import re
import sqlite3
import sys

from etils import epath

from lwz import jsonl, types
from lwz import text as words
from lwz.data import embedded, files

_MIN_WORDS = 20  # of a document of the embedded corpus; shorter docstrings are labels, not texts
_TITLE = 80  # characters of a line that may be a title
_LONG_WORD = 100  # characters; an opening is looked for in as many of them as it may have words


def stream(folder: epath.PathLike = '') -> collections.abc.Iterator[types.Document]:
  """The documents of a corpus, one at a time, in memory that does not grow with the corpus.

  Args:
    folder: '' for the embedded corpus, which every Python installation holds (its language
      reference and the docstrings of its standard library: English, technical). Else a folder,
      read recursively in sorted order: .txt and .md files, one document each, and .jsonl and
      .parquet files with a document per line or row, fields `text` and perhaps `title`, or the
      `request` that the text answers; .gz of them, too. A title that is not given is a short first
      line, else the name of the text's file, or the first words of a record.

  Yields:
    The documents, no two with the same words. Texts of a folder stay as they are, line ends and
    outer blanks apart.

  Raises:
    FileNotFoundError: no such folder, or nothing to read in it.
    ValueError: a file is not UTF-8 or too large, or a line is broken; the message names it.
  """
  if not str(folder):
    yield from _embedded()
    return
  root = epath.Path(folder)
  if not root.is_dir():
    raise FileNotFoundError(f"{root}: no such folder; give one with .txt, .md or .jsonl, or ''")
  document = None
  for document in _distinct(d for d in _of_folder(root) if d.text):
    yield document
  if document is None:
    raise FileNotFoundError(f'{root}: no text in its files')


def sources(folder: epath.PathLike = '') -> list[str]:
  """Returns the sources of a corpus: its files, as paths in the folder, or the embedded ones."""
  if not str(folder):
    return list(embedded.SOURCES)
  root = epath.Path(folder)
  return [files.text(path.relative_to(root)) for path in _files(root)]


def size(folder: epath.PathLike) -> int:
  """Returns the bytes of the files of a corpus."""
  return sum(path.stat().length for path in _files(epath.Path(folder)))


def stamp(folder: epath.PathLike = '') -> str:
  """Returns a digest of names, sizes and times of a corpus's files: another one, other files."""
  if not str(folder):
    return sys.version
  digest = hashlib.sha256()
  for path in _files(epath.Path(folder)):
    digest.update(files.stamp(path).encode(errors='surrogateescape') + b'\0')
  return digest.hexdigest()


def _files(root: epath.Path) -> list[epath.Path]:
  return files.find(root, (*files.TEXTS, *files.RECORDS))


@functools.cache
def _embedded() -> tuple[types.Document, ...]:
  found = [*embedded.topics(), *embedded.docstrings()]
  kept = (d for d in found if d.title and len(words.words(d.text)) >= _MIN_WORDS)
  return tuple(_distinct(kept))


def _of_folder(root: epath.Path) -> collections.abc.Iterator[types.Document]:
  for path in _files(root):
    source = files.text(path.relative_to(root))
    if files.kind(path) in files.TEXTS:
      yield _titled(_decoded(path), source, files.stem(path))
    else:
      yield from jsonl.parsed(path, files.records(path), functools.partial(_from_record, source))


def _decoded(path: epath.Path) -> str:
  """The text of a file."""
  data, fault = jsonl.contents(path), ''
  try:
    text = data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    text, fault = '', f'{error.reason} at byte {error.start}'
  if b'\0' in data:
    fault = f'NUL at byte {data.index(0)}: UTF-16, or no text'
  if fault:
    raise ValueError(f'{path}: not UTF-8 ({fault}); convert it with iconv, or remove it')
  return text


def _from_record(source: str, record: dict) -> types.Document:
  text = jsonl.field(record, 'text', str)
  request = jsonl.field(record, 'request', str, '')
  if title := jsonl.field(record, 'title', str, '') or request:
    return types.Document(title, _plain(text), source, request)
  return _titled(text, source)


def _titled(text: str, source: str, name: str = '') -> types.Document:
  """A document titled by its first line if that looks like a title, else by name or first words."""
  text = _plain(text)
  first, _, rest = text.partition('\n')
  is_title = len(first) <= _TITLE and re.search(r'\w.*(?<![.,;:。，；：])$', first)
  if rest.strip() and is_title:
    return types.Document(first.lstrip('# ').rstrip(), rest.strip(), source)
  return types.Document(name or _opening(text) or source, text, source)


def _opening(text: str) -> str:
  """The first twelve words of a text, in Chinese characters."""
  found = [*itertools.islice(words.WORD.finditer(text[: 2 * _TITLE]), 12)]
  return ' '.join(text[: found[-1].end()].split()) if found else ''


def _plain(text: str) -> str:
  return text.replace('\r\n', '\n').replace('\r', '\n').strip()


def _distinct(
  found: collections.abc.Iterable[types.Document],
) -> collections.abc.Iterator[types.Document]:
  """The documents without repeats; case, blanks and punctuation make no difference."""
  # '' is a temporary file, partly in memory; a tokenizer is trained by a thread of its own.
  with contextlib.closing(sqlite3.connect('', check_same_thread=False)) as seen:
    seen.execute('PRAGMA synchronous=OFF')
    seen.execute('CREATE TABLE seen (digest INTEGER PRIMARY KEY)')
    for document in found:
      key = re.sub(r'\W+', '', document.text.lower()) or document.text
      digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
      row = (int.from_bytes(digest, 'big', signed=True),)
      if seen.execute('INSERT OR IGNORE INTO seen VALUES (?)', row).rowcount:
        yield document


def fraction(text: str, salt: str = '') -> float:
  """A hash of the text as a number in [0, 1): the same on every machine and in every run.

  Independent decisions use different salts.
  """
  digest = hashlib.blake2b(text.encode(), digest_size=8, person=salt.encode()).digest()
  return (int.from_bytes(digest, 'big') >> 11) / 2**53


def is_heldout(document: types.Document, share: float) -> bool:
  """Whether a document is held out: by the hash of its title, so that adding one moves no other.

  All documents of one title are on the same side.
  """
  if not 0 <= share <= 1:
    raise ValueError(f'heldout is a share of the titles, in [0, 1], not {share}')
  return fraction(document.title, 'heldout') < share


def split(
  found: collections.abc.Iterable[types.Document], heldout: float
) -> tuple[list[types.Document], list[types.Document]]:
  """Training and held-out documents, in order: a share `heldout` of the titles."""
  parts: tuple[list[types.Document], list[types.Document]] = ([], [])
  for document in found:
    parts[is_heldout(document, heldout)].append(document)
  return parts


def spans(text: str) -> list[tuple[int, int]]:
  """(begin, end) of each sentence of the text; between them is white space."""
  return [(at, at + len(sentence)) for at, sentence in words.placed(text)]


def passages(text: str, lower: int, upper: int) -> collections.abc.Iterator[tuple[int, int]]:
  """(begin, end) of consecutive passages of whole sentences, each as long as `upper` words allow.

  A passage of fewer than `lower` words is left out, and so is a sentence longer than `upper`.
  """
  if not 0 < lower <= upper:
    raise ValueError(f'expected 0 < lower <= upper, in words, not {lower} and {upper}')
  start, end, num_words = 0, 0, 0
  for first, last in spans(text):
    size = words.count_words(text[first:last])
    if num_words + size > upper or size > upper:
      if num_words >= lower:
        yield start, end
      start, num_words = (first, size) if size <= upper else (last, 0)
    else:
      start, num_words = (start if start < end else first), num_words + size
    end = last
  if num_words >= lower:
    yield start, end


def passage(document: types.Document, lower: int, upper: int) -> str | None:
  """The document's opening: its first whole sentences, of `lower` to `upper` words; else None.

  It is as long as `upper` allows, and verbatim, paragraphs included.
  """
  text = document.text[: _LONG_WORD * (upper + 20)]
  start, end = next(passages(text, lower, upper), (0, 0))
  return None if text[:start].strip() or not end else text[start:end]


def beginnings(text: str, num: int, least: int) -> list[str]:
  """Returns at most `num` openings of a text: whole sentences, evenly spread, itself the last.

  None has fewer than `least` words.
  """
  ends = [end for _, end in spans(text) if words.count_words(text[:end]) >= least]
  num = min(num, len(ends))
  return [text[: ends[(i + 1) * len(ends) // num - 1]] for i in range(num)]


def openings(
  found: collections.abc.Iterable[types.Document], lower: int, upper: int, *, every: bool = False
) -> collections.abc.Iterator[tuple[types.Document, str]]:
  """Yields the documents that have a `passage` of `lower` to `upper` words, and that passage.

  Parts of another document, for which its request is restated, are left out unless `every`: what
  is judged by requests would see one text under several.
  """
  if not every:
    found = list(found)
    own = {d.title for d in found if d.request and d.request == d.title}
    found = [d for d in found if d.request in ('', d.title) or d.title not in own]
  passages = ((document, passage(document, lower, upper)) for document in found)
  return ((document, text) for document, text in passages if text is not None)
