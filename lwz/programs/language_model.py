"""Next-token training on packed rows, and the held-out loss."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lwz import rows as rows_lib
from lwz.learn import logprob, losses, update
from lwz.model import activations, qwen, sharding
from lwz.model import lora as lora_lib
from lwz.programs import placement, program


@dataclasses.dataclass(frozen=True)
class RowShape:
  """Packed rows of one call: their number, and tokens of each."""

  num_rows: int
  row_length: int


def abstract_rows(
  shape: RowShape, mesh: placement.AnyMesh = None, *, answers: bool = False
) -> dict:
  """Returns the shapes of packed rows, as `rows.lay` and the pretraining pipeline make them.

  With `answers` they say which tokens are of an answer, the only ones that `row_logprob` counts.
  """
  row = placement.array((shape.num_rows, shape.row_length), jnp.int32, mesh, 'rows', 'time')
  return dict.fromkeys(('ids', 'segments', 'positions', *(('answer',) if answers else ())), row)


def row_hidden(
  params, rows, config: qwen.QwenConfig, remat: str = 'none', mesh: placement.AnyMesh = None
) -> jax.Array:
  """Hidden states [N, T, D] of packed rows, where a segment sees only itself."""
  return qwen.forward(
    params,
    rows['ids'],
    config,
    positions_BT=rows['positions'],
    segments_BT=rows['segments'],
    remat=remat,
    attention=config.attention,
    mesh=mesh,
  )


def predicts(rows) -> jax.Array:
  """bool [N, T]: tokens that predict the next one of their own segment, if rows have it, an answer.

  The last token of a row, padding, and the step from one segment into the next predict nothing.
  """
  segments_NT = rows['segments']
  same_NT = (segments_NT == jnp.roll(segments_NT, -1, axis=1)) & (segments_NT > 0)
  if 'answer' in rows:
    same_NT &= jnp.roll(rows['answer'], -1, axis=1) > 0
  return same_NT.at[:, -1].set(False)


def row_logprob(
  params, rows, config: qwen.QwenConfig, *, temperature, chunk, remat='none', mesh=None
):
  """(logp_NT, entropy_NT, mask_NT): entry (n, t) is of token t + 1 given those before it.

  `mask_NT` is `predicts`: where it is False, the other two mean nothing.
  """
  hidden_NTD = row_hidden(params, rows, config, remat, mesh)
  targets_NT = jnp.roll(rows['ids'], -1, axis=1)
  logp_NT, entropy_NT = logprob.token_logprob(
    hidden_NTD,
    qwen.head_weights(params, config),
    targets_NT,
    temperature=temperature,
    chunk=chunk,
    mesh=mesh,
  )
  return logp_NT, entropy_NT, predicts(rows)


def train_step(
  config: qwen.QwenConfig,
  optimizer: optax.GradientTransformation,
  shape: RowShape,
  *,
  micro_rows: int,
  chunk: int,
  remat: str,
  offload: bool = False,
  answers: bool = False,
  lora: lora_lib.LoRA | None = None,
  mesh: placement.AnyMesh = None,
) -> program.Program:
  """(state, rows) -> (state, metrics): one step on rows of a shape, `micro_rows` at a time.

  `offload`: see `placement.state`; `answers`: see `abstract_rows`. With `lora` the state is of
  adapters, and the last argument their frozen base.
  """
  if shape.num_rows % micro_rows:
    raise ValueError(
      f'train.rows={shape.num_rows} is not a multiple of train.micro_rows={micro_rows}'
    )

  def step(state, rows, *base):
    num_tokens = jnp.maximum(jnp.sum(predicts(rows)).astype(jnp.float32), 1.0)

    def loss_fn(trained, micro):
      params = lora_lib.join(trained, *base, lora=lora)
      logp, entropy, mask = row_logprob(
        params, micro, config, temperature=1.0, chunk=chunk, remat=remat, mesh=mesh
      )
      share = losses.budget_mean(num_tokens)
      with jax.named_scope('loss'):
        return losses.next_token(logp, mask, aggregate=share), {'entropy': share(entropy, mask)}

    micro = jax.tree.map(lambda x: _micro_batches(x, micro_rows, mesh), rows)
    where = None if mesh is None else placement.shardings(abstract_state.params)
    grads, metrics = update.accumulate(
      loss_fn, state.params, micro, shape.num_rows // micro_rows, shardings=where
    )
    state, norms = update.apply(state, grads, optimizer)
    return state, metrics | norms | {'tokens': num_tokens}

  abstract_state = placement.state(config, optimizer, mesh, offload=offload, lora=lora)
  frozen = placement.frozen(config, mesh, lora)
  args = (abstract_state, abstract_rows(shape, mesh, answers=answers), *frozen)
  name = 'sft' if answers else 'pretrain'
  results = placement.results(abstract_state, mesh)
  return program.Program(name, step, args, (0,), results, frozen=len(frozen))


def _micro_batches(x_NT: jax.Array, micro_rows: int, mesh: placement.AnyMesh) -> jax.Array:
  """[M, micro_rows, T]: every micro-batch takes its share of the rows that a device holds."""
  x_NMT = x_NT.reshape(micro_rows, -1, x_NT.shape[1])
  x_NMT = activations.constrain(x_NMT, mesh, 'rows', None, 'time')
  return x_NMT.transpose(1, 0, 2)


def evaluate(
  config: qwen.QwenConfig,
  shape: RowShape,
  *,
  chunk: int,
  answers: bool = False,
  lora: lora_lib.LoRA | None = None,
  mesh: placement.AnyMesh = None,
) -> program.Program:
  """(params, rows) -> (sum of negative log-probabilities, number of tokens). `lora`: as above."""

  def step(trained, rows, *base):
    params = lora_lib.join(trained, *base, lora=lora)
    logp, _, mask = row_logprob(params, rows, config, temperature=1.0, chunk=chunk, mesh=mesh)
    return -jnp.sum(jnp.where(mask, logp, 0.0)), jnp.sum(mask)

  frozen = placement.frozen(config, mesh, lora)
  args = placement.trained(config, mesh, lora), abstract_rows(shape, mesh, answers=answers)
  return program.Program('evaluate', step, (*args, *frozen), frozen=len(frozen))


def token_logprob(
  config: qwen.QwenConfig, shape: RowShape, *, chunk: int, mesh: placement.AnyMesh = None
) -> program.Program:
  """(params, rows) -> log-probabilities [N, T], entry (n, t) of token t + 1; compute dtype."""

  def step(params, rows):
    return row_logprob(params, rows, config, temperature=1.0, chunk=chunk, mesh=mesh)[0]

  args = sharding.abstract(config, mesh, sharding.TRAIN, config.dtype), abstract_rows(shape, mesh)
  return program.Program('token_logprob', step, args, (), placement.replicated(mesh))


def logprobs(
  logprob_fn: Callable,
  params: qwen.Params,
  texts: Sequence[Sequence[int]],
  num_heads: Sequence[int],
  shape: RowShape,
) -> list[np.ndarray]:
  """Returns the log-probabilities [T] of each text's tokens behind its head, in nats.

  `logprob_fn` is `token_logprob(config, shape).jit()`; the head are the `num_heads` leading tokens.
  There are none for a text that is longer than a row or has nothing behind its head.
  """
  found = [np.zeros(0, np.float32)] * len(texts)
  for members, rows in rows_lib.batches(texts, **dataclasses.asdict(shape)):
    logp_NT = np.asarray(logprob_fn(params, rows.arrays()))
    for i, row, offset in zip(members, rows.row, rows.offset, strict=True):
      found[i] = logp_NT[row, offset + num_heads[i] - 1 : offset + len(texts[i]) - 1]
  return found


def mean_logprob(*args) -> np.ndarray:
  """Returns the mean [B] of each text's `logprobs` of the same arguments, NaN where it has none."""
  found = logprobs(*args)
  return np.array([logp_T.mean() if len(logp_T) else np.nan for logp_T in found], np.float64)
