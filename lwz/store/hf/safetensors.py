"""A safetensors file: 8 bytes of length, a JSON header of offsets, then the bytes of each tensor.

Written by hand, so that one tensor at a time is in memory; `safetensors` itself wants them all.
"""

import collections.abc
import json
import math
import os
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors
from etils import epath

from lwz import jsonl
from lwz.store import atomic

# The dtypes of a parameter, as a header calls them.
DTYPES = {'F32': jnp.dtype('float32'), 'BF16': jnp.dtype('bfloat16'), 'F16': jnp.dtype('float16')}
LARGEST_HEADER = 100_000_000  # of safetensors itself


class Entry(NamedTuple):
  """Header entry of a tensor, and whether the file is long enough to hold it."""

  dtype: str  # 'BF16'
  shape: tuple[int, ...]
  whole: bool


def header(file: pathlib.Path) -> dict[str, Entry]:
  """Returns every tensor of a file, by name, without reading it.

  Of a file that was cut short `safetensors` says only that it is; this says which tensors it lost.

  Raises ValueError if there is no whole header.
  """
  jsonl.check_regular(file)
  size = file.stat().st_size
  with file.open('rb') as opened:
    start = 8 + int.from_bytes(opened.read(8), 'little')
    try:
      if start > min(size, LARGEST_HEADER):
        raise ValueError(f'a header of {start:,} bytes')
      entries = json.loads(opened.read(start - 8))
      return {
        name: _entry(it, size - start) for name, it in entries.items() if name != '__metadata__'
      }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
      raise ValueError(f'{file}: no whole safetensors header; download the file again') from error


def _entry(it: dict[str, Any], size: int) -> Entry:
  """Returns the entry of a tensor in a file with `size` bytes of tensors."""
  dtype, shape, (start, end) = it['dtype'], tuple(it['shape']), it['data_offsets']
  if not all(isinstance(n, int) and 0 <= n < 2**62 for n in (*shape, start, end)):
    raise ValueError('sizes and offsets are whole numbers')
  return Entry(str(dtype), shape, end <= size)


def read(file: pathlib.Path, name: str, ranges: tuple[slice, ...]) -> np.ndarray:
  """Reads a range of a tensor, one slice per dimension; ValueError for a bad file."""
  # Opened for each piece: the pages of a mapped file that were read would count as ours till then.
  try:
    with safetensors.safe_open(os.fspath(file), framework='np') as mapped:
      return mapped.get_slice(name)[ranges]
  except safetensors.SafetensorError as error:
    raise ValueError(f'{file}: {error}; download the file again') from error


def nbytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
  """The bytes of a tensor."""
  return dtype.itemsize * math.prod(shape)


def write(
  path: epath.Path,
  described: dict[str, tuple[np.dtype, tuple[int, ...]]],
  arrays: collections.abc.Iterable[np.ndarray],
) -> None:
  """Writes a file, which may be in a bucket, taking the next array when the one before is written.

  `described` has dtype (one of `DTYPES`) and shape of each tensor, in the order of `arrays`, which
  are in C order. Raises ValueError if an array is not as described.
  """
  codes = {dtype: code for code, dtype in DTYPES.items()}
  entries: dict[str, Any] = {'__metadata__': {'format': 'pt'}}  # transformers wants it
  end = 0
  for name, (dtype, shape) in described.items():
    start, end = end, end + nbytes(dtype, shape)
    entries[name] = {'dtype': codes[dtype], 'shape': shape, 'data_offsets': (start, end)}
  text = json.dumps(entries, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)  # so that tensors begin aligned
  with atomic.named(path), path.open('wb') as file:
    file.write(len(text).to_bytes(8, 'little') + text)
    for (name, wanted), array in zip(described.items(), arrays, strict=True):
      if (array.dtype, array.shape) != wanted:
        raise ValueError(f'{path}: {name} is {array.dtype} {array.shape}, described as {wanted}')
      file.write(array.reshape(-1).view(np.uint8).data)
