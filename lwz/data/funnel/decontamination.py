"""Decontamination: benchmark prompts that requests contain, which must not be trained on."""

from collections.abc import Sequence

import numpy as np

from lwz.data.funnel import near_duplicates


class Benchmarks:
  """An index of benchmark prompts, to find them in many requests.

  The overlap of a request with a benchmark prompt is the share of the prompt's shingles (see
  `near_duplicates.shingles`) that the request contains. It is 1 if the request is the prompt or has
  it at its end, (n - 2) / n if the request goes on behind all n words of it, since the last two
  shingles are cut short by the end, and small if a long prompt merely contains a short request.
  """

  def __init__(self, prompts: Sequence[str]):
    found, offsets = near_duplicates.shingles([near_duplicates.words(text) for text in prompts])
    owner = np.repeat(np.arange(len(prompts)), np.diff(offsets))
    pairs = np.unique(np.stack([found, owner.astype(np.uint64)], axis=1), axis=0)
    self._runs, self._owners = pairs[:, 0], pairs[:, 1].astype(np.int64)  # sorted by run
    self._sizes = np.bincount(self._owners, minlength=len(prompts))
    self.prompts = list(prompts)

  def overlap(self, shingles_S: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest overlap of each request, float64 [N] in [0, 1], and the prompt's index, int64.

    The requests are given by `near_duplicates.shingles`.
    """
    num = len(offsets) - 1
    best, whose = np.zeros(num), np.zeros(num, np.int64)
    if not len(self._runs) or not len(shingles_S):
      return best, whose
    low = np.searchsorted(self._runs, shingles_S)
    hit = np.flatnonzero(self._runs[np.minimum(low, len(self._runs) - 1)] == shingles_S)
    high = np.searchsorted(self._runs, shingles_S[hit], side='right')
    counts = high - low[hit]
    # One row per (shingle of a request, prompt with it); a shingle counts once per request.
    place = np.repeat(low[hit] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    request = np.searchsorted(offsets, np.repeat(hit, counts), side='right') - 1
    met = np.unique(np.stack([request, place], axis=1), axis=0)
    size = len(self.prompts)
    pair, shared = np.unique(met[:, 0] * size + self._owners[met[:, 1]], return_counts=True)
    share = shared / self._sizes[pair % size]
    order = np.argsort(share, kind='stable')  # the largest is written last
    best[pair[order] // size], whose[pair[order] // size] = share[order], pair[order] % size
    return best, whose
