"""Collective operations of the processes of a run; they cost nothing where there is only one.

Every process must call every function, in the same order. Where one has died, the others end with
an error of the runtime.
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
  """Returns the values of all processes, bit for bit: [num_processes, *shape], of one dtype."""
  value = np.asarray(value)
  if jax.process_count() == 1:
    return value[None]
  own = np.frombuffer(value.tobytes(), np.uint8)  # as bytes: JAX would narrow float64
  found = np.asarray(multihost_utils.process_allgather(own))
  return np.frombuffer(found.tobytes(), value.dtype).reshape(-1, *value.shape)


def first(work: Callable[[], T]) -> T | None:
  """Returns `work()` in process 0; the others wait for it and return None.

  For what is written once: `hosts.first(lambda: tokenizer.save(tok, folder))`. An error of the work
  is raised by process 0, and as a RuntimeError by all others.
  """
  if jax.process_count() == 1:
    return work()
  result, error = None, None
  if jax.process_index() == 0:
    try:
      result = work()
    except Exception as raised:  # of any kind: the others wait for the outcome
      error = raised
  text = f'{type(error).__name__}: {error}'.encode()[:_MESSAGE] if error else b''
  message = bytes(all_gather(np.frombuffer(text.ljust(_MESSAGE, b'\0'), np.uint8))[0]).rstrip(b'\0')
  if error:
    raise error
  if message:
    raise RuntimeError(f'process 0 stopped on {message.decode(errors="replace")}')
  return result


def of_first(value: bool) -> bool:
  """Returns process 0's value in all processes: they may see a shared disk at different times."""
  return bool(all_gather(np.bool_(value))[0])


def text_of_first(text: str) -> str:
  """Returns process 0's text in all processes; what the others give is not looked at."""
  data = text.encode(errors='surrogatepass')
  size = int(all_gather(np.int64(len(data)))[0])
  own = np.frombuffer(data[:size].ljust(size, b'\0'), np.uint8)
  return all_gather(own)[0].tobytes().decode(errors='surrogatepass')


def checksum(tree: Any) -> int:
  """Returns the CRC-32 of bytes, shapes and dtypes of a tree's arrays and numbers, in order."""
  crc = 0
  for leaf in jax.tree.leaves(tree):
    array = np.asarray(leaf)
    crc = zlib.crc32(f'{array.shape}{array.dtype}'.encode(), crc)
    crc = zlib.crc32(array.tobytes(), crc)
  return crc


def check_same(what: str, tree: Any) -> None:
  """Raises RuntimeError if the arrays of a tree differ between processes. `what` names the tree."""
  if jax.process_count() == 1:
    return
  sums = all_gather(np.uint32(checksum(tree)))
  if others := np.flatnonzero(sums != sums[0]).tolist():
    raise RuntimeError(
      f'{what} is not the same in process {", ".join(map(str, others))} as in process 0: something '
      'that decides depends on the process (unequal files, code or versions)'
    )


def owns(index: int) -> bool:
  """Whether `divide` gives this item to this process."""
  return index % jax.process_count() == jax.process_index()


def divide(
  work: Callable[[Sequence[Any]], np.ndarray],
  items: Sequence[Any],
  *,
  shape: tuple[int, ...] = (),
) -> np.ndarray:
  """Returns `work(items)` with item i done by process i mod N: float64 [len(items), *shape].

  `work` gives one array of `shape` per item, which must depend on no other item.
  """
  num = jax.process_count()
  if num == 1:
    return work(items)
  own = list(items[jax.process_index() :: num])
  values = np.full((math.ceil(len(items) / num), *shape), np.nan)
  if own:
    values[: len(own)] = work(own)
  return all_gather(values).swapaxes(0, 1).reshape(-1, *shape)[: len(items)]
