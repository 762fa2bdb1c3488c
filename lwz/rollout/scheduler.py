"""Continuous batching: a queue of requests, a fixed number of slots, blocks of decoding steps.

Between two blocks the host collects what has ended, fills free slots from the queue, and, once the
queue is empty, moves the active trajectories to the first slots, so that the next batch is smaller.
A slot has room for the longest prompt and answer, so no trajectory is ever preempted.

The content of a trajectory does not depend on scheduling: its key names its randomness. Its last
bits may, by rounding; with `exact` every block has one shape and one length, and no bit does.

A training gives a list of requests, a server a queue to which more come meanwhile.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from lwz.rollout import queue as queue_lib
from lwz.rollout import slots

Request = queue_lib.Request

# (index of the request, its ids so far) -> the number of them to keep, which ends it, or None.
StopRule = Callable[[int, np.ndarray], int | None]

_FREE = -1  # the owner of a free slot


@dataclasses.dataclass(frozen=True)
class Trajectory:
  """A trajectory that has ended: its ids, the stop token included, and their log-probabilities."""

  index: int  # of the request
  ids: np.ndarray  # int32 [T]
  logp: np.ndarray  # float32 [T], of the distribution sampled from; 0 for what was begun before
  finished: bool  # False if the cap was hit


@dataclasses.dataclass
class Stats:
  """Throughput counters of a rollout."""

  tokens: int = 0
  steps: int = 0
  computed: int = 0  # batch size, summed over steps
  capacity: int = 0  # number of slots, summed over steps
  prefilled: int = 0  # prompts
  blocks: int = 0
  seconds: float = 0.0  # until the last trajectory ended
  first: float = 0.0  # seconds until the first trajectory ended

  @property
  def metrics(self) -> dict[str, float]:
    """Metrics of a step's record."""
    return {
      'rollout/tokens_per_second': self.tokens / self.seconds if self.seconds else 0.0,
      'rollout/wasted': 1 - self.tokens / self.computed if self.computed else 0.0,
      'rollout/active_slots': self.tokens / self.capacity if self.capacity else 0.0,
      'rollout/seconds_to_first': self.first,
      'rollout/seconds_to_last': self.seconds,
    }


@dataclasses.dataclass(frozen=True)
class Engine:
  """The compiled programs and their shapes, as `programs.rollout.engine` builds them.

  `decode` of (batch size, read length) is the program, compiled from when it is asked for, of
  (params, slots, active, until_active) -> (Slots, Block).
  """

  reshard: Callable  # (params) -> params as the other programs take them
  init: Callable  # () -> Slots
  prefill: Callable  # (P, T) -> the program (params, prompts_PT) -> Cache
  admit: Callable  # (slots, prefix, prompt, slot, counters) -> Slots; `prompt` is one of the P
  move: Callable  # (slots, source, target) -> Slots
  decode: Callable
  compiling: Callable  # (batch size, read length) -> the future of `decode`, see `Program.start`
  batch_sizes: tuple[int, ...]  # of decoding, rising; the last is the number of slots
  read_lengths: tuple[int, ...]  # numbers of cached tokens to read, rising
  prompt_lengths: tuple[int, ...]  # lengths that prompts are padded to, rising
  prompt_batch_sizes: tuple[int, ...]  # P for each, if more than half as many wait; otherwise 1
  max_tokens: int  # limit of a trajectory
  exact: bool  # one batch shape and one length of block, regardless of which slots are active


def run(
  engine: Engine,
  params,
  requests: Sequence[Request] | queue_lib.Queue,
  *,
  stop_rule: StopRule | None = None,
  stats: Stats | None = None,
) -> Iterator[Trajectory]:
  """Yields the trajectories of all requests, as they end; the next block runs meanwhile.

  `stop_rule` sees every active trajectory after every block and may end it, at any of its tokens.
  Raises ValueError if a request exceeds the limits of a slot; those of a queue are not checked.
  """
  if not isinstance(requests, queue_lib.Queue):
    for index, request in enumerate(requests):
      queue_lib.check(index, request, engine.prompt_lengths[-1], engine.max_tokens)
    requests = queue_lib.Queue(requests)
  return _Loop(engine, params, requests, stop_rule, stats or Stats()).run()


