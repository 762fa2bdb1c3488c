"""The preference pairs that a config describes: from a file, or made of the corpus.

Made ones set a passage against a damaged copy, against one that covers less of what is asked for
(`data.requirements`), and against what a policy wrote about its title (`data.written`). Tests are
of documents that no model has learnt from, and of every kind of damage.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from etils import epath

from lwz import hosts, types
from lwz.data import corpus, damages, preferences, requirements, templates, tokenizer
from lwz.model import qwen
from lwz.programs import language_model, reward_model
from lwz.report import terminal
from lwz.runtime import setup, sources

READS = (
  *(*setup.DOCUMENTS, 'data.tested', 'data.lower', 'data.upper', 'data.preferences', 'seed'),
  *('data.skip_broken', 'data.written', 'data.damages', 'data.share_from', 'data.share_to'),
  *('data.requirements', 'data.tests', 'data.pair_paths'),
)

Pairs = list[types.Preference]


class Text(NamedTuple):
  """Ids of a request and its answer, the end token last; the first `num_head` are the request."""

  ids: list[int]
  num_head: int


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
  if c.data.folder and not (c.data.preferences or setup.is_experiment(c.data.folder)):
    _damaged(c)  # raises ValueError if no pair can be made
  if c.data.preferences and not all(_from_file(c)[:2]):
    raise ValueError(
      f'data.preferences={c.data.preferences}: too few pairs to set a share of '
      f'data.heldout={c.data.heldout} of the requests aside for tests: add pairs'
    )


def load(c, folder: epath.Path) -> tuple[Pairs, Pairs]:
  """Returns training and test pairs, which the folder keeps; no request is in both."""
  if c.data.preferences:
    *found, num_skipped = _from_file(c)
    if num_skipped:
      print(f'{c.data.preferences}: {num_skipped} unreadable lines skipped')
  else:
    found = [*from_corpus(c)]
  for path, pairs in zip(_files(folder), found, strict=True):
    hosts.first(functools.partial(preferences.save, path, pairs))
  return _made(folder)


def of_run(folder: epath.Path, config: ml_collections.ConfigDict) -> tuple[Pairs, Pairs]:
  """Returns the training and test pairs of a finished run of `reward_model`, of that config."""
  return _from_file(config)[:2] if config.data.preferences else _made(folder)


def _files(folder: epath.Path) -> list[epath.Path]:
  return [folder / name for name in (setup.PAIRS, 'preferences-heldout.jsonl')]


def _made(folder: epath.Path) -> tuple[Pairs, Pairs]:
  train, heldout = (preferences.load(path)[0] for path in _files(folder))
  return train, heldout


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
  train, heldout = sources.documents(c)
  if c.data.written:  # its passages are of the other held-out documents
    heldout = sources.heldout(c)[1]
  kinds, every = tuple(c.data.damages) or damages.TRAINED, tuple(damages.DAMAGES)
  trained = preferences.from_documents(train, kinds=kinds, share=_share(c), **shape)
  tests = preferences.from_documents(heldout, kinds=every, every_kind=True, **shape)
  if num := c.data.requirements:
    fewer = requirements.from_documents(train, num=num, share=_share(c), **shape)
    if not fewer:
      raise ValueError(
        f'data.requirements={num}: no passage of {c.data.lower} to {c.data.upper} words gives such '
        'a pair; ask for fewer terms, name longer documents, or set data.requirements=0'
      )
    trained += fewer
    tests += requirements.from_documents(heldout, num=num, **shape)
  return trained, tests


def _share(c) -> tuple[float, float]:
  return c.data.share_from, c.data.share_to


def _from_file(c) -> tuple[Pairs, Pairs, int]:
  """Returns training pairs, test pairs, and the number of lines that were skipped."""
  found, num_skipped = preferences.load(
    c.data.preferences, skip_broken=c.data.skip_broken, paths=c.data.pair_paths
  )
  held = [corpus.fraction(pair.prompt, 'heldout') < c.data.heldout for pair in found]
  train = [pair for pair, out in zip(found, held, strict=True) if not out]
  return train, [pair for pair, out in zip(found, held, strict=True) if out], num_skipped


def sampled(pairs: Pairs, num: int) -> Pairs:
  """Returns `num` of the pairs in their order, chosen by a hash of the texts; all of them for 0."""
  if not num or len(pairs) <= num:
    return pairs
  ranks = [corpus.fraction(f'{pair.prompt}\n{pair.chosen}', 'sampled') for pair in pairs]
  return [pairs[i] for i in sorted(np.argsort(ranks, kind='stable')[:num])]


def encoded(c, tok, pairs: Pairs, *, drop: bool = False) -> tuple[Pairs, list[tuple[Text, Text]]]:
  """The pairs, and their (chosen, rejected) texts. Nothing is truncated.

  Where `data.long` is 'window', a text longer than a row is read in parts. Else such a pair is
  refused where it is of a user's file, and left out where it was made here, or with `drop`. A pair
  of texts with the same tokens is left out, and counted.
  """
  heads = map(
    len, tokenizer.encode(tok, [templates.judged(p.prompt, '') for p in pairs], end=False)
  )
  sides = [
    tokenizer.encode(tok, [templates.judged(p.prompt, getattr(p, side)) for p in pairs], end=True)
    for side in ('chosen', 'rejected')
  ]
  kept, found, num_equal = [], [], 0
  for pair, head, *both in zip(pairs, heads, *sides, strict=True):
    size = max(map(len, both))
    if both[0] == both[1]:
      num_equal += 1  # to the tokenizer
    elif size <= c.data.row_length or c.data.long == 'window':
      kept.append(pair)
      found.append((Text(both[0], head), Text(both[1], head)))
    elif not drop and c.data.preferences:
      raise ValueError(
        f'{c.data.preferences}: the pair for {pair.prompt[:60]!r} has {size} tokens, '
        f'more than data.row_length={c.data.row_length}: raise it, drop the pair, or read long '
        "texts in parts with data.long='window'"
      )
  if num_equal:
    print(f'{num_equal} pairs left out: chosen and rejected are equal, token by token')
  if not kept and not drop:
    raise ValueError(
      f'data.row_length={c.data.row_length}: no preference pair is short enough to train on or to '
      f'test with; raise it, or, also on a run that needs this one, lower data.upper={c.data.upper}'
    )
  return kept, found


def texts(
  c, tok, pairs: Pairs, *, drop: bool = False
) -> list[tuple[tuple[list[int], list[int]], float]]:
  """Returns what is trained on: the `windows` of each encoded pair, each with the pair's margin."""
  return [
    (part, pair.margin)
    for pair, both in zip(*encoded(c, tok, pairs, drop=drop), strict=True)
    for part in windows(c, *both)
  ]


