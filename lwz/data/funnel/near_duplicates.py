"""Near-duplicates in a large set of texts: MinHash signatures with LSH banding.

A text is the set of its shingles of 3 words, without case, width and punctuation. Two texts are
near-duplicates if the share of equal components of their signatures, an estimate of the Jaccard
similarity of the two sets, reaches a threshold (Broder, 1997; Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, ch. 3).

Memory for a million texts: 400 MB of signatures, which may be a memory map (`drop` reads it band by
band, and for pairs), and arrays of eight bytes per text and per candidate pair.
"""

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np

from lwz import text as texts

WORDS = 3  # of a shingle
# 20 bands of 5 components: two texts of similarity s meet in one with probability
# 1 - (1 - s^5)^20, which is 0.975 at 0.7, 0.9996 at 0.8 and 0.05 at 0.3.
BANDS, DEPTH = 20, 5
COMPONENTS = BANDS * DEPTH

_PRIME = np.uint64(2**31 - 1)
_BLOCK = 1 << 15  # shingles hashed, and pairs compared, at a time: they fit the CPU cache
_MIX = np.uint64(0x9E3779B97F4A7C15)


def words(text: str) -> list[str]:
  """The words of a text (`lwz.text.words`) in lower case and normal width.

  words('Ｗrite a POEM!') -> ['write', 'a', 'poem']
  """
  return texts.words(unicodedata.normalize('NFKC', text).casefold())


def digest(tokens: Sequence[str]) -> int:
  """A 64-bit hash of words: equal for texts that differ in case and punctuation only."""
  joined = ' '.join(tokens).encode(errors='replace')
  return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), 'little')


def shingles(token_lists: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
  """Shingles of `WORDS` words: uint64 [S] of all texts, and their offsets, int64 [N + 1].

  Text n has `shingles[offsets[n] : offsets[n + 1]]`, as many as it has words: the last ones are
  shorter.
  """
  gap = WORDS - 1
  lengths = np.array([len(tokens) for tokens in token_lists], np.int64)
  offsets = np.concatenate([[0], np.cumsum(lengths)])
  hashes = texts.hash_words([token for tokens in token_lists for token in tokens])
  # Each text is followed by a gap of zeros, so that no shingle spans two texts.
  padded = np.zeros(len(hashes) + gap * len(lengths), np.uint64)
  place = np.arange(len(hashes)) + gap * np.repeat(np.arange(len(lengths)), lengths)
  padded[place] = hashes
  if not len(hashes):
    return hashes, offsets
  runs = texts.shingles(np.concatenate([padded, np.zeros(gap, np.uint64)]), WORDS)
  return runs[place], offsets


def signatures(shingles_S: np.ndarray, offsets: np.ndarray, num: int = COMPONENTS) -> np.ndarray:
  """The MinHash signature of each text: uint32 [N, num], row n equal to `lwz.text.minhash`.

  Texts are given by `shingles`. An empty one equals only empty ones.
  """
  a_K, b_K = np.random.default_rng(0).integers(1, int(_PRIME), (2, num)).astype(np.uint64)
  out = np.full((len(offsets) - 1, num), _PRIME, np.uint32)
  filled = np.flatnonzero(np.diff(offsets))
  start = 0
  while start < len(filled):
    # As many whole texts as fit a block, at least one.
    limit = offsets[filled[start]] + _BLOCK
    end = max(start + 1, int(np.searchsorted(offsets[filled + 1], limit, side='right')))
    rows = filled[start:end]
    first = offsets[rows[0]]
    x = (shingles_S[first : offsets[rows[-1] + 1]] >> np.uint64(33)) % _PRIME
    starts = offsets[rows] - first
    y, low = np.empty_like(x), np.empty_like(x)
    for k in range(num):
      # (a x + b) mod 2^31 - 1 without a division: fold the high bits onto the low ones, twice.
      np.multiply(x, a_K[k], out=y)
      y += b_K[k]
      for _ in range(2):
        np.bitwise_and(y, _PRIME, out=low)
        np.right_shift(y, np.uint64(31), out=y)
        y += low
      least = np.minimum.reduceat(y, starts)
      out[rows, k] = least
    start = end
  return out


def estimate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
  """Estimated Jaccard similarity of signatures, row by row: float32 [N] in [0, 1]."""
  return (left == right).mean(axis=-1, dtype=np.float32)


def drop(signatures_NK: np.ndarray, threshold: float) -> np.ndarray:
  """The earlier text that each text repeats, or -1 if it is kept: int64 [N].

  The repeated text is itself kept, and their similarity is at least `threshold`: similarity is not
  transitive, so no text is dropped through a chain. Candidate pairs come from bands, each text with
  the first of its bucket and with the one before it, until no more are found. Signatures may be a
  memory map.
  """
  if not 0 < threshold <= 1:
    raise ValueError(f'a similarity lies in (0, 1], not {threshold}')
  repeats = np.full(len(signatures_NK), -1, np.int64)
  alive = np.arange(len(signatures_NK))
  while len(alive) > 1:
    pairs = _pairs(signatures_NK, alive)
    crowd = np.unique(pairs)  # a text alone in all its buckets has no pairs
    dropped = False
    for i, j in _similar(signatures_NK, pairs, threshold).tolist():
      if repeats[i] < 0 and repeats[j] < 0:
        repeats[j], dropped = i, True
    if not dropped:
      break
    alive = crowd[repeats[crowd] < 0]
  return repeats


def _pairs(signatures_NK: np.ndarray, alive: np.ndarray) -> np.ndarray:
  """Pairs (i, j), i < j, to compare within buckets: int64 [M, 2], in order of j, then i."""
  found = [np.zeros((0, 2), np.int64)]
  for band in range(BANDS):
    keys = np.zeros(len(alive), np.uint64)
    for k in range(band * DEPTH, (band + 1) * DEPTH):
      keys = (keys ^ signatures_NK[alive, k]) * _MIX
      keys ^= keys >> np.uint64(29)
    order = np.argsort(keys, kind='stable')
    same = keys[order[1:]] == keys[order[:-1]]
    second = np.flatnonzero(same) + 1
    heads = np.flatnonzero(np.concatenate([[True], ~same]))
    first = heads[np.searchsorted(heads, second, side='right') - 1]
    for partner in (first, second - 1):
      found.append(np.stack([alive[order[partner]], alive[order[second]]], axis=1))
  pairs = np.concatenate(found)
  # j in the high half, i in the low one.
  coded = np.unique((pairs[:, 1] << 32) | pairs[:, 0])
  return np.stack([coded & (2**32 - 1), coded >> 32], axis=1)


def _similar(signatures_NK: np.ndarray, pairs: np.ndarray, threshold: float) -> np.ndarray:
  """The pairs whose similarity is at least the threshold, in the same order."""
  blocks = [pairs[start : start + _BLOCK] for start in range(0, len(pairs), _BLOCK)]
  return np.concatenate(
    [pairs[:0]]
    + [
      block[estimate(signatures_NK[block[:, 0]], signatures_NK[block[:, 1]]) >= threshold]
      for block in blocks
    ]
  )
