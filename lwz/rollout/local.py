"""Generation with our own engine: prompts of any length in, completions on the host out.

wanted = requests(prompts, num_samples=8, max_tokens=14_000, seed=c.seed, step=step)
for completion in stream(engine, params, wanted, decode=tok.decode, stops=('</answer>',)):
  ...  # in the order in which they end; completion.index is that of its request
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
class Completion(scheduler.Trajectory):
  """A trajectory with its text: without its stop token, and cut behind its stop string."""

  text: str = ''
  looped: bool = False  # ended by `loop`, see `stream`


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
  """Requests for G trajectories of each of P prompts, in the order p * G + g; G is `num_samples`.

  `seed` and `step` are counters of the sampling keys, see `sampler.trajectory_keys`. `expected` is
  a guess of the length of each prompt's answers, in any unit, such as the upper end of the range
  that it asks for; the longest start first.
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
  requests: Sequence[scheduler.Request],
  *,
  decode: Callable[[stops_lib.Ids], str] | None = None,
  stops: Sequence[str] = (),
  loop: int = 0,
  on_text: Callable[[int, str], None] | None = None,
  on_ids: Callable[[int, np.ndarray], None] | None = None,
  stats: scheduler.Stats | None = None,
) -> Iterator[Completion]:
  """Yields the completions of all requests, as they end; `params` are by the engine's `reshard`.

  Without `decode`, ids to text, completions have no text. `stops` are strings that end a
  trajectory, searched for between blocks; a completion ends with the token that completes the first
  match, regardless of the size of a block. With `loop`, a trajectory ends once its last so many
  tokens are one unit over and over (`stops.Loop`). `on_text` is called after each block with the
  index and the text so far of each trajectory, `on_ids` with its ids; `stats` is filled with the
  throughput of the rollout.

  Raises ValueError if there are stop strings and no `decode`.
  """
  if stops and decode is None:
    raise ValueError('stop strings are found in texts: `decode` must be given')
  matcher = stops_lib.Matcher(decode, stops) if decode and stops else None
  looping = stops_lib.Loop(loop) if loop else None

  def stop_rule(index: int, ids: np.ndarray) -> int | None:
    keep = matcher(index, ids) if matcher else None
    if keep is None and looping:
      keep = looping(index, ids)
    if on_text and decode:
      on_text(index, stops_lib.cut(decode(ids[:keep]), stops))
    if on_ids:
      on_ids(index, ids[:keep])
    return keep

  rule = stop_rule if matcher or looping or on_text or on_ids else None
  for done in scheduler.run(engine, params, requests, stop_rule=rule, stats=stats):
    written, looped = '', bool(looping and done.index in looping.matched)
    if decode:
      by_token = done.finished and not (looped or (matcher and done.index in matcher.matched))
      written = stops_lib.cut(text(done.ids, by_token, decode), stops)
    yield Completion(done.index, done.ids, done.logp, done.finished, written, looped)


def rollout(
  trajectories: Sequence[scheduler.Trajectory], max_tokens: int, pad_id: int = 0
) -> types.Rollout:
  """Returns the trajectories of all requests, in any order, as arrays by request."""
  B = len(trajectories)
  found = types.Rollout(
    ids=np.full((B, max_tokens), pad_id, np.int32),
    logp=np.zeros((B, max_tokens), np.float32),
    lengths=np.zeros(B, np.int32),
    finished=np.zeros(B, bool),
  )
  for one in trajectories:
    num = len(one.ids)
    found.ids[one.index, :num], found.logp[one.index, :num] = one.ids, one.logp
    found.lengths[one.index], found.finished[one.index] = num, one.finished
  return found


def text(ids: np.ndarray, finished: bool, decode: Callable[[stops_lib.Ids], str]) -> str:
  """The text of a trajectory, without its last token if that is the stop token (`finished`)."""
  return decode(ids[: len(ids) - finished])
