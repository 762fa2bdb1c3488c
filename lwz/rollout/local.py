"""Writing with our own engine: prompts of any length in, trajectories on the host out.

asked = requests(prompts, num_samples=8, max_tokens=14_000, seed=c.seed, step=step)
for reply in stream(engine, params, asked, decode=tok.decode, stops=('</answer>',)):
  ...  # in the order in which they end; reply.index says whose it is
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from lwz import types
from lwz.model import qwen
from lwz.rollout import sampler, scheduler
from lwz.rollout import stops as stops_lib


@dataclasses.dataclass(frozen=True)
class Reply(scheduler.Reply):
  """A trajectory, with its text: without its stop token, and cut behind its stop string."""

  text: str = ''


def requests(
  prompts: Sequence[np.ndarray],
  *,
  num_samples: int,
  max_tokens: int,
  seed: int,
  step: int,
  min_tokens: int = 0,
  expected: Sequence[float | int] | None = None,
) -> list[scheduler.Request]:
  """G trajectories for each of P prompts, in the order p * G + g, each with the key that names it.

  Args:
    prompts: ids of each prompt.
    num_samples: G.
    max_tokens, min_tokens: of each trajectory.
    seed, step: name the draws, see `sampler.trajectory_keys`.
    expected: a guess of the length of each prompt's answers, in any unit, such as the upper end of
      the range that it asks for; the longest are begun first.
  """
  P = len(prompts)
  owners, samples = np.indices((P, num_samples)).reshape(2, -1)
  keys_B2 = np.asarray(
    sampler.trajectory_keys(seed, step, jnp.asarray(owners), jnp.asarray(samples))
  )
  guesses = [0.0] * P if expected is None else expected
  return [
    scheduler.Request(prompts[p], key, max_tokens, min_tokens, float(guesses[p]))
    for p, key in zip(owners, keys_B2, strict=True)
  ]


def stream(
  engine: scheduler.Engine,
  params: qwen.Params,
  asked: Sequence[scheduler.Request],
  *,
  decode: Callable[[stops_lib.Ids], str] | None = None,
  stops: Sequence[str] = (),
  seen: Callable[[int, str], None] | None = None,
  tally: scheduler.Tally | None = None,
) -> Iterator[Reply]:
  """Replies to all requests, as they end.

  Args:
    engine: of `programs.rollout.engine`.
    params: as its `reshard` returns them.
    asked: what to write.
    decode: ids to text; without it replies have none.
    stops: strings that end a trajectory. They are looked for between blocks; what is returned ends
      with the token that completes the first match, whatever the size of a block.
    seen: called after each block with the text so far of each trajectory, for a person to watch.
    tally: is filled with what the writing took.
  """
  if stops and decode is None:
    raise ValueError('stop strings are found in texts: `decode` must be given')
  matcher = stops_lib.Matcher(decode, stops) if decode and stops else None

  def watch(index: int, ids: np.ndarray) -> int | None:
    keep = matcher(index, ids) if matcher else None
    if seen and decode:
      seen(index, stops_lib.cut(decode(ids[:keep]), stops))
    return keep

  replies = scheduler.run(
    engine, params, asked, watch=watch if matcher or seen else None, tally=tally
  )
  for reply in replies:
    written = ''
    if decode:
      matched = matcher is not None and reply.index in matcher.matched
      by_token = reply.finished and not matched
      written = stops_lib.cut(text(reply.ids, by_token, decode), stops)
    yield Reply(reply.index, reply.ids, reply.logp, reply.finished, written)


def rollout(replies: Sequence[scheduler.Reply], max_tokens: int, pad_id: int = 0) -> types.Rollout:
  """Replies to all requests, in any order, as arrays in the order of the requests."""
  B = len(replies)
  found = types.Rollout(
    ids=np.full((B, max_tokens), pad_id, np.int32),
    logp=np.zeros((B, max_tokens), np.float32),
    lengths=np.zeros(B, np.int32),
    finished=np.zeros(B, bool),
  )
  for reply in replies:
    num = len(reply.ids)
    found.ids[reply.index, :num], found.logp[reply.index, :num] = reply.ids, reply.logp
    found.lengths[reply.index], found.finished[reply.index] = num, reply.finished
  return found


def text(ids: np.ndarray, finished: bool, decode: Callable[[stops_lib.Ids], str]) -> str:
  """The text of a trajectory; `finished`: its last token, which ended it, is no part of it."""
  return decode(ids[: len(ids) - finished])
