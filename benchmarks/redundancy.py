"""Redundancy of honest formal texts and of cheats, at an earlier commit and now, as a table.

  python benchmarks/redundancy.py --packages FOLDER --before fdd8da4 --out results/redundancy.md

FOLDER receives the packages of Debian 12 that `apt-get download` brings; those that lie there are
taken. Every file of FILES is a text, in Markdown and without program listings, if it
has at least 1,500 words (a Han character is one), in Chinese six tenths of them Han, in English
none.
"""

import argparse
import collections
import gzip
import html.parser
import json
import pathlib
import random
import re
import subprocess
import tempfile
import time
import types

import numpy as np

from lwz import text as texts
from lwz.reward import redundancy
from tests import cheats, prose

# Package -> the files that are read.
FILES = {
  'base-files': 'usr/share/common-licenses/*',
  'debian-faq': '**/*.en.html',
  'debian-faq-zh-cn': '**/*.zh-cn.html',
  'debian-handbook': '**/html/[ez][nh]-[UC][SN]/*.html',
  'debian-policy': '**/*.html',
  'debian-reference-en': '**/*.en.html',
  'debian-reference-zh-cn': '**/*.zh-cn.html',
  'debmake-doc': '**/html/*.[ez][nh]*.html',
  'developers-reference': '**/*.html',
  'doc-debian': '**/*[!0-9].txt.gz',  # the newest version of what has several
  'harden-doc': '**/html/[ez][nh]-[UC][SN]/*.html',
  'installation-guide-amd64': '**/[ez][nh]*/*.html',
  'maint-guide': '**/*.en.html',
  'maint-guide-zh-cn': '**/*.zh-cn.html',
}
# What does repeat itself, told apart: fourteen examples in the same sentences, and a form that is
# filled in for every mailing list.
REPEATING = re.compile(r'html/ch08\.(en|zh-\w+)\.html|mailing-lists')
LISTS = re.compile(r'(index|genindex|search|ix01)\.')  # pages that are nothing but links
PADDED = ('paraphrase_padding', 'reordered_padding', 'shuffled_paragraphs')
CHEATS = ('looped_sentence', 'looped_with_counter', 'framed', *PADDED)
LAWS = pathlib.Path(__file__).parent.parent / 'tests' / 'reward' / 'laws.jsonl'

_OUTSIDE = re.compile(
  r'\b(navheader|navfooter|toc|toctree-wrapper|sphinxsidebar|related|footer|docnav|breadcrumbs'
  r'|list-of-\w+)\b'
)
_EMPTY = frozenset(('br', 'hr', 'img', 'meta', 'link', 'input', 'col'))
_BLOCKS = frozenset(['p', 'div', 'tr', 'dt', 'dd', 'table', 'ul', 'ol', 'dl', 'section'])


class Markdown(html.parser.HTMLParser):
  """The text of a page in Markdown; navigation and listings are left out."""

  def __init__(self):
    super().__init__()
    self.parts: list[str] = []
    self.open: list[tuple[str, bool]] = []  # tags, and whether they are left out

  def handle_starttag(self, tag, attrs):
    if tag in _EMPTY:
      return self.handle_data(' ')
    names = ' '.join(value or '' for key, value in attrs if key in ('class', 'id'))
    out = bool(self.open and self.open[-1][1]) or tag in ('script', 'style', 'nav', 'head', 'pre')
    out |= tag in _BLOCKS and bool(_OUTSIDE.search(names))
    self.open.append((tag, out))
    if re.fullmatch('h[1-6]', tag):
      self.add('\n\n' + '#' * int(tag[1]) + ' ')
    elif tag in ('li', 'td', 'th'):
      self.add('\n- ' if tag == 'li' else ' | ')
    elif tag in _BLOCKS and (not self.parts or self.parts[-1] not in ('\n- ', ' | ')):
      self.add('\n' if tag == 'tr' else '\n\n')

  def handle_endtag(self, tag):
    while any(tag == name for name, _ in self.open):
      name, _ = self.open.pop()
      if name == tag:
        if name in _BLOCKS or re.fullmatch('h[1-6]', name):
          self.add('\n\n')
        return

  def handle_data(self, data):
    self.add(re.sub(r'\s+', ' ', data))

  def add(self, part):
    if not (self.open and self.open[-1][1]):
      self.parts.append(part)


def read(path: pathlib.Path) -> str:
  raw = gzip.decompress(path.read_bytes()) if path.suffix == '.gz' else path.read_bytes()
  text = raw.decode(errors='replace')
  if path.suffix == '.html':
    page = Markdown()
    page.feed(text)
    text = re.sub(r'\n(- )?[ \t]*(?=\n\n)', '', ''.join(page.parts))
  return text.strip()


def collect(folder: pathlib.Path) -> list[tuple[str, str, str, str]]:
  """Returns (language, package and version, file, text) of every text."""
  folder.mkdir(parents=True, exist_ok=True)
  missing = [name for name in FILES if not any(folder.glob(f'{name}_*.deb'))]
  if missing:
    subprocess.run(['apt-get', 'download', *missing], cwd=folder, check=True)
  found = []
  for name, pattern in FILES.items():
    package = next(folder.glob(f'{name}_*.deb'))
    with tempfile.TemporaryDirectory() as unpacked:
      subprocess.run(['dpkg-deb', '-x', package, unpacked], check=True)
      for path in sorted(pathlib.Path(unpacked).glob(pattern)):
        if not path.is_file() or path.is_symlink() or LISTS.match(path.name):
          continue
        text = read(path)
        num = len(texts.words(text))
        han = len(re.findall(f'[{texts.CHARACTERS}]', text))
        if num >= 1_500 and (han >= 0.6 * num or han == 0):
          where = str(path.relative_to(unpacked)).removeprefix('usr/share/')
          found.append(('zh' if han else 'en', package.stem.rsplit('_', 1)[0], where, text))
  return found