def windows(c, chosen: Text, rejected: Text) -> list[tuple[list[int], list[int]]]:
  """Returns a pair as pairs that fit rows: windows of both sides, matched by their place."""
  parts = [reward_model.windows(*text, c.data.row_length) for text in (chosen, rejected)]
  num = max(map(len, parts))
  better, worse = ([side[i * len(side) // num] for i in range(num)] for side in parts)
  return list(zip(better, worse, strict=True))


def scores(
  score_fn: Callable,
  params: qwen.Params,
  pairs: Sequence[tuple[Text, Text]],
  shape: language_model.RowShape,
  *,
  label: str = '',
) -> np.ndarray:
  """Returns the scores of (chosen, rejected) by `programs.reward_model.score(...).jit()`. [B, 2]

  With a label, a bar shows how many pairs are scored.
  """
  flat = [text for pair in pairs for text in pair]
  ids, heads = [text.ids for text in flat], [text.num_head for text in flat]
  quiet = not label or jax.process_index() != 0
  with terminal.Progress(len(pairs), label=label, unit='pair', quiet=quiet) as bar:
    scores_B = reward_model.score_windows(
      *(score_fn, params, ids, heads, shape),
      lambda done, total: bar.update(len(pairs) * done // total),
    )
  return scores_B.reshape(-1, 2)
