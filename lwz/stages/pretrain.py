"""Next-token training on packed documents: the base model, and its continual pretraining.

1. read the corpus, and render a share of it as formatted documents (request, plan, text) in both
   styles                              data.corpus, data.formatted
2. encode all of it once, to disk      data.tokens
3. train on packed rows                runtime.next_token
"""

import fnmatch
import hashlib
import itertools
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from lwz import hosts, types
from lwz.data import corpus, tokenizer, tokens
from lwz.model import config as config_lib
from lwz.runtime import next_token, setup, sources
from lwz.store import atomic

READS = (
  *(*next_token.READS, *setup.DOCUMENTS, 'data.lower', 'data.upper', 'data.template'),
  *('data.formatted_share', 'data.plan', 'data.sources'),
)

_TOKENIZER_BYTES = 1 << 27  # of a corpus, from which a tokenizer is trained
_CHUNK = 1 << 20  # characters that are encoded at a time

models, programs = next_token.models, next_token.programs


def check(c) -> None:
  next_token.check(c)
  if c.data.sources:
    # A run of `passages` has one file; another one names its files, and none has to be read.
    is_run = setup.is_experiment(c.data.folder)
    known = ['passages.jsonl'] if is_run else corpus.sources(c.data.folder)
    for pattern in c.data.sources:
      if not fnmatch.filter(known, pattern):
        shown = ', '.join(known[:8]) + (', ...' if len(known) > 8 else '')
        raise ValueError(
          f'data.sources: no source of data.folder={c.data.folder!r} is like {pattern!r}; choose '
          f'from {shown}'
        )


def run(c) -> Iterator[dict[str, float]]:
  opened = setup.open_run(c, READS)
  if c.init == 'random' and not c.data.tokenizer:
    hosts.first(lambda: _train_tokenizer(c, opened.folder))
  tok = setup.load_tokenizer(c, opened.folder)
  config = setup.model_config(c, opened.folder, tok)
  parts = _tokens(c, opened.folder, tok)
  facts = {'documents': parts['train'].num_documents}
  share = c.data.formatted_share
  yield from next_token.run(c, opened, tok, config, parts, share=share, facts=facts)


def _train_tokenizer(c, folder) -> None:
  """Trains the run's tokenizer on the corpus and on formatted documents, so that tags are short."""
  if (folder / 'tokenizer').exists():
    return
  texts_at = setup.input_file(c, 'data.folder')
  size = corpus.size(texts_at) if texts_at else 0
  share = min(1.0, _TOKENIZER_BYTES / max(size, 1))

  def documents() -> Iterator[types.Document]:
    for document in sources.stream(c):
      sampled = share == 1 or corpus.fraction(document.text, 'tokenizer') < share
      if sampled and not corpus.is_heldout(document, c.data.heldout):
        yield document

  def texts() -> Iterator[str]:
    for document in documents():
      yield from tokenizer.slices(_text(document))
    for document in itertools.islice(documents(), 0, None, 4):
      for prompt, completion in sources.formatted_pairs(c, [document]):
        yield f'{prompt}{completion}'

  vocab_size = config_lib.preset(c.size).vocab_size
  tokenizer.save(tokenizer.train(texts(), vocab_size), folder / 'tokenizer')


def _tokens(c, folder, tok) -> dict[str, tokens.Tokens]:
  """Returns the ids of training and held-out documents, plain and formatted, by name.

  They are encoded once and kept in the run's folder; where that is in a bucket, in a local folder
  of each process.
  """
  digest = hashlib.sha256()
  for path in sorted((folder / 'tokenizer').iterdir()):
    digest.update(path.read_bytes())
  settings = ('heldout', 'lower', 'upper', 'plan', 'template', 'row_length')
  key = {
    'corpus': corpus.stamp(setup.input_file(c, 'data.folder')),
    'tokenizer': digest.hexdigest(),
    'formatted': bool(c.data.formatted_share),
    **{name: c.data[name] for name in settings},
    **({'sources': list(c.data.sources)} if c.data.sources else {}),
  }
  remote = atomic.is_remote(folder)
  target = pathlib.Path(tempfile.mkdtemp() if remote else folder) / 'tokens'

  def write() -> None:
    if not tokens.is_current(target, key):
      shape = {'row_length': c.data.row_length, 'num_ids': tokenizer.num_ids(tok)}
      tokens.write(target, _encoded(c, tok), key=key, **shape)

  write() if remote else hosts.first(write)
  found = tokens.load(target)
  if remote:  # what is mapped stays readable
    shutil.rmtree(target.parent)
  return found


def _encoded(c, tok) -> Iterator[tuple[str, int, list[list[int]]]]:
  """Yields the corpus in chunks of a part, a number of documents, and their ids."""
  kept: dict[str, list[types.Document]] = {'train': [], 'heldout': []}
  num_chars = dict.fromkeys(kept, 0)

  def encode(part: str) -> Iterator[tuple[str, int, list[list[int]]]]:
    documents, kept[part], num_chars[part] = kept[part], [], 0
    yield part, len(documents), _plain_ids(tok, documents)
    if c.data.formatted_share:
      yield f'{part}_formatted', len(documents), _formatted_ids(c, tok, documents)

  for document in sources.stream(c):
    part = 'heldout' if corpus.is_heldout(document, c.data.heldout) else 'train'
    if part == 'train' and not _is_source(c, document):
      continue  # held-out documents are of all sources, so that losses compare
    kept[part].append(document)
    num_chars[part] += len(document.text)
    if num_chars[part] > _CHUNK or len(kept[part]) >= 1_000:
      yield from encode(part)
  for part in kept:
    yield from encode(part)


def _is_source(c, document: types.Document) -> bool:
  """Whether pretraining learns from the source of this document."""
  patterns = c.data.sources or ('*',)
  return any(fnmatch.fnmatchcase(document.source, pattern) for pattern in patterns)


def _text(document: types.Document) -> str:
  return f'{document.title}\n\n{document.text}'


def _plain_ids(tok, documents: list[types.Document]) -> list[list[int]]:
  return tokenizer.encode(tok, map(_text, documents), end=True)


def _formatted_ids(c, tok, documents: list[types.Document]) -> list[list[int]]:
  """Returns the ids of formatted documents.

  A document longer than a row is left out: cut, it would teach a broken format.
  """
  whole = [p + q for p, q in next_token.encoded(tok, sources.formatted_pairs(c, documents))]
  return [ids for ids in whole if len(ids) <= c.data.row_length]
