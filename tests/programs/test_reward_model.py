"""A text's score is its own: packed, in portions or alone. Training is Bradley-Terry on scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lwz.learn import update
from lwz.model import lora as lora_lib
from lwz.model import qwen, sharding
from lwz.programs import language_model, placement, reward_model
from tests import fakes

CONFIG = fakes.config(scalar_head=True)
CHOSEN, REJECTED = fakes.texts([7, 3, 5], CONFIG, seed=1), fakes.texts([4, 9, 5], CONFIG, seed=2)


def plain_scores(params, texts):
  """The scalar head at the last token of each text, one text per row."""
  hidden = fakes.forward(params, fakes.padded(texts), CONFIG)
  last = jnp.array([len(t) - 1 for t in texts])
  return qwen.score_head(params, hidden, CONFIG)[jnp.arange(len(texts)), last]


LORA = lora_lib.LoRA(3, 6.0, ('q', 'up'))
MARGINS, CENTRING = [0.5, 0.0, 2.0], 0.1
PAIRS = list(zip(CHOSEN, REJECTED, strict=True))


@pytest.mark.parametrize(
  'micro_rows, num_micro, mesh_shape',
  [pytest.param(6, 1, None, marks=pytest.mark.slow), (2, 2, (1, 2, 1, 2))],
)
def test_a_step_is_bradley_terry_on_the_scores_of_each_text(micro_rows, num_micro, mesh_shape):
  optimizer, rate = optax.sgd(0.1), 0.1
  mesh = mesh_shape and sharding.make_mesh(mesh_shape)
  shape = language_model.RowShape(micro_rows, row_length=12)
  built = reward_model.train_step(
    CONFIG, optimizer, shape, num_pairs=3, remat='none', centring=CENTRING, mesh=mesh
  )
  state = update.init(fakes.params(CONFIG), optimizer)
  if mesh is not None:
    state = jax.device_put(state, placement.shardings(built.abstract_args[0]))
  batch, used = reward_model.minibatch(PAIRS, MARGINS, shape)
  assert used == num_micro <= len(batch['micro']['here'])
  args = (state, batch, np.int32(used))
  new, metrics = built.jit()(*args)
  assert fakes.fits(built, args, (new, metrics)) and state.params['embed'].is_deleted()

  def plain(params):
    scores = plain_scores(params, CHOSEN + REJECTED)
    ahead = scores[:3] - scores[3:]
    centre = jnp.mean((scores[:3] + scores[3:]) ** 2)
    margins = jnp.array(MARGINS, jnp.float32)
    return jnp.mean(jnp.log1p(jnp.exp(margins - ahead))) + CENTRING * centre, ahead

  params = fakes.params(CONFIG)
  (loss, ahead), grads = jax.jit(jax.value_and_grad(plain, has_aux=True))(params)
  assert (ahead > 0).any() and (ahead < 0).any()
  jax.tree.map(
    lambda p, g, q: np.testing.assert_allclose(p - rate * g, q, atol=1e-5),
    params,
    grads,
    new.params,
  )
  expected = {'loss': loss, 'accuracy': (ahead > 0).mean(), 'margin': ahead.mean()}
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, atol=1e-5, err_msg=name)


@pytest.mark.parametrize('seed', range(4))
def test_both_sides_of_a_pair_lie_in_one_micro_batch(seed):
  rng = np.random.default_rng(seed)
  num, micro_rows = int(rng.integers(1, 12)), int(rng.integers(2, 6))
  lengths = rng.integers(1, 11, (num, 2))
  pairs = [tuple(fakes.texts(both, CONFIG, seed=b)) for b, both in enumerate(lengths)]
  shape = language_model.RowShape(micro_rows, row_length=10)
  batch, used = reward_model.minibatch(pairs, np.arange(num), shape)
  micro = batch['micro']
  assert len(micro['here']) == reward_model.max_micro(num, micro_rows) >= used
  np.testing.assert_array_equal(micro['here'].sum(axis=0), np.ones(num))
  assert (micro['segments'] > 0).sum() == lengths.sum()
  assert not (micro['segments'][used:] > 0).any() and micro['here'][:used].any(axis=1).all()
  for b, pair in enumerate(pairs):
    (m,) = np.flatnonzero(micro['here'][:, b])
    for side, text in enumerate(pair):
      row, last = batch['row'][side, b], batch['last'][side, b]
      own = micro['segments'][m, row] == micro['segments'][m, row, last]
      np.testing.assert_array_equal(micro['ids'][m, row][own], text)
      assert np.flatnonzero(own)[-1] == last


def test_a_pair_that_no_pass_holds_is_refused():
  with pytest.raises(ValueError, match='texts of 11 and 3 tokens, a row only 10'):
    long = [tuple(fakes.texts([11, 3], CONFIG))]
    reward_model.minibatch(long, [0.0], language_model.RowShape(2, row_length=10))
  with pytest.raises(ValueError, match=r'1 row in a pass, train\.micro_rows'):
    reward_model.max_micro(3, 1)


def test_any_number_of_texts_is_scored_as_each_alone_and_too_long_ones_are_not():
  shape = language_model.RowShape(num_rows=2, row_length=10)
  lengths = [3, 10, 1, 11, 6, 4, 5, 10, 2, 7, 30, 8]
  texts = fakes.texts(lengths, CONFIG)
  params = fakes.params(CONFIG)
  built = reward_model.score(CONFIG, shape)
  score_fn = built.jit()
  calls = []

  def counted(params, rows):
    calls.append(rows)
    return score_fn(params, rows)

  scores = reward_model.score_all(counted, params, texts, shape)
  too_long = np.array(lengths) > 10
  np.testing.assert_array_equal(np.isnan(scores), too_long)
  np.testing.assert_allclose(scores[~too_long], plain_scores(params, texts)[~too_long], atol=1e-5)
  assert len(calls) > 1 and score_fn._cache_size() == 1
  args = (params, calls[0])
  assert fakes.fits(built, args, score_fn(*args))


def test_nothing_to_score_asks_nothing():
  for texts in ([], fakes.texts([5], CONFIG)):
    scores = reward_model.score_all(None, None, texts, language_model.RowShape(1, row_length=4))
    assert scores.shape == (len(texts),) and np.isnan(scores).all()


def test_windows_hold_every_token_once_behind_the_head_and_before_the_end():
  ids = [*range(100, 123), 7]
  for num_head, row_length in ((3, 10), (0, 8), (8, 10), (20, 9)):
    found = reward_model.windows(ids, num_head, row_length)
    head = ids[max(0, num_head - min(num_head, row_length // 2)) : num_head]
    assert all(len(w) <= row_length and w[: len(head)] == head and w[-1] == 7 for w in found)
    assert [x for w in found for x in w[len(head) : -1]] == ids[num_head:-1]
    sizes = {len(w) for w in found}
    assert max(sizes) - min(sizes) <= 1
  assert reward_model.windows(ids, 3, 24) == [ids]
  assert reward_model.windows([*range(8), 9], 8, 8) == [[4, 5, 6, 7, 9]]  # nothing was written


def test_a_long_text_has_the_mean_score_of_its_windows():
  shape = language_model.RowShape(num_rows=2, row_length=10)
  texts = fakes.texts([4, 25, 10], CONFIG)
  params = fakes.params(CONFIG)
  score_fn = reward_model.score(CONFIG, shape).jit()
  scores = reward_model.score_windows(score_fn, params, texts, [2, 3, 1], shape)
  expected = [
    plain_scores(params, [np.array(w) for w in reward_model.windows(list(t), head, 10)]).mean()
    for t, head in zip(texts, [2, 3, 1], strict=True)
  ]
  np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_adapters_and_the_head_are_trained_over_a_frozen_base():
  """Loss, scores and the head's step are those of the merged model; of the base no bit changes."""
  optimizer, shape = optax.sgd(0.1), language_model.RowShape(6, row_length=12)
  base, own = fakes.params(CONFIG), fakes.adapters(CONFIG, LORA)
  before = jax.tree.map(np.array, base)
  merged = lora_lib.merged(lora_lib.join(own, base, lora=LORA), jnp.float32)
  batch = reward_model.minibatch(PAIRS, MARGINS, shape)
  step = functools.partial(
    reward_model.train_step, CONFIG, optimizer, shape, num_pairs=3, remat='none', centring=CENTRING
  )
  score = functools.partial(reward_model.score, CONFIG, shape)
  rows = {name: batch[0]['micro'][name][0] for name in ('ids', 'segments', 'positions')}
  expected_NT = score().jit()(merged, rows)
  np.testing.assert_allclose(score(lora=LORA).jit(base)(own, rows), expected_NT, atol=1e-5)
  begin, a_before = jax.tree.map(jnp.array, merged), np.array(own['layers']['wq']['a'])
  new, metrics = step(lora=LORA).jit(base)(update.init(own, optimizer), *batch)
  whole, wanted = step().jit()(update.init(begin, optimizer), *batch)
  np.testing.assert_allclose(metrics['loss'], wanted['loss'], atol=1e-5)
  np.testing.assert_allclose(new.params['score'], whole.params['score'], atol=1e-5)
  assert set(new.params) == {'layers', 'score'} and set(new.params['layers']) == {'wq', 'w_up'}
  assert np.abs(new.params['layers']['wq']['a'] - a_before).max() > 1e-6
  jax.tree.map(np.testing.assert_array_equal, base, before)
