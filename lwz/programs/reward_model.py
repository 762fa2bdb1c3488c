"""Bradley-Terry training of a reward model, and scoring with it.

Both sides of a pair lie in the same packed rows; a text's score is read at its last token.
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lwz import rows as rows_lib
from lwz.learn import losses, update
from lwz.model import qwen, sharding
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
  *,
  num_pairs: int,
  num_rows: int,
  row_length: int,
  remat: str,
  mesh: placement.AnyMesh = None,
) -> program.Program:
  """(state, rows, row_B, last_B) -> (state, metrics); B holds all chosen, then all rejected."""

  def step(state, rows, row_B, last_B):
    def loss_fn(params, rows):
      scores = token_scores(params, rows, config, remat, mesh)[row_B, last_B]
      chosen, rejected = scores[:num_pairs], scores[num_pairs:]
      metrics = {
        'accuracy': jnp.mean((chosen > rejected).astype(jnp.float32)),
        'margin': jnp.mean(chosen - rejected),
      }
      return losses.bradley_terry(chosen, rejected), metrics

    grads, metrics = update.accumulate(
      loss_fn, state.params, jax.tree.map(lambda x: x[None], rows), 1
    )
    state, norms = update.apply(state, grads, optimizer)
    return state, metrics | norms

  state = placement.state(config, optimizer, mesh)
  index = placement.array((2 * num_pairs,), jnp.int32, mesh)
  args = (state, language_model.row_shapes(num_rows, row_length, mesh), index, index)
  return program.Program('reward_model', step, args, (0,), placement.results(state, mesh))


def score(
  config: qwen.QwenConfig, *, num_rows: int, row_length: int, mesh: placement.AnyMesh = None
) -> program.Program:
  """(params, rows) -> scores [N, T] at every token; parameters in the compute dtype, by TRAIN."""

  def step(params, rows):
    return token_scores(params, rows, config, mesh=mesh)

  args = (
    placement.params(config, mesh, sharding.TRAIN, config.dtype),
    language_model.row_shapes(num_rows, row_length, mesh),
  )
  return program.Program('score', step, args, (), placement.replicated(mesh))


def score_all(
  score_fn: Callable, params: qwen.Params, texts: Sequence[Sequence[int]], *, num_rows, row_length
) -> np.ndarray:
  """Scores [B] of any number of texts as ids; NaN for one that is longer than a row.

  Args:
    score_fn: `score(...).jit()` for the same `num_rows` and `row_length`.
    params: of the reward model.
    texts: each with its end token, at which the score is read.
  """
  scores_B = np.full(len(texts), np.nan)
  fitting = [i for i, ids in enumerate(texts) if len(ids) <= row_length]
  packed = rows_lib.first_fit_decreasing([len(texts[i]) for i in fitting], row_length)
  for start in range(0, len(packed), num_rows):
    members = [fitting[i] for row in packed[start : start + num_rows] for i in row]
    rows = rows_lib.lay([texts[i] for i in members], row_length=row_length, num_rows=num_rows)
    scores_NT = np.asarray(score_fn(params, as_dict(rows)))
    last = rows.offset + np.array([len(texts[i]) for i in members]) - 1
    scores_B[members] = scores_NT[rows.row, last]
  return scores_B


def windows(ids: Sequence[int], num_head: int, row_length: int) -> list[list[int]]:
  """A text that a row does not hold, as texts that it does: head and end token with each part.

  The parts are of one size, up to one token, and between them have every token of the body once.

  Args:
    ids: the text, its end token last.
    num_head: leading tokens that every window repeats (the request); of more than half a row,
      the last half row's worth.
    row_length: tokens of a row.
  """
  if len(ids) <= row_length:
    return [list(ids)]
  kept = min(num_head, row_length // 2)
  head, body, end = list(ids[num_head - kept : num_head]), list(ids[num_head:-1]), ids[-1]
  num = -(-len(body) // (row_length - kept - 1))
  cuts = [len(body) * i // num for i in range(num + 1)]
  return [[*head, *body[a:b], end] for a, b in itertools.pairwise(cuts)]


def score_windows(
  score_fn: Callable,
  params: qwen.Params,
  texts: Sequence[Sequence[int]],
  num_heads: Sequence[int],
  *,
  num_rows,
  row_length,
) -> np.ndarray:
  """`score_all`, a text longer than a row having the mean score of its `windows`. [B]"""
  parts = [windows(ids, head, row_length) for ids, head in zip(texts, num_heads, strict=True)]
  flat = [part for some in parts for part in some]
  scores = score_all(score_fn, params, flat, num_rows=num_rows, row_length=row_length)
  ends = np.cumsum([len(some) for some in parts])
  return np.array([scores[end - len(s) : end].mean() for end, s in zip(ends, parts, strict=True)])


def as_dict(rows: rows_lib.Rows) -> dict[str, np.ndarray]:
  """The arrays of packed rows, as the programs take them."""
  return {'ids': rows.ids, 'segments': rows.segments, 'positions': rows.positions}
