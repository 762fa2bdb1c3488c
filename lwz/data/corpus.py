"""Documents: titled texts to pretrain on, to imitate and to ask for."""

import collections.abc
import functools
import hashlib
import re

from etils import epath

from lwz import jsonl, types
from lwz import text as words
from lwz.data import embedded

_MIN_WORDS = 20  # of a document of the embedded corpus; shorter docstrings are labels, not texts
_SUFFIXES = ('.txt', '.md', '.jsonl')


def documents(folder: epath.PathLike = '') -> list[types.Document]:
  """Returns the documents of a corpus.

  Args:
    folder: '' for the embedded corpus, which every Python installation holds (its language
      reference and the docstrings of its standard library: English, technical). Else a folder,
      read recursively in sorted order: .txt and .md files, one document each, and .jsonl files
      with a document per line, fields `text` and perhaps `title`. A title that is not given is a
      short first line, else the name of the file.

  Returns:
    The documents, no two with the same words. Texts of a folder stay as they are, line ends and
    outer blanks apart.

  Raises:
    FileNotFoundError: no such folder, or nothing to read in it.
    ValueError: a file is not UTF-8, or a line is broken; the message names it.
  """
  if not str(folder):
    found = [*embedded.topics(), *embedded.docstrings()]
    return _distinct([d for d in found if d.title and len(words.words(d.text)) >= _MIN_WORDS])
  root = epath.Path(folder)
  if not root.is_dir():
    raise FileNotFoundError(f"{root}: no such folder; give one with .txt, .md or .jsonl, or ''")
  found = []
  for path in sorted(_files(root)):
    source = str(path.relative_to(root))
    if path.suffix == '.jsonl':
      found += jsonl.read(path, functools.partial(_from_record, source))[0]
    else:
      try:
        found.append(_titled(path.read_bytes().decode('utf-8-sig'), source, path.stem))
      except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not UTF-8 ({error.reason} at byte {error.start})') from error
  found = [document for document in found if document.text]
  if not found:
    raise FileNotFoundError(f'{root}: no text in it; expected {", ".join(_SUFFIXES)} files')
  return _distinct(found)


def _files(folder: epath.Path) -> collections.abc.Iterator[epath.Path]:
  """The readable files below a folder; epath has no recursive glob for buckets."""
  for path in folder.iterdir():
    if path.is_dir():
      yield from _files(path)
    elif path.suffix in _SUFFIXES:
      yield path


def _from_record(source: str, record: dict) -> types.Document:
  text = jsonl.field(record, 'text', str)
  title = jsonl.field(record, 'title', str, '')
  return types.Document(title, _plain(text), source) if title else _titled(text, source, source)


def _titled(text: str, source: str, fallback: str) -> types.Document:
  """A document titled by its first line if that looks like a title, else by `fallback`."""
  first, _, rest = _plain(text).partition('\n')
  if rest.strip() and len(first) <= 80 and not re.search(r'[.,;:。，；：]$', first):
    return types.Document(first.lstrip('# ').rstrip(), rest.strip(), source)
  return types.Document(fallback, _plain(text), source)


def _plain(text: str) -> str:
  return text.replace('\r\n', '\n').replace('\r', '\n').strip()


def _distinct(found: list[types.Document]) -> list[types.Document]:
  """The documents without repeats; case, blanks and punctuation make no difference."""
  first: dict[str, types.Document] = {}
  for document in found:
    first.setdefault(re.sub(r'\W+', '', document.text.lower()) or document.text, document)
  return list(first.values())


def fraction(text: str, salt: str = '') -> float:
  """A hash of the text as a number in [0, 1): the same on every machine and in every run.

  Independent decisions use different salts.
  """
  digest = hashlib.blake2b(text.encode(), digest_size=8, person=salt.encode()).digest()
  return (int.from_bytes(digest, 'big') >> 11) / 2**53


def split(
  found: list[types.Document], heldout: float
) -> tuple[list[types.Document], list[types.Document]]:
  """Training and held-out documents, in order: a share `heldout` of the titles, by their hash.

  All documents of one title are on the same side, and adding a document moves no other.
  """
  if not 0 <= heldout <= 1:
    raise ValueError(f'heldout is a share of the titles, in [0, 1], not {heldout}')
  held = [fraction(document.title, 'heldout') < heldout for document in found]
  return (
    [document for document, out in zip(found, held, strict=True) if not out],
    [document for document, out in zip(found, held, strict=True) if out],
  )


def spans(text: str) -> list[tuple[int, int]]:
  """(begin, end) of each sentence of the text; between them is white space."""
  found, start = [], 0
  for sentence in words.sentences(text):
    sentence = sentence.strip()
    start = text.index(sentence, start)
    found.append((start, start + len(sentence)))
    start += len(sentence)
  return found


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
  start, end = next(passages(document.text, lower, upper), (0, 0))
  return None if document.text[:start].strip() or not end else document.text[start:end]
