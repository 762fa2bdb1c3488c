"""Bradley-Terry training of a reward model, and scoring with it.

Both sides of a pair lie in rows of one micro-batch; a text's score is read at its last token.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lwz import rows as rows_lib
from lwz.learn import losses, update
from lwz.model import lora as lora_lib
from lwz.model import qwen
from lwz.programs import language_model, placement, program


def token_scores(
  params, rows, config: qwen.QwenConfig, remat: str = 'none', mesh: placement.AnyMesh = None
) -> jax.Array:
  """The scalar head at every token of packed rows, [N, T]."""
  hidden_NTD = language_model.row_hidden(params, rows, config, remat, mesh)
  return qwen.score_head(params, hidden_NTD, config)


def train_step(
  config: qwen.QwenConfig,
  optimizer: optax.GradientTransformation,
  shape: language_model.RowShape,
  *,
  num_pairs: int,
  remat: str,
  centring: float = 0.0,
  offload: bool = False,
  lora: lora_lib.LoRA | None = None,
  mesh: placement.AnyMesh = None,
) -> program.Program:
  """(state, minibatch, num_micro) -> (state, metrics), for what `minibatch` returns.

  `shape` is that of a micro-batch. `centring`: see `losses.bradley_terry`. `offload`: see
  `placement.state`. With `lora` the state is of adapters and of the scalar head, and the last
  argument their frozen base.
  """

  def step(state, pairs, num_micro, *base):
    def loss_fn(trained, micro):
      params = lora_lib.join(trained, *base, lora=lora)
      scores_NT = token_scores(params, micro, config, remat, mesh)
      chosen_B, rejected_B = scores_NT[pairs['row'], pairs['last']]

      def share(values_B):
        return jnp.sum(jnp.where(micro['here'], values_B, 0.0)) / num_pairs

      metrics = {
        'accuracy': share((chosen_B > rejected_B).astype(jnp.float32)),
        'margin': share(chosen_B - rejected_B),
      }
      with jax.named_scope('loss'):
        loss = losses.bradley_terry(
          chosen_B, rejected_B, pairs['margin'], centring=centring, aggregate=share
        )
      return loss, metrics

    where = None if mesh is None else placement.shardings(abstract_state.params)
    grads, metrics = update.accumulate(
      loss_fn, state.params, pairs['micro'], num_micro, shardings=where
    )
    state, norms = update.apply(state, grads, optimizer)
    return state, metrics | norms

  abstract_state = placement.state(config, optimizer, mesh, offload=offload, lora=lora)
  frozen = placement.frozen(config, mesh, lora)
  B, M = num_pairs, max_micro(num_pairs, shape.num_rows)
  cut = (M, shape.num_rows, shape.row_length)
  row = placement.array(cut, jnp.int32, mesh, None, 'rows', 'time')
  of = functools.partial(placement.array, mesh=mesh)
  arrays = {
    'row': of((2, B), jnp.int32),
    'last': of((2, B), jnp.int32),
    'margin': of((B,), jnp.float32),
    'micro': dict.fromkeys(('ids', 'segments', 'positions'), row) | {'here': of((M, B), jnp.bool_)},
  }
  return program.Program(
    'reward_model',
    step,
    (abstract_state, arrays, of((), jnp.int32), *frozen),
    (0,),
    placement.results(abstract_state, mesh),
    trips=M,
    frozen=len(frozen),
  )


def max_micro(num_pairs: int, micro_rows: int) -> int:
  """Returns a number of micro-batches that suffices: each takes a pair per two of its rows."""
  if micro_rows < 2:
    raise ValueError(
      f'{micro_rows} row in a pass, train.micro_rows x mesh.data x mesh.fsdp: both sides of a pair '
      'must lie in one, which takes 2'
    )
  return -(-num_pairs // (micro_rows // 2))


def minibatch(
  pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
  margins: Sequence[float],
  shape: language_model.RowShape,
) -> tuple[dict, int]:
  """The arguments of `train_step` for (chosen, rejected) texts, and the number of micro-batches.

  The longest pairs come first, each into the first micro-batch, of `shape`, that has room for both
  sides. Texts are ids, each with its end token, at which the score is read; `margins` say how far
  apart the scores of each pair shall be, 0 for no matter.
  """
  micro_rows, row_length = shape.num_rows, shape.row_length
  B, M = len(pairs), max_micro(len(pairs), micro_rows)
  packed: list[list[int]] = [[] for _ in range(M * micro_rows)]
  room, home_B = np.full(M * micro_rows, row_length), np.zeros(B, int)
  for b in sorted(range(B), key=lambda b: -sum(map(len, pairs[b]))):
    for m in range(M):
      trial, taken = room[m * micro_rows : (m + 1) * micro_rows].copy(), []
      for text in pairs[b]:
        free = np.flatnonzero(trial >= len(text))[:1]
        taken += free.tolist()
        trial[free] -= len(text)
      if len(taken) == 2:
        break
    else:
      raise ValueError(
        f'a pair has texts of {" and ".join(str(len(text)) for text in pairs[b])} tokens, a row '
        f'only {row_length}: raise the row length or shorten them'
      )
    room[m * micro_rows : (m + 1) * micro_rows], home_B[b] = trial, m
    for side, r in enumerate(taken):
      packed[m * micro_rows + r].append(side * B + b)
  texts = [pair[side] for side in (0, 1) for pair in pairs]
  rows = rows_lib.place(texts, packed, row_length=row_length, num_rows=M * micro_rows)
  last = rows.offset + np.array([len(text) for text in texts], np.int32) - 1
  cut = {name: x.reshape(M, micro_rows, row_length) for name, x in rows.arrays().items()}
  arrays = {
    'row': (rows.row % micro_rows).reshape(2, B),
    'last': last.reshape(2, B),
    'margin': np.array(margins, np.float32),
    'micro': cut | {'here': home_B[None, :] == np.arange(M)[:, None]},
  }
  return arrays, int(home_B.max()) + 1


def score(
  config: qwen.QwenConfig,
  shape: language_model.RowShape,
  *,
  lora: lora_lib.LoRA | None = None,
  mesh: placement.AnyMesh = None,
) -> program.Program:
  """(params, rows) -> scores [N, T] at every token; parameters in the compute dtype, by TRAIN.

  With `lora`, (adapters and scalar head, rows, their frozen base) -> the same.
  """

  def step(trained, rows, *base):
    return token_scores(lora_lib.join(trained, *base, lora=lora), rows, config, mesh=mesh)

  frozen = placement.frozen(config, mesh, lora)
  params = placement.trained(config, mesh, lora, config.dtype)
  args = (params, language_model.abstract_rows(shape, mesh), *frozen)
  where = placement.replicated(mesh)
  return program.Program('score', step, args, (), where, frozen=len(frozen))


def score_all(
  score_fn: Callable,
  params: qwen.Params,
  texts: Sequence[Sequence[int]],
  shape: language_model.RowShape,
  progress: Callable[[int, int], object] = lambda done, total: None,
) -> np.ndarray:
  """Scores [B] of any number of texts as ids; NaN for one that is longer than a row.

  `score_fn` is `score(config, shape).jit()`. Each text has its end token, at which its score is
  read. `progress` is told how many texts are scored, and of how many.
  """
  done = 0
  scores_B = np.full(len(texts), np.nan)
  for members, rows in rows_lib.batches(texts, **dataclasses.asdict(shape)):
    scores_NT = np.asarray(score_fn(params, rows.arrays()))
    last = rows.offset + np.array([len(texts[i]) for i in members]) - 1
    scores_B[members] = scores_NT[rows.row, last]
    progress(done := done + len(members), len(texts))
  return scores_B


def windows(ids: Sequence[int], num_head: int, row_length: int) -> list[list[int]]:
  """Returns a text too long for a row as shorter ones: each has its head, a part, its end token.

  The parts are of one size, up to one token, and between them have every token of the body once.
  The head are the `num_head` leading tokens (the request); of more than half a row, the last half
  row's worth.
  """
  if len(ids) <= row_length:
    return [list(ids)]
  kept = min(num_head, row_length // 2)
  head, body, end = list(ids[num_head - kept : num_head]), list(ids[num_head:-1]), ids[-1]
  num = max(1, -(-len(body) // (row_length - kept - 1)))
  cuts = [len(body) * i // num for i in range(num + 1)]
  return [[*head, *body[a:b], end] for a, b in itertools.pairwise(cuts)]


def score_windows(
  score_fn: Callable,
  params: qwen.Params,
  texts: Sequence[Sequence[int]],
  num_heads: Sequence[int],
  shape: language_model.RowShape,
  progress: Callable[[int, int], object] = lambda done, total: None,
) -> np.ndarray:
  """`score_all`, a text longer than a row having the mean score of its `windows`. [B]"""
  parts = [windows(ids, head, shape.row_length) for ids, head in zip(texts, num_heads, strict=True)]
  flat = [part for some in parts for part in some]
  scores = score_all(score_fn, params, flat, shape, progress)
  ends = np.cumsum([len(some) for some in parts])
  return np.array([scores[end - len(s) : end].mean() for end, s in zip(ends, parts, strict=True)])
