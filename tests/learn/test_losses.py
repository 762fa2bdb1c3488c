"""Losses against their equations in plain NumPy, and the laws they keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from lwz.learn import losses

SYMMETRIC = {'clip_low': 0.2, 'clip_high': 0.2}
CLIPS = [SYMMETRIC, {'clip_low': 0.2, 'clip_high': 0.28}, {'clip_low': 0.1, 'clip_high': 0.5}]
AGGREGATES = {
  'token': losses.token_mean,
  'sequence': losses.sequence_mean,
  'budget': losses.budget_mean(40.0),
}


def batch(seed=0, B=5, T=7, spread=0.4):
  """Log-probabilities some of whose ratios are clipped; ragged rows, the third one empty."""
  rng = np.random.default_rng(seed)
  old = -rng.exponential(1.0, (B, T)).astype(np.float32)
  new = old + rng.normal(0.0, spread, (B, T)).astype(np.float32)
  advantage = rng.normal(0.0, 1.0, B).astype(np.float32)
  lengths = np.array([T, 1, 0, T - 2, 3])[:B]
  return new, old, advantage, np.arange(T)[None, :] < lengths[:, None]


def reference(new, old, advantage, mask, *, clip_low, clip_high, aggregate):
  """Loss and its gradient as TRL computes them, in float64, token by token."""
  new, old, advantage = (np.asarray(x, np.float64) for x in (new, old, advantage))
  mask = np.asarray(mask, np.float64)
  loss, slope = np.zeros(new.shape), np.zeros(new.shape)
  for b, t in zip(*np.nonzero(mask), strict=True):
    ratio = np.exp(new[b, t] - old[b, t])
    plain = ratio * advantage[b]
    clipped = np.clip(ratio, 1 - clip_low, 1 + clip_high) * advantage[b]
    loss[b, t] = -min(plain, clipped)
    slope[b, t] = -plain if plain <= clipped else 0.0
  if aggregate == 'token':
    weight = mask / max(mask.sum(), 1.0)
  elif aggregate == 'sequence':
    weight = mask / np.maximum(mask.sum(-1, keepdims=True), 1.0) / len(mask)
  else:
    weight = mask / 40.0
  return (loss * weight).sum(), slope * weight


def loss_and_gradient(new, *args, **clips):
  (loss, metrics), gradient = jax.value_and_grad(losses.grpo, has_aux=True)(new, *args, **clips)
  return loss, metrics, gradient


def assert_close(actual, desired):
  """Equal to 1e-6 of the largest number, and to float32 where that is tighter."""
  np.testing.assert_allclose(actual, desired, rtol=2e-6, atol=1e-6 * np.max(np.abs(desired)))


@pytest.mark.parametrize('clips', CLIPS, ids=str)
@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_grpo_is_the_equation(aggregate, clips):
  for seed in range(3):
    args = batch(seed)
    loss, _, gradient = loss_and_gradient(*args, **clips, aggregate=AGGREGATES[aggregate])
    expected_loss, expected_gradient = reference(*args, **clips, aggregate=aggregate)
    assert_close(loss, expected_loss)
    assert_close(gradient, expected_gradient)
    assert 0 < np.mean(expected_gradient[args[3]] == 0) < 1  # some are clipped, some are not


def test_grpo_by_hand():
  # Ratios 2, 1/2, 1; advantages 1 and -1; clip to [0.8, 1.2].
  new = jnp.log(jnp.array([[2.0, 0.5, 1.0], [2.0, 0.5, 1.0]]))
  old, advantage, mask = jnp.zeros((2, 3)), jnp.array([1.0, -1.0]), jnp.ones((2, 3), bool)
  loss, metrics, gradient = loss_and_gradient(
    new, old, advantage, mask, **SYMMETRIC, aggregate=losses.token_mean
  )
  np.testing.assert_allclose(loss, -(1.2 + 0.5 + 1.0 - 2.0 - 0.8 - 1.0) / 6, rtol=1e-6)
  np.testing.assert_allclose(gradient * 6, [[0, -0.5, -1], [2, 0, 1]], rtol=1e-6)
  log2 = np.log(2)
  expected = {
    'ratio': 7 / 6,
    'clip_frac_low': 1 / 6,
    'clip_frac_high': 1 / 6,
    'kl_sampler': ((1 - log2) + (log2 - 0.5)) * 2 / 6,
  }
  assert metrics.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-6, err_msg=name)


def test_the_clip_shares_are_those_of_tokens_whose_gradient_is_zero():
  args = batch(4, spread=0.6)
  _, metrics, gradient = loss_and_gradient(*args, **CLIPS[1], aggregate=losses.token_mean)
  removed = np.mean(np.asarray(gradient)[args[3]] == 0)
  assert metrics['clip_frac_low'] > 0 and metrics['clip_frac_high'] > 0
  np.testing.assert_allclose(
    metrics['clip_frac_low'] + metrics['clip_frac_high'], removed, rtol=1e-6
  )


@pytest.mark.parametrize('clip', [0.0, 0.2])
@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_on_policy_the_gradient_is_that_of_reinforce(aggregate, clip):
  new, _, advantage, mask = batch()

  def reinforce(logp):
    return -AGGREGATES[aggregate](logp * advantage[:, None], mask)

  _, metrics, gradient = loss_and_gradient(
    new, new, advantage, mask, clip_low=clip, clip_high=clip, aggregate=AGGREGATES[aggregate]
  )
  np.testing.assert_allclose(gradient, jax.grad(reinforce)(new), rtol=1e-6)
  assert (metrics['ratio'], metrics['kl_sampler']) == (1.0, 0.0)
  assert metrics['clip_frac_low'] == metrics['clip_frac_high'] == 0.0


def test_what_is_sampled_and_judged_is_a_constant():
  new, old, advantage, mask = batch()

  def loss(old, advantage):
    return losses.grpo(new, old, advantage, mask, **SYMMETRIC, aggregate=losses.token_mean)[0]

  for gradient in jax.grad(loss, argnums=(0, 1))(old, advantage):
    assert not np.any(gradient)


@pytest.mark.parametrize('aggregate', AGGREGATES)
@pytest.mark.parametrize('junk', [np.nan, np.inf, -np.inf, 50.0, -50.0, 1e30])
def test_masked_tokens_do_not_matter(junk, aggregate):
  new, old, advantage, mask = batch()
  clean = loss_and_gradient(new, old, advantage, mask, **SYMMETRIC, aggregate=AGGREGATES[aggregate])
  for place in (0, 1):
    args = [new.copy(), old.copy(), advantage, mask]
    args[place][~mask] = junk
    dirty = loss_and_gradient(*args, **SYMMETRIC, aggregate=AGGREGATES[aggregate])
    jax.tree.map(np.testing.assert_array_equal, dirty, clean)


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_the_advantage_of_an_empty_row_does_not_matter(aggregate):
  new, old, advantage, mask = batch()
  clean = loss_and_gradient(new, old, advantage, mask, **SYMMETRIC, aggregate=AGGREGATES[aggregate])
  advantage = np.where(mask.any(1), advantage, np.nan).astype(np.float32)
  dirty = loss_and_gradient(new, old, advantage, mask, **SYMMETRIC, aggregate=AGGREGATES[aggregate])
  assert np.isnan(advantage).any()
  jax.tree.map(np.testing.assert_array_equal, dirty, clean)


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_a_batch_without_tokens_has_loss_and_gradient_zero(aggregate):
  new, old, advantage, mask = batch()
  loss, metrics, gradient = loss_and_gradient(
    new, old, advantage, np.zeros_like(mask), **SYMMETRIC, aggregate=AGGREGATES[aggregate]
  )
  assert loss == 0 and not np.any(gradient)
  assert all(value == 0 for value in metrics.values())


@pytest.mark.parametrize('log_ratio', [50.0, -50.0])
@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_an_extreme_ratio_stays_finite_and_is_the_equation(log_ratio, sign):
  new, old, advantage, mask = batch()
  new[0, 1] = old[0, 1] + np.float32(log_ratio)
  advantage[0] = sign
  loss, metrics, gradient = loss_and_gradient(
    new, old, advantage, mask, **SYMMETRIC, aggregate=losses.token_mean
  )
  expected_loss, expected_gradient = reference(
    new, old, advantage, mask, **SYMMETRIC, aggregate='token'
  )
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)  # exp(50 +- one rounding of 50)
  np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
  assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_the_order_of_sequences_does_not_matter(aggregate):
  args = batch()
  order = np.array([3, 0, 4, 2, 1])
  one = loss_and_gradient(*args, **SYMMETRIC, aggregate=AGGREGATES[aggregate])
  moved = [x[order] for x in args]
  other = loss_and_gradient(*moved, **SYMMETRIC, aggregate=AGGREGATES[aggregate])
  np.testing.assert_allclose(other[0], one[0], rtol=1e-6)
  np.testing.assert_allclose(other[2], one[2][order], rtol=1e-6)


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_padding_does_not_matter(aggregate):
  args = batch()
  wide = [np.pad(x, ((0, 0), (0, 4)), constant_values=-3) if x.ndim == 2 else x for x in args]
  wide[3][:, -4:] = False
  one = loss_and_gradient(*args, **SYMMETRIC, aggregate=AGGREGATES[aggregate])
  other = loss_and_gradient(*wide, **SYMMETRIC, aggregate=AGGREGATES[aggregate])
  np.testing.assert_allclose(other[0], one[0], rtol=1e-6)
  np.testing.assert_allclose(other[2][:, :-4], one[2], rtol=1e-6)


def test_shares_of_micro_batches_add_up_to_the_token_mean_of_the_whole():
  args = batch()
  share = losses.budget_mean(args[3].sum())  # an integer: the global count
  whole = loss_and_gradient(*args, **SYMMETRIC, aggregate=losses.token_mean)
  parts = [
    loss_and_gradient(*(x[rows] for x in args), **SYMMETRIC, aggregate=share)
    for rows in (slice(0, 2), slice(2, 3), slice(3, 5))
  ]
  np.testing.assert_allclose(sum(part[0] for part in parts), whole[0], rtol=1e-6)
  gradient = np.concatenate([part[2] for part in parts])
  np.testing.assert_allclose(gradient, whole[2], rtol=1e-6)


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_grpo_agrees_with_finite_differences(aggregate):
  new, old, advantage, mask = batch(1)
  near = np.abs(np.abs(new - old)[..., None] - np.log([0.8, 1.2]) * [-1, 1]) < 0.02
  mask &= ~near.any(-1)  # no token within reach of a kink

  def loss(new):
    return losses.grpo(new, old, advantage, mask, **SYMMETRIC, aggregate=AGGREGATES[aggregate])[0]

  test_util.check_grads(loss, (new,), order=1, modes=('rev',), eps=1e-2, rtol=1e-3, atol=1e-3)


def test_grpo_takes_masks_and_numbers_of_any_kind():
  new, old, advantage, mask = batch()
  expected = loss_and_gradient(new, old, advantage, mask, **SYMMETRIC, aggregate=losses.token_mean)
  numbers = {'clip_low': np.float32(0.2), 'clip_high': jnp.float32(0.2)}
  for cast in (np.asarray, jnp.asarray):
    for dtype in (bool, np.int32, np.uint8, np.float32):
      args = [cast(x) for x in (new, old, advantage, mask.astype(dtype))]
      actual = loss_and_gradient(*args, **numbers, aggregate=losses.token_mean)
      jax.tree.map(np.testing.assert_array_equal, actual, expected)
  in_float64 = [np.asarray(x, np.float64) for x in (new, old, advantage, mask)]
  loss, _ = losses.grpo(*in_float64, **SYMMETRIC, aggregate=losses.token_mean)
  np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
  halves = [jnp.asarray(new, jnp.bfloat16), old, advantage, mask]
  loss, metrics = losses.grpo(*halves, **SYMMETRIC, aggregate=losses.sequence_mean)
  assert loss.dtype == metrics['ratio'].dtype == jnp.float32


def test_aggregates_by_hand():
  values = jnp.array([[1.0, 2.0, 3.0], [4.0, jnp.nan, jnp.inf], [jnp.nan, 7.0, 8.0]])
  mask = jnp.array([[True, True, True], [True, False, False], [False, False, False]])
  assert losses.token_mean(values, mask) == losses.masked_mean(values, mask) == 10 / 4
  assert losses.sequence_mean(values, mask) == np.float32((2 + 4 + 0) / 3)
  assert losses.budget_mean(5)(values, mask) == 10 / 5
  assert losses.budget_mean(jnp.int32(5))(values, mask) == 10 / 5


def test_an_aggregate_under_a_mask_is_that_of_the_subset():
  values, _, _, mask = batch()
  full = np.ones((1, mask.sum()), bool)
  subset = values[mask][None]
  for aggregate in (losses.token_mean, losses.budget_mean(40.0)):
    np.testing.assert_allclose(aggregate(values, mask), aggregate(subset, full), rtol=1e-6)


def test_next_token_is_the_cross_entropy():
  rng = np.random.default_rng(0)
  logits, targets = rng.normal(size=(3, 4, 6)).astype(np.float32), rng.integers(0, 6, (3, 4))
  mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
  weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  one_hot = np.eye(6)[targets]
  nats = -np.log((weights * one_hot).sum(-1))
  logp = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(targets)[..., None], axis=-1)
  loss = losses.next_token(logp[..., 0], mask)
  np.testing.assert_allclose(loss, nats[mask].mean(), rtol=1e-6)
  share = losses.next_token(logp[..., 0], mask, aggregate=losses.budget_mean(12))
  np.testing.assert_allclose(share, nats[mask].sum() / 12, rtol=1e-6)


def test_bradley_terry_by_hand():
  # sigmoid(log 3) = 3/4, sigmoid(-log 4) = 1/5
  chosen, rejected = jnp.array([2.0 + np.log(3.0), 1.0]), jnp.array([2.0, 1.0 + np.log(4.0)])
  expected = -(np.log(3 / 4) + np.log(1 / 5)) / 2
  np.testing.assert_allclose(losses.bradley_terry(chosen, rejected), expected, rtol=1e-6)
  equal = losses.bradley_terry(jnp.array([3.0, -1.0]), jnp.array([3.0, -1.0]))
  np.testing.assert_allclose(equal, np.log(2), rtol=1e-7)


def test_bradley_terry_lifts_the_chosen_and_lowers_the_rejected():
  chosen, rejected = jnp.array([0.0, 2.0, -90.0]), jnp.array([1.0, -1.0, 90.0])
  up, down = jax.grad(losses.bradley_terry, argnums=(0, 1))(chosen, rejected)
  assert np.all(up < 0) and np.all(down > 0)
  np.testing.assert_array_equal(up, -down)
  # -(1 - sigmoid(margin)) / B: the worse the order, the stronger the pull, and never beyond 1/3.
  np.testing.assert_allclose(up * 3, [-0.7310586, -0.0474259, -1.0], rtol=1e-5)
  test_util.check_grads(
    losses.bradley_terry,
    (chosen[:2], rejected[:2]),
    order=1,
    modes=('rev',),
    eps=1e-2,
    rtol=1e-3,
    atol=1e-3,
  )


def test_bradley_terry_sees_differences_only():
  chosen, rejected = jnp.array([0.5, 2.0]), jnp.array([1.0, -1.0])
  loss = losses.bradley_terry(chosen, rejected)
  np.testing.assert_allclose(losses.bradley_terry(chosen + 4, rejected + 4), loss, rtol=1e-6)


def test_kl_k3_is_never_negative_and_zero_at_equality():
  logp = jnp.linspace(-5.0, -0.1, 50).reshape(5, 10)
  np.testing.assert_array_equal(losses.kl_k3(logp, logp), jnp.zeros((5, 10)))
  for scale in (1e-6, 1e-4, 1e-2, 1.0, 10.0):
    log_ratio = scale * jnp.linspace(-1.0, 1.0, 50).reshape(5, 10)
    kl = losses.kl_k3(jnp.zeros((5, 10)), log_ratio)
    exact = np.asarray(log_ratio, np.float64)
    exact = np.expm1(exact) - exact
    assert np.all(kl >= 0)
    np.testing.assert_allclose(kl, exact, rtol=1e-5, atol=5e-7 * scale)  # a few roundings of expm1


def test_kl_k3_estimates_the_divergence_under_the_policy():
  policy, ref = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
  logp, ref_logp = (jnp.log(jnp.array(x, jnp.float32))[None] for x in (policy, ref))
  expected = (policy * np.log(policy / ref)).sum()
  kl = np.asarray(losses.kl_k3(logp, ref_logp))[0]
  np.testing.assert_allclose((policy * kl).sum(), expected, rtol=1e-5)