def plan(engine, num_active: int, longest: int, waiting: bool) -> tuple[int, int, int]:
  """Returns the next block: (batch size, read length, active slots at which to end early).

  While requests wait for a slot, a block ends early once an eighth of its trajectories has ended;
  later, once a smaller batch is enough. The active trajectories are in the first slots unless
  requests wait, when all slots are taken; `longest` is the most tokens that one of them has cached.
  """
  if engine.exact:
    return engine.batch_sizes[-1], engine.read_lengths[-1], 0
  if waiting:
    until_active = num_active - max(1, num_active // 8)
  else:
    until_active = max((size for size in engine.batch_sizes if size < num_active), default=0)
  batch_size = _round_up(num_active, engine.batch_sizes)
  return batch_size, _round_up(longest, engine.read_lengths), until_active


def _round_up(wanted: int, sizes: Sequence[int]) -> int:
  return next(size for size in sizes if size >= wanted)


class _Loop:
  """The host loop of one rollout."""

  def __init__(self, engine, params, queue, stop_rule, stats):
    self._engine, self._params, self._queue = engine, params, queue
    self._stop_rule, self._stats = stop_rule, stats
    self._owner = [_FREE] * engine.batch_sizes[-1]  # of each slot
    self._cached = [0] * engine.batch_sizes[-1]
    self._most = [0] * engine.batch_sizes[-1]  # tokens that a slot may have cached at its end
    self._parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    self._prefilled: tuple[object, list[bytes]] = None, []  # the last cache, and its prompts
    self._slots = engine.init()

  def run(self) -> Iterator[Trajectory]:
    start = time.monotonic()
    ended: list[Trajectory] = []
    while True:
      more = self._queue.refresh(idle=not (ended or self._active()))
      self._fill()
      active = self._active()
      block = self._decode(active) if active else None
      self._queue.busy()
      for trajectory in ended:  # the device is busy meanwhile
        self._stats.seconds = time.monotonic() - start
        self._stats.first = self._stats.first or self._stats.seconds
        yield trajectory
      if block is None and not more:
        return
      ended = self._collect(jax.device_get(block), active) if block is not None else []

  def _active(self) -> list[int]:
    return [slot for slot, owner in enumerate(self._owner) if owner != _FREE]

  def _fill(self) -> None:
    """Starts trajectories in free slots, or compacts the active ones if the queue is empty."""
    # {padded length: {prompt: [(slot, index, request)]}}
    starts: dict[int, dict[bytes, list[tuple[int, int, Request]]]] = {}
    for slot, owner in enumerate(self._owner):
      if owner == _FREE and self._queue:
        index, request = self._queue.pop()
        ids = request.ids
        length = _round_up(len(ids), self._engine.prompt_lengths)
        starts[length] = starts.pop(length, {})  # last, since others of its group may wait
        starts[length].setdefault(ids.tobytes(), []).append((slot, index, request))
    new = [each for places in starts.values() for group in places.values() for *_, each in group]
    if new and not self._active():  # the first block's program, while prompts are read
      longest = max(len(request.ids) for request in new) - 1
      self._engine.decode(*plan(self._engine, len(new), longest, bool(self._queue))[:2])
    for length, places in starts.items():
      for prefix, prompts in self._prefill(length, list(places)):
        for number, prompt in enumerate(prompts):
          for place in places.get(prompt, []):
            self._admit(prefix, number, *place)
    if not self._queue:
      self._prefilled = None, []
      if not self._engine.exact:
        self._compact()

  def _prefill(self, length: int, prompts: list[bytes]) -> Iterator[tuple[object, list[bytes]]]:
    """Yields caches with their prompts; the last is kept, as others of its group may wait."""
    if found := {*self._prefilled[1]} & {*prompts}:
      yield self._prefilled
      prompts = [prompt for prompt in prompts if prompt not in found]
    most = self._engine.prompt_batch_sizes[self._engine.prompt_lengths.index(length)]
    while prompts:
      num = most if len(prompts) > most // 2 else 1
      batch, prompts = prompts[:num], prompts[num:]
      padded = np.zeros((num, length), np.int32)
      for row, prompt in zip(padded, batch, strict=False):
        ids = np.frombuffer(prompt, np.int32)
        row[: len(ids)] = ids
      self._prefilled = self._engine.prefill(num, length)(self._params, padded), batch
      self._stats.prefilled += len(batch)
      yield self._prefilled

  def _admit(self, prefix, number: int, slot: int, index: int, request: Request) -> None:
    num, written = len(request.ids), len(request.begun)
    counters = slots.Counters(
      last=request.ids[-1:],
      cached=np.array([num - 1], np.int32),
      written=np.array([written], np.int32),
      min_tokens=np.array([request.min_tokens], np.int32),
      max_tokens=np.array([request.max_tokens], np.int32),
      keys=np.asarray(request.key, np.uint32)[None],
      active=np.ones(1, bool),
      greedy=np.array([request.greedy]),
    )
    self._slots = self._engine.admit(
      self._slots, prefix, np.int32(number), np.int32(slot), counters
    )
    self._owner[slot], self._cached[slot] = index, num - 1
    self._most[slot] = num - 1 + request.max_tokens - written
    begun = request.begun.astype(np.int32), np.zeros(written, np.float32)
    self._parts[index] = [begun] if written else []
    self._stats.tokens -= written  # they were written before

  def _compact(self) -> None:
    """Moves active trajectories into the first slots if the batch can then be smaller."""
    active = self._active()
    size = _round_up(len(active), self._engine.batch_sizes)
    free = [slot for slot in range(size) if self._owner[slot] == _FREE]
    for source, target in zip([slot for slot in active if slot >= size], free, strict=False):
      self._slots = self._engine.move(self._slots, np.int32(source), np.int32(target))
      self._owner[target], self._owner[source] = self._owner[source], _FREE
      self._cached[target], self._most[target] = self._cached[source], self._most[source]

  def _decode(self, active: list[int]):
    """Starts a block without waiting for it."""
    batch_size, read_length, until_active = plan(
      self._engine, len(active), max(self._cached[slot] for slot in active), bool(self._queue)
    )
    if (begun := self._engine.compiling(batch_size, read_length)) and not begun.done():
      self._queue.busy()  # what was written waits for no compilation
    active_B = np.array([owner != _FREE for owner in self._owner])
    self._slots, block = self._engine.decode(batch_size, read_length)(
      self._params, self._slots, active_B, np.int32(until_active)
    )
    self._expect(active, block.ids.shape[1], until_active)
    return block

  def _expect(self, active: list[int], num_steps: int, until_active: int) -> None:
    """Asks for the programs that come next, while a block runs: a longer cache, a smaller batch.

    The batch shrinks once trajectories have ended at different times.
    """
    left = [n for slot in active if (n := self._cached[slot] + num_steps) < self._most[slot]]
    waiting, sizes = bool(self._queue), [len(active)] if left else []
    if left and until_active and not waiting and len(active) < len(self._owner):
      sizes.append(until_active)
    for num_active in sizes:
      self._engine.decode(*plan(self._engine, num_active, max(left), waiting)[:2])

  def _collect(self, block: slots.Block, active: list[int]) -> list[Trajectory]:
    """Adds a block's tokens, frees the slots of trajectories that ended, and returns these."""
    steps = int(block.steps)
    self._stats.steps += steps
    self._stats.computed += steps * block.ids.shape[0]
    self._stats.capacity += steps * len(self._owner)
    self._stats.blocks += 1
    ended = []
    for slot in active:
      index, num = self._owner[slot], int(block.num[slot])
      if not np.isfinite(block.logp[slot, :num]).all():
        raise ValueError(self._overflow(index, block.logp[slot, :num]))
      self._parts[index].append((block.ids[slot, :num], block.logp[slot, :num]))
      self._cached[slot] += num
      keep = self._stop_rule(index, self._joined(index)[0]) if self._stop_rule else None
      if keep is None and block.active[slot]:
        continue
      finished = bool(block.stopped[slot]) if keep is None else True
      ids, logp = (part[:keep] for part in self._joined(index))
      self._stats.tokens += len(ids)
      del self._parts[index]
      self._owner[slot] = _FREE
      ended.append(Trajectory(index, ids, logp, finished))
    return ended

  def _overflow(self, index: int, logp: np.ndarray) -> str:
    """Returns the sentence about the first token whose log-probability is not finite."""
    before = sum(len(part) for part, _ in self._parts[index])
    return (
      f'request {index}: the logits of token {before + int(np.argmin(np.isfinite(logp)))} are not '
      "finite, though the model's weights are; compute in a dtype with a larger range: in its "
      'config.json (a run has model.json), change dtype from float16 to bfloat16'
    )

  def _joined(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns all ids so far and their log-probabilities; the parts of a long text become one."""
    ids, logp = (np.concatenate(parts) for parts in zip(*self._parts[index], strict=True))
    self._parts[index] = [(ids, logp)]
    return ids, logp
