"""A text's score is its own: packed, in portions or alone. Training is Bradley-Terry on scores."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lwz import rows as rows_lib
from lwz.learn import update
from lwz.model import qwen
from lwz.programs import reward_model
from tests import fakes

CONFIG = fakes.config(scalar_head=True)
CHOSEN, REJECTED = fakes.texts([7, 3, 5], CONFIG, seed=1), fakes.texts([4, 9, 5], CONFIG, seed=2)


def plain_scores(params, texts):
  """The scalar head at the last token of each text, one text per row."""
  hidden = fakes.forward(params, fakes.padded(texts), CONFIG)
  last = jnp.array([len(t) - 1 for t in texts])
  return qwen.score_head(params, hidden, CONFIG)[jnp.arange(len(texts)), last]


def test_a_step_is_bradley_terry_on_the_scores_of_each_text():
  optimizer, rate = optax.sgd(0.1), 0.1
  texts = CHOSEN + REJECTED
  rows = rows_lib.lay(texts, row_length=12, num_rows=4)
  last = rows.offset + np.array([len(t) for t in texts], np.int32) - 1
  built = reward_model.train_step(
    CONFIG, optimizer, num_pairs=3, num_rows=4, row_length=12, remat='none'
  )
  params = fakes.params(CONFIG)
  state = update.init(fakes.params(CONFIG), optimizer)
  args = (state, reward_model.as_dict(rows), rows.row, last)
  new, metrics = built.jit()(*args)
  assert fakes.fits(built, args, (new, metrics)) and state.params['embed'].is_deleted()

  def plain(params):
    scores = plain_scores(params, texts)
    margin = scores[:3] - scores[3:]
    return jnp.mean(jnp.log1p(jnp.exp(-margin))), margin

  (loss, margin), grads = jax.jit(jax.value_and_grad(plain, has_aux=True))(params)
  assert (margin > 0).any() and (margin < 0).any()
  jax.tree.map(
    lambda p, g, q: np.testing.assert_allclose(p - rate * g, q, atol=1e-6),
    params,
    grads,
    new.params,
  )
  expected = {'loss': loss, 'accuracy': (margin > 0).mean(), 'margin': margin.mean()}
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, atol=1e-6, err_msg=name)


def test_any_number_of_texts_is_scored_as_each_alone_and_too_long_ones_are_not():
  shape = {'num_rows': 2, 'row_length': 10}
  lengths = [3, 10, 1, 11, 6, 4, 5, 10, 2, 7, 30, 8]
  texts = fakes.texts(lengths, CONFIG)
  params = fakes.params(CONFIG)
  built = reward_model.score(CONFIG, **shape)
  score_fn = built.jit()
  calls = []

  def counted(params, rows):
    calls.append(rows)
    return score_fn(params, rows)

  scores = reward_model.score_all(counted, params, texts, **shape)
  too_long = np.array(lengths) > 10
  np.testing.assert_array_equal(np.isnan(scores), too_long)
  np.testing.assert_allclose(scores[~too_long], plain_scores(params, texts)[~too_long], atol=1e-5)
  assert len(calls) > 1 and score_fn._cache_size() == 1
  args = (params, calls[0])
  assert fakes.fits(built, args, score_fn(*args))


def test_nothing_to_score_asks_nothing():
  for texts in ([], fakes.texts([5], CONFIG)):
    scores = reward_model.score_all(None, None, texts, num_rows=1, row_length=4)
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


def test_a_long_text_has_the_mean_score_of_its_windows():
  shape = {'num_rows': 2, 'row_length': 10}
  texts = fakes.texts([4, 25, 10], CONFIG)
  params = fakes.params(CONFIG)
  score_fn = reward_model.score(CONFIG, **shape).jit()
  scores = reward_model.score_windows(score_fn, params, texts, [2, 3, 1], **shape)
  expected = [
    plain_scores(params, [np.array(w) for w in reward_model.windows(list(t), head, 10)]).mean()
    for t, head in zip(texts, [2, 3, 1], strict=True)
  ]
  np.testing.assert_allclose(scores, expected, atol=1e-5)
