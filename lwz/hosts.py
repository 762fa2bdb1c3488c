"""What the processes of a run know of each other; where there is only one, all of this is free.

Every process calls every function, in the same order: each is a meeting. One that never comes,
since it died, ends the others with an error of the runtime.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar('T')
_MESSAGE = 1024  # bytes of an error that process 0 passes on


def all_gather(value: Any) -> np.ndarray:
  """The values of all processes, bit for bit: [num_processes, *shape], one shape and dtype."""
  value = np.asarray(value)
  if jax.process_count() == 1:
    return value[None]
  own = np.frombuffer(value.tobytes(), np.uint8)  # as bytes: JAX would narrow float64
  found = np.asarray(multihost_utils.process_allgather(own))
  return np.frombuffer(found.tobytes(), value.dtype).reshape(-1, *value.shape)


def first(work: Callable[[], T]) -> T | None:
  """Process 0 does the work and has its result; the others wait for it, and have None.

  For what is written once: `hosts.first(lambda: tokenizer.save(tok, folder))`. An error of the work
  is raised by process 0, and as a RuntimeError by all others.
  """
  if jax.process_count() == 1:
    return work()
  result, error = None, None
  if jax.process_index() == 0:
    try:
      result = work()
    except Exception as raised:  # whatever it is, the others wait to hear of it
      error = raised
  text = f'{type(error).__name__}: {error}'.encode()[:_MESSAGE] if error else b''
  said = bytes(all_gather(np.frombuffer(text.ljust(_MESSAGE, b'\0'), np.uint8))[0]).rstrip(b'\0')
  if error:
    raise error
  if said:
    raise RuntimeError(f'process 0 stopped on {said.decode(errors="replace")}')
  return result


def of_first(value: bool) -> bool:
  """What process 0 holds for true, for all: they may see a shared disk at different times."""
  return bool(all_gather(np.bool_(value))[0])


def checksum(tree: Any) -> int:
  """CRC-32 over the bytes, shapes and dtypes of the arrays and numbers of a tree, in its order."""
  crc = 0
  for leaf in jax.tree.leaves(tree):
    array = np.asarray(leaf)
    crc = zlib.crc32(f'{array.shape}{array.dtype}'.encode(), crc)
    crc = zlib.crc32(array.tobytes(), crc)
  return crc


def check_same(what: str, tree: Any) -> None:
  """Raises RuntimeError where the processes hold different arrays: a decision went its own way."""
  if jax.process_count() == 1:
    return
  sums = all_gather(np.uint32(checksum(tree)))
  if other := np.flatnonzero(sums != sums[0]).tolist():
    raise RuntimeError(
      f'{what} is not the same in process {", ".join(map(str, other))} as in process 0: something '
      'that decides depends on the process (unequal files, code or versions)'
    )


def shares(work: Callable[[Sequence[Any]], np.ndarray], items: Sequence[Any]) -> np.ndarray:
  """`work(items)`, item i done by process i mod N.

  `work` gives one number per item, and that of an item must depend on no other.
  """
  num = jax.process_count()
  if num == 1:
    return work(items)
  own = list(items[jax.process_index() :: num])
  values = np.full(math.ceil(len(items) / num), np.nan)
  values[: len(own)] = work(own) if own else ()
  return all_gather(values).T.reshape(-1)[: len(items)]
