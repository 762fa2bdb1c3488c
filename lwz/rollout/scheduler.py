"""Continuous batching: a queue of trajectories, a fixed number of slots, blocks of steps between.

Between two blocks the host takes out what has ended, fills the free slots from the queue, and, once
the queue is empty, gathers the live rows in the first slots, so that the next block computes fewer.
A slot has room for the longest prompt and answer, so nothing that was begun is ever put back.

What a trajectory is does not depend on any of this: its draws are named by its key. Its bits may,
by rounding; with `exact` every block has one shape and one length, and they do not either.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from lwz.rollout import order, slots

# (index of the request, its ids so far) -> how many of them to keep, where it shall end, or None.
Watch = Callable[[int, np.ndarray], int | None]

_FREE = -1  # the owner of a slot that has none


@dataclasses.dataclass(frozen=True)
class Request:
  """One trajectory to write. `expected` is a guess of its tokens; the largest begin first."""

  prompt: np.ndarray  # ids, at least one
  key: np.ndarray  # uint32 [2], of `sampler.trajectory_keys`
  max_tokens: int
  min_tokens: int = 0
  expected: float = 0.0


@dataclasses.dataclass(frozen=True)
class Reply:
  """A trajectory that has ended: its ids, the stop token included, and their log-probabilities."""

  index: int  # of the request
  ids: np.ndarray  # int32 [T]
  logp: np.ndarray  # float32 [T], of the distribution sampled from
  finished: bool  # False where the cap was hit


@dataclasses.dataclass
class Tally:
  """What the writing took. `wasted` and `in_use` are the two ways to see the same rows."""

  tokens: int = 0
  steps: int = 0
  row_steps: int = 0  # rows computed, summed over steps
  slot_steps: int = 0  # slots there were, summed over steps
  prefilled: int = 0  # prompts
  blocks: int = 0
  seconds: float = 0.0  # until the last trajectory ended
  first: float = 0.0  # seconds until the first one had

  @property
  def figures(self) -> dict[str, float]:
    """The figures of a step's record."""
    return {
      'rollout/tokens_per_second': self.tokens / self.seconds if self.seconds else 0.0,
      'rollout/wasted': 1 - self.tokens / self.row_steps if self.row_steps else 0.0,
      'rollout/slots_in_use': self.tokens / self.slot_steps if self.slot_steps else 0.0,
      'rollout/seconds_to_first': self.first,
      'rollout/seconds_to_last': self.seconds,
    }


@dataclasses.dataclass(frozen=True)
class Engine:
  """The compiled programs and the shapes they come in; `programs.rollout.engine` builds one.

  Attributes:
    reshard: (params) -> params as the other programs take them.
    init: () -> Slots.
    prefill: (N, T) -> the program (params, prompts_NT) -> Cache.
    admit: (slots, prefix, which, row, counters) -> Slots; `which` of the N prompts.
    move: (slots, source, target) -> Slots.
    decode: (rows, read) -> the program (params, slots, going, until) -> (Slots, Block).
    rungs: numbers of rows to compute, rising; the last is the number of slots.
    reads: numbers of cached tokens to read, rising; the last is the capacity of a slot.
    prompt_sizes: lengths that prompts are padded to, rising.
    prompt_batches: N for each of them, where more than half as many wait; else one at a time.
    exact: one shape and one length of block, whoever is live.
  """

  reshard: Callable
  init: Callable
  prefill: Callable
  admit: Callable
  move: Callable
  decode: Callable
  rungs: tuple[int, ...]
  reads: tuple[int, ...]
  prompt_sizes: tuple[int, ...]
  prompt_batches: tuple[int, ...]
  max_tokens: int
  exact: bool


def run(
  engine: Engine,
  params,
  requests: Sequence[Request],
  *,
  watch: Watch | None = None,
  tally: Tally | None = None,
) -> Iterator[Reply]:
  """Replies to all requests, as they end; while a reply is being looked at, the next block runs.

  `watch` sees every live trajectory after every block and may end it, at any of its tokens.
  Raises ValueError for a request that no slot holds.
  """
  for index, request in enumerate(requests):
    _check(index, request, engine)
  desk = _Desk(engine, params, requests, watch, tally or Tally())
  return desk.serve()


