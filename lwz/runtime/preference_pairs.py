"""The preference pairs that a config describes: from a file, or made of the corpus.

Made ones set a passage against a damaged copy, against one that covers less of what is asked for
(`data.requirements`), and against what a policy wrote about its title (`data.written`). Tests are
of documents that no model has learnt from, and of every kind of damage.
"""

import functools

import numpy as np
from etils import epath

from lwz import hosts, types
from lwz.data import corpus, damages, preferences, requirements
from lwz.runtime import setup

READS = (
  *(*setup.DOCUMENTS, 'data.tested', 'data.lower', 'data.upper', 'data.preferences', 'seed'),
  *('data.skip_broken', 'data.written', 'data.damages', 'data.share_from', 'data.share_to'),
  *('data.requirements', 'data.tests'),
)

Pairs = list[types.Preference]


def check(c) -> None:
  """Raises ValueError or OSError if there will be no pairs to train on or to test with."""
  for name in c.data.damages:
    if name not in damages.DAMAGES:
      known = ', '.join(damages.DAMAGES)
      raise ValueError(f'data.damages: there is no {name!r}; choose from {known}')
  if not c.data.share_from < c.data.share_to:
    raise ValueError(
      f'data.share_from={c.data.share_from} is not below data.share_to={c.data.share_to}: no '
      'request is left; lower it'
    )
  if c.data.tests:
    preferences.load(c.data.tests)
  if c.data.folder and not c.data.preferences:
    _damaged(c)  # raises ValueError if no pair can be made
  if c.data.preferences and not all(_from_file(c)[:2]):
    raise ValueError(
      f'data.preferences={c.data.preferences}: too few pairs to set a share of '
      f'data.heldout={c.data.heldout} of the requests aside for tests: add pairs'
    )


def load(c, folder: epath.Path) -> tuple[Pairs, Pairs]:
  """Returns training and test pairs; no request is in both. Made ones are kept in the folder."""
  if c.data.preferences:
    train, tests, num_skipped = _from_file(c)
    if num_skipped:
      print(f'{c.data.preferences}: {num_skipped} unreadable lines skipped')
    return train, tests
  parts = []
  for name, made in zip(('train', 'heldout'), from_corpus(c), strict=True):
    path = folder / f'preferences-{name}.jsonl'
    hosts.first(functools.partial(preferences.save, path, made))
    parts.append(preferences.load(path)[0])
  return parts[0], parts[1]


def from_corpus(c) -> tuple[Pairs, Pairs]:
  """Returns training and test pairs: damaged passages, what a policy wrote, `data.tests`."""
  train, tests = _damaged(c)
  if c.data.written:
    folder = epath.Path(setup.reference(c, c.data.written))
    written, unseen = (preferences.load(folder / name)[0] for name in preferences.WRITTEN)
    train += [pair for pair in written if preferences.is_in(pair.prompt, _share(c))]
    tests += unseen
  if c.data.tests:
    tests += preferences.load(c.data.tests)[0]
  return train, tests


def _damaged(c) -> tuple[Pairs, Pairs]:
  shape = {'lower': c.data.lower, 'upper': c.data.upper, 'seed': c.seed}
  train, heldout = setup.documents(c)
  if c.data.written:  # its passages are of the other held-out documents
    heldout = setup.heldout(c)[1]
  kinds, every = tuple(c.data.damages) or damages.TRAINED, tuple(damages.DAMAGES)
  trained = preferences.from_documents(train, kinds=kinds, share=_share(c), **shape)
  tests = preferences.from_documents(heldout, kinds=every, every_kind=True, **shape)
  if num := c.data.requirements:
    trained += requirements.from_documents(train, num=num, share=_share(c), **shape)
    tests += requirements.from_documents(heldout, num=num, **shape)
  return trained, tests


def _share(c) -> tuple[float, float]:
  return c.data.share_from, c.data.share_to


def _from_file(c) -> tuple[Pairs, Pairs, int]:
  """Returns training pairs, test pairs, and the number of lines that were skipped."""
  found, num_skipped = preferences.load(c.data.preferences, skip_broken=c.data.skip_broken)
  held = [corpus.fraction(pair.prompt, 'heldout') < c.data.heldout for pair in found]
  train = [pair for pair, out in zip(found, held, strict=True) if not out]
  return train, [pair for pair, out in zip(found, held, strict=True) if out], num_skipped


def sampled(pairs: Pairs, num: int) -> Pairs:
  """Returns `num` of the pairs in their order, chosen by a hash of the texts; all of them for 0."""
  if not num or len(pairs) <= num:
    return pairs
  ranks = [corpus.fraction(f'{pair.prompt}\n{pair.chosen}', 'sampled') for pair in pairs]
  return [pairs[i] for i in sorted(np.argsort(ranks, kind='stable')[:num])]
