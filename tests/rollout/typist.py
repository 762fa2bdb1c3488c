"""An engine without a model: it writes what a function of the prompt and the key says.

Its programs are plain Python on the host, so that tests of the scheduler and of the server compile
nothing, and know each token beforehand.
"""

import threading

import numpy as np

from lwz.rollout import scheduler
from lwz.rollout import slots as slots_lib


class Typist:
  """`write` is (prompt ids, key) -> the ids of the whole trajectory; `end` is the stop token.

  `blocks` holds the number of active slots of every block; with `gate`, a block waits for it.
  """

  def __init__(self, write, *, num_slots=2, num_steps=3, end=0, gate=None, longest=64):
    self.write, self.num_slots, self.num_steps, self.end = write, num_slots, num_steps, end
    self.gate = gate or threading.Event()
    if gate is None:
      self.gate.set()
    self.blocks, self.longest, self.fault = [], longest, None

  def engine(self, max_tokens=60):
    return scheduler.Engine(
      reshard=lambda params: params,
      init=dict,
      prefill=lambda num, size: lambda params, prompts: prompts,
      admit=self._admit,
      move=self._move,
      decode=lambda size, read: lambda *arguments: self._decode(size, *arguments),
      compiling=lambda size, read: None,
      batch_sizes=tuple(range(1, self.num_slots + 1)),
      read_lengths=(1_000,),
      prompt_lengths=(self.longest,),
      prompt_batch_sizes=(1,),
      max_tokens=max_tokens,
      exact=False,
    )

  def _admit(self, slots, prefix, prompt, slot, counters):
    ids = prefix[int(prompt), : int(counters.cached[0]) + 1]
    whole = self.write(tuple(int(i) for i in ids), tuple(int(k) for k in counters.keys[0]))
    return slots | {int(slot): [whole[: int(counters.max_tokens[0])], 0]}

  def _move(self, slots, source, target):
    return slots | {int(target): slots[int(source)]}

  def _decode(self, size, params, slots, active_B, until_active):
    self.gate.wait()
    if self.fault:
      raise self.fault
    shape = (size, self.num_steps)
    ids, num = np.zeros(shape, np.int32), np.zeros(size, np.int32)
    stopped, goes_on = np.zeros(size, bool), np.zeros(size, bool)
    for slot in np.flatnonzero(active_B):
      assert slot < size, 'an active trajectory lies outside of the batch'
      whole, done = slots[slot]
      new = whole[done : done + self.num_steps]
      ids[slot, : len(new)], num[slot] = new, len(new)
      slots = slots | {slot: [whole, done + len(new)]}
      stopped[slot] = new[-1] == self.end
      goes_on[slot] = done + len(new) < len(whole)
    self.blocks.append(int(np.sum(active_B)))
    logp = np.where(ids > 0, -0.5, -0.25).astype(np.float32)
    return slots, slots_lib.Block(ids, logp, num, stopped, goes_on, np.int32(self.num_steps))


def count_up(length):
  """Writes 1, 2, ... and the stop token; the key shifts the numbers."""
  return lambda prompt, key: [*((key[1] + t) % 97 + 1 for t in range(length - 1)), 0]