def plan(engine: Engine, num_live: int, longest: int, waiting: bool) -> tuple[int, int, int]:
  """The next block: (rows to compute, cached tokens to read, live rows at which to end early).

  While others wait, a block ends once an eighth of its rows has; then, once fewer can be computed.

  Args:
    engine: the shapes that there are.
    num_live: trajectories, in the first slots unless others wait, when all slots are taken.
    longest: the most tokens that one of them has cached.
    waiting: whether others wait for a slot.
  """
  if engine.exact:
    return engine.rungs[-1], engine.reads[-1], 0
  if waiting:
    until = num_live - max(1, num_live // 8)
  else:
    until = max((rung for rung in engine.rungs if rung < num_live), default=0)
  return _least(engine.rungs, num_live), _least(engine.reads, longest), until


def _least(sizes: Sequence[int], wanted: int) -> int:
  return next(size for size in sizes if size >= wanted)


def _check(index: int, request: Request, engine: Engine) -> None:
  longest = engine.prompt_sizes[-1]
  if not 1 <= len(request.prompt) <= longest:
    raise ValueError(
      f'prompt {index} has {len(request.prompt)} tokens, outside 1 ... '
      f'max_prompt_tokens={longest}: raise the limit, or change the prompt'
    )
  if not 1 <= request.max_tokens <= engine.max_tokens:
    raise ValueError(
      f'request {index} asks for max_tokens={request.max_tokens}, outside 1 ... '
      f'{engine.max_tokens}, what a slot has room for'
    )


class _Desk:
  """The host's side of one rollout."""

  def __init__(self, engine, params, requests, watch, tally):
    self._engine, self._params, self._requests = engine, params, requests
    self._watch, self._tally = watch, tally
    self._queue = order.longest_first([request.expected for request in requests])[::-1]
    self._owner = [_FREE] * engine.rungs[-1]  # of each slot
    self._cached = [0] * engine.rungs[-1]
    self._parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    self._prefilled: tuple[object, list[bytes]] = None, []  # the last cache, and whose it is
    self._slots = engine.init()

  def serve(self) -> Iterator[Reply]:
    began = time.monotonic()
    ended: list[Reply] = []
    told = 0
    while True:
      self._fill()
      live = [row for row, owner in enumerate(self._owner) if owner != _FREE]
      block = self._decode(live) if live else None
      for reply in ended:  # the device is busy meanwhile
        self._tally.seconds = time.monotonic() - began
        self._tally.first = self._tally.first if told else self._tally.seconds
        told += 1
        yield reply
      if block is None:
        return
      ended = self._harvest(jax.device_get(block), live)

  def _fill(self) -> None:
    """Begins trajectories in free slots, or gathers the live ones where none is left to begin."""
    begun: dict[int, dict[bytes, list[tuple[int, int]]]] = {}  # size, prompt: (slot, request)
    for row, owner in enumerate(self._owner):
      if owner == _FREE and self._queue:
        index = self._queue.pop()
        ids = np.asarray(self._requests[index].prompt, np.int32)
        size = _least(self._engine.prompt_sizes, len(ids))
        begun[size] = begun.pop(size, {})  # last, since others of its group may wait
        begun[size].setdefault(ids.tobytes(), []).append((row, index))
    for size, places in begun.items():
      for prefix, prompts in self._prefill(size, list(places)):
        for which, prompt in enumerate(prompts):
          for row, index in places.get(prompt, []):
            self._admit(prefix, which, row, index)
    if not self._queue:
      self._prefilled = None, []
      if not self._engine.exact:
        self._gather()

  def _prefill(self, size: int, prompts: list[bytes]) -> Iterator[tuple[object, list[bytes]]]:
    """Caches and the prompts of their rows; the last is kept, as others of its group may wait."""
    if found := {*self._prefilled[1]} & {*prompts}:
      yield self._prefilled
      prompts = [prompt for prompt in prompts if prompt not in found]
    most = self._engine.prompt_batches[self._engine.prompt_sizes.index(size)]
    while prompts:
      num = most if len(prompts) > most // 2 else 1
      batch, prompts = prompts[:num], prompts[num:]
      padded = np.zeros((num, size), np.int32)
      for row, prompt in zip(padded, batch, strict=False):
        ids = np.frombuffer(prompt, np.int32)
        row[: len(ids)] = ids
      self._prefilled = self._engine.prefill(num, size)(self._params, padded), batch
      self._tally.prefilled += len(batch)
      yield self._prefilled

  def _admit(self, prefix, which: int, row: int, index: int) -> None:
    request = self._requests[index]
    num = len(request.prompt)
    counters = slots.Rows(
      last=np.asarray(request.prompt[-1:], np.int32),
      cached=np.array([num - 1], np.int32),
      written=np.zeros(1, np.int32),
      least=np.array([request.min_tokens], np.int32),
      cap=np.array([request.max_tokens], np.int32),
      keys=np.asarray(request.key, np.uint32)[None],
      live=np.ones(1, bool),
    )
    self._slots = self._engine.admit(self._slots, prefix, np.int32(which), np.int32(row), counters)
    self._owner[row], self._cached[row], self._parts[index] = index, num - 1, []

  def _gather(self) -> None:
    """Moves live trajectories into the first slots, where that spares rows."""
    live = [row for row, owner in enumerate(self._owner) if owner != _FREE]
    rung = _least(self._engine.rungs, len(live))
    free = [row for row in range(rung) if self._owner[row] == _FREE]
    for source, target in zip([row for row in live if row >= rung], free, strict=False):
      self._slots = self._engine.move(self._slots, np.int32(source), np.int32(target))
      self._owner[target], self._owner[source] = self._owner[source], _FREE
      self._cached[target] = self._cached[source]

  def _decode(self, live: list[int]):
    """Starts a block; nothing waits for it here."""
    engine = self._engine
    num_rows, read, until = plan(
      engine, len(live), max(self._cached[row] for row in live), bool(self._queue)
    )
    going = np.array([owner != _FREE for owner in self._owner])
    self._slots, block = engine.decode(num_rows, read)(
      self._params, self._slots, going, np.int32(until)
    )
    return block

  def _harvest(self, block: slots.Block, live: list[int]) -> list[Reply]:
    """Takes in what a block wrote, frees the slots of what ended, and returns that."""
    steps = int(block.steps)
    self._tally.steps += steps
    self._tally.row_steps += steps * block.ids.shape[0]
    self._tally.slot_steps += steps * len(self._owner)
    self._tally.blocks += 1
    ended = []
    for row in live:
      index, num = self._owner[row], int(block.num[row])
      self._parts[index].append((block.ids[row, :num], block.logp[row, :num]))
      self._cached[row] += num
      keep = self._watch(index, self._joined(index, 0)) if self._watch else None
      if keep is None and block.live[row]:
        continue
      finished = bool(block.stopped[row]) if keep is None else True
      ids, logp = self._joined(index, 0)[:keep], self._joined(index, 1)[:keep]
      self._tally.tokens += len(ids)
      del self._parts[index]
      self._owner[row] = _FREE
      ended.append(Reply(index, ids, logp, finished))
    return ended

  def _joined(self, index: int, which: int) -> np.ndarray:
    return np.concatenate([part[which] for part in self._parts[index]])