def earlier(commit: str):
  """Returns `redundancy.share` of a commit."""

  def module(path: str, **given) -> types.ModuleType:
    source = subprocess.run(
      ['git', 'show', f'{commit}:{path}'], check=True, capture_output=True, text=True
    ).stdout
    made = types.ModuleType(path)
    vars(made).update(given)
    exec(compile(source.replace('from lwz import text as texts\n', ''), path, 'exec'), vars(made))
    return made

  return module('lwz/reward/redundancy.py', texts=module('lwz/text.py')).share


def honest() -> dict[str, str]:
  """Name -> text that the cheats are made from; the laws are whole."""
  long = [t for t in prose.documents(300) if len(t.split()) < 22 * len(texts.sentences(t))]
  documents = {f'document {i}': long[i] for i in range(0, len(long), max(len(long) // 6, 1))}
  laws = {law['title']: law['text'] for law in map(json.loads, LAWS.read_text().splitlines())}
  chinese = {'story': prose.CHINESE, 'report': prose.REPORT_CHINESE}
  return documents | {'essay': prose.ENGLISH} | chinese | laws


def caught(share, cheat: str, name: str, text: str) -> float:
  """Returns the redundant share of what a cheat adds to the part of the text that it keeps."""
  full = getattr(cheats, cheat)(text, random.Random(name))
  if cheat not in PADDED:
    return share(full)
  found = texts.sentences(text)
  parts = {'paraphrase_padding': 3, 'reordered_padding': 2, 'shuffled_paragraphs': 1}
  kept = found[: max(len(found) // parts[cheat], 3)]
  kept = text if cheat == 'shuffled_paragraphs' else cheats.joined(kept, cheats.language(text))
  a, b = (sum(not w.isdigit() for w in texts.words(t)) for t in (full, kept))
  return (share(full) * a - share(kept) * b) / (a - b)


def seconds(share, text: str) -> float:
  best = np.inf
  for i in range(3):
    began = time.process_time()
    share(text + '\n' * i)
    best = min(best, time.process_time() - began)
  return best


def report(args) -> str:
  before, found = earlier(args.before), collect(args.packages)
  shares = [before, redundancy.share]
  lines = ['# Redundancy of honest texts and of cheats', '']
  lines += [f'    python benchmarks/redundancy.py --packages packages --before {args.before}', '']
  lines += ['A share in [0, 1]: before, now. The texts are listed below; in this table are']
  lines += ['those left out that repeat themselves by design (`REPEATING`).', '']
  lines += ['| texts | number | median | 90 % | 99 % | most |', '|---|---|---|---|---|---|']
  values = [[share(text) for share in shares] for *_, text in found]
  groups = [('zh', 'Chinese', False), ('en', 'English', False)]
  for lang, label, every in groups + [(a, f'{b}, with those', True) for a, b, _ in groups]:
    pairs = zip(values, found, strict=True)
    wanted = [v for v, f in pairs if f[0] == lang and (every or not REPEATING.search(f[2]))]
    chosen = np.array(wanted)
    cells = [', '.join(f'{x:.3f}' for x in np.percentile(chosen, q, 0)) for q in (50, 90, 99, 100)]
    lines.append(f'| {label} | {len(chosen)} | ' + ' | '.join(cells) + ' |')
  lines += ['', '| law | before | now |', '|---|---|---|']
  for law in map(json.loads, LAWS.read_text().splitlines()):
    lines.append(f'| {law["title"]} | {before(law["text"]):.3f} | {shares[1](law["text"]):.3f} |')
  lines += [
    '',
    'Cheats: redundant share of a looped or framed text, or of what the padding added; the least',
  ]
  lines += ['and the mean over the texts.', '']
  lines += ['| cheat | made from | least before | now | mean before | now |', '|---|' + 5 * '---|']
  kinds = collections.defaultdict(list)
  titles = [json.loads(line)['title'] for line in LAWS.read_text().splitlines()]
  for name, text in honest().items():
    lang = 'Chinese' if cheats.language(text) == 'zh' else 'English'
    kinds['laws' if name in titles else lang].append((name, text))
  for cheat in CHEATS:
    for label, group in kinds.items():
      got = np.array([[caught(s, cheat, *one) for s in shares] for one in group])
      cells = [f'{x:.3f}' for x in (*got.min(0), *got.mean(0))]
      lines.append(f'| {cheat} | {len(group)} {label} | ' + ' | '.join(cells) + ' |')
  lines += ['', 'CPU seconds of a text of 30,000 words, the best of three:', '']
  lines += ['| language | before | now |', '|---|---|---|']
  for lang in ('zh', 'en'):
    text = '\n'.join(f[3] for f in found if f[0] == lang)
    end = [m.end() for m in texts.WORD.finditer(text)][30_000]
    lines.append(
      f'| {lang} | ' + ' | '.join(f'{seconds(s, text[:end]):.2f}' for s in shares) + ' |'
    )
  lines += ['', '| package | file | before | now |', '|---|---|---|---|']
  for (_, package, where, _), (a, b) in zip(found, values, strict=True):
    lines.append(f'| {package} | {where} | {a:.3f} | {b:.3f} |')
  return '\n'.join(lines) + '\n'


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--packages', type=pathlib.Path, default=pathlib.Path('packages'))
  parser.add_argument('--before', default='fdd8da4')
  parser.add_argument('--out', type=pathlib.Path)
  args = parser.parse_args()
  made = report(args)
  print(made)
  if args.out:
    args.out.write_text(made)


if __name__ == '__main__':
  main()
