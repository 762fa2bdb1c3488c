"""The queue of a rollout: requests that wait for a slot."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Request:
  """One trajectory to write. `expected` is a guess of its length; the longest start first.

  A `greedy` one takes the most likely token, whatever the engine's temperature.
  Of a trajectory that goes on, `begun` are its tokens so far: those after them are the same as if
  it had not been interrupted, up to rounding.
  """

  prompt: np.ndarray  # ids, at least one
  key: np.ndarray  # uint32 [2], of `sampler.trajectory_keys`
  max_tokens: int
  min_tokens: int = 0
  expected: float = 0.0
  greedy: bool = False
  begun: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))

  @property
  def ids(self) -> np.ndarray:
    """Returns the ids that are read before the next token is sampled."""
    return np.concatenate([self.prompt, self.begun]).astype(np.int32)


def longest_first(expected: Sequence[float | int] | np.ndarray) -> list[int]:
  """Returns indices by decreasing expected length; ties keep their order, and groups together.

  A rollout ends with its longest trajectory. With known lengths, longest-processing-time-first
  takes at most 4/3 of the optimal time (Graham 1969, Bounds on multiprocessing timing anomalies),
  first come, first served at most twice. Writing prompts have a predictor: the upper end of the
  length that they ask for.

  >>> longest_first([100, 900, 900, 300])
  [1, 2, 3, 0]
  """
  return sorted(range(len(expected)), key=lambda i: -expected[i])


def check(index: int, request: Request, longest: int, max_tokens: int) -> None:
  """Raises ValueError if a request exceeds a slot: `longest` tokens read, `max_tokens` written."""
  if not 1 <= len(request.ids) <= longest or not len(request.prompt):
    raise ValueError(
      f'prompt {index} has {len(request.ids)} tokens, outside 1 ... '
      f'max_prompt_tokens={longest}: raise the limit, or change the prompt'
    )
  if not 1 <= request.max_tokens - len(request.begun) <= max_tokens:
    raise ValueError(
      f'request {index} asks for max_tokens={request.max_tokens}, outside 1 ... '
      f'{max_tokens}, the room of a slot'
    )


class Queue:
  """Requests that wait for a slot: here all of them from the beginning, the longest first.

  The loop asks for its length, and pops, only between two calls of `refresh`.
  """

  def __init__(self, requests: Sequence[Request] = ()):
    first = longest_first([request.expected for request in requests])
    self._waiting = [(index, requests[index]) for index in reversed(first)]

  def __len__(self) -> int:
    return len(self._waiting)

  def pop(self) -> tuple[int, Request]:
    """Returns the next request and its index, which no other request has."""
    return self._waiting.pop()

  def refresh(self, idle: bool) -> bool:
    """Lets requests come and go, between two blocks; returns whether more may come.

    If it is `idle`, nothing is written: a queue to which more may come then waits for one.
    """
    return False

  def busy(self) -> None:
    """Called when a block has been started: what takes time is done now, beside the devices."""
