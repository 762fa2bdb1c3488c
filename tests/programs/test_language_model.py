"""Training on packed rows is training on the texts they hold, in whatever portions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lwz import rows as rows_lib
from lwz.learn import update
from lwz.programs import language_model
from tests import fakes

CONFIG = fakes.config()
SHAPE = language_model.RowShape(num_rows=4, row_length=12)
TEXTS = fakes.texts([7, 3, 5, 11, 1, 9], CONFIG)
ROWS = rows_lib.lay(TEXTS, num_rows=4, row_length=12).arrays()
RATE = 0.1


def plain(params):
  """-mean log p and mean entropy of all tokens but the first of each text, one text per row."""
  logp, entropy = fakes.logprob(params, fakes.padded(TEXTS), CONFIG)
  mask = rows_lib.length_mask(np.array([len(t) - 1 for t in TEXTS]), logp.shape[1])
  means = [jnp.sum(jnp.where(mask, x, 0)) / np.float32(mask.sum()) for x in (-logp, entropy)]
  return means[0], means[1]


@functools.cache
def stepped(micro_rows, remat='none'):
  built = language_model.train_step(
    CONFIG, optax.sgd(RATE), SHAPE, micro_rows=micro_rows, chunk=5, remat=remat
  )
  args = (update.init(fakes.params(CONFIG), optax.sgd(RATE)), ROWS)
  result = built.jit()(*args)
  assert fakes.fits(built, args, result) and args[0].params['embed'].is_deleted()
  return result


def assert_close(one, other):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, other)


def test_a_step_on_packed_rows_is_a_step_on_the_texts():
  state, metrics = stepped(4)
  params = fakes.params(CONFIG)
  (loss, entropy), grads = jax.jit(jax.value_and_grad(plain, has_aux=True))(params)
  assert_close(state.params, jax.tree.map(lambda p, g: p - RATE * g, params, grads))
  np.testing.assert_allclose(metrics['loss'], loss, atol=1e-6)
  np.testing.assert_allclose(metrics['entropy'], entropy, atol=1e-6)
  np.testing.assert_allclose(metrics['grad_norm'], optax.tree.norm(grads), rtol=1e-5)
  assert metrics['tokens'] == sum(len(t) - 1 for t in TEXTS) and state.step == 1


@pytest.mark.parametrize('micro_rows, remat', [(1, 'none'), (2, 'full')])
def test_micro_batches_are_the_whole_batch(micro_rows, remat):
  state, metrics = stepped(micro_rows, remat)
  assert_close(state.params, stepped(4)[0].params)
  assert_close(metrics, stepped(4)[1])


def test_portions_must_come_out_even():
  with pytest.raises(ValueError, match=r'train\.rows=4 is not a multiple of train\.micro_rows=3'):
    language_model.train_step(CONFIG, optax.sgd(RATE), SHAPE, micro_rows=3, chunk=5, remat='none')


def test_evaluation_is_the_sum_of_log_softmax_over_predicted_tokens():
  built = language_model.evaluate(CONFIG, SHAPE, chunk=7)
  args = (fakes.params(CONFIG), ROWS)
  result = built.jit()(*args)
  assert fakes.fits(built, args, result)
  loss, num_tokens = result
  np.testing.assert_allclose(float(loss) / int(num_tokens), plain(args[0])[0], atol=1e-6)
  empty = jax.tree.map(np.zeros_like, ROWS)
  assert tuple(map(float, built.jit()(args[0], empty))) == (0.0, 0.0)


def test_fine_tuning_is_the_mean_over_tokens_of_answers():
  heads = [3, 1, 5, 4, 1, 2]  # the third text is a prompt alone
  laid = rows_lib.lay(TEXTS, num_rows=4, row_length=12)
  answer = np.zeros_like(ROWS['ids'])
  for row, offset, head, text in zip(laid.row, laid.offset, heads, TEXTS, strict=True):
    answer[row, offset + head : offset + len(text)] = 1
  rows = ROWS | {'answer': answer}
  logp, _ = fakes.logprob(fakes.params(CONFIG), fakes.padded(TEXTS), CONFIG)
  counted = [
    logp[b, head - 1 : len(text) - 1]
    for b, (head, text) in enumerate(zip(heads, TEXTS, strict=True))
  ]
  wanted = -np.concatenate(counted)
  how = {'chunk': 5, 'answers': True}
  built = language_model.train_step(
    CONFIG, optax.sgd(RATE), SHAPE, micro_rows=2, remat='none', **how
  )
  args = (update.init(fakes.params(CONFIG), optax.sgd(RATE)), rows)
  _, metrics = result = built.jit()(*args)
  assert built.name == 'sft' and fakes.fits(built, args, result)
  np.testing.assert_allclose(metrics['loss'], wanted.mean(), rtol=1e-5)
  assert metrics['tokens'] == len(wanted)
  evaluated = language_model.evaluate(CONFIG, SHAPE, **how).jit()(fakes.params(CONFIG), rows)
  np.testing.assert_allclose(evaluated, (wanted.sum(), len(wanted)), rtol=1e-5)
