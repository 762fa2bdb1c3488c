"""Every loss of the policy against TRL's formulas and PyTorch's gradients; the laws they share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from lwz.learn import losses

CLIPS = {'clip_low': 0.2, 'clip_high': 0.28}
CAP = 3.0
AGGREGATES = {
  'token': losses.token_mean,
  'sequence': losses.sequence_mean,
  'budget': losses.budget_mean(40.0),
}
FAMILY = {
  'grpo': losses.grpo,
  'dual_clip': functools.partial(losses.grpo, ratio_cap=CAP),
  'gspo': losses.gspo,
  'cispo': losses.cispo,
}


def batch(seed=0, B=6, T=8, spread=0.5):
  """Ragged rows, the third one empty; ratios from about 1/5 to 5, and a few extreme ones."""
  rng = np.random.default_rng(seed)
  old = -rng.exponential(1.0, (B, T)).astype(np.float32)
  new = old + rng.normal(0.0, spread, (B, T)).astype(np.float32)
  new[0, :2] += np.float32([-12.0, 5.0])
  new[1, 0] += np.float32(6.0)
  advantage = np.float32([1.3, -0.7, 0.4, -1.9, 0.0, 0.6])
  mask = np.arange(T)[None, :] < np.array([T, 4, 0, T - 2, 3, 1])[:, None]
  return new, old, advantage, mask


def theirs(kind, aggregate, new, old, advantage, mask):
  """(loss, gradient) by the formulas of TRL's GRPOTrainer, in float64."""
  torch = pytest.importorskip('torch')
  new, old, advantage, mask = (
    torch.tensor(np.asarray(x, np.float64)) for x in (new, old, advantage, mask)
  )
  new.requires_grad_()
  advantage = advantage[:, None]
  log_ratio = new - old
  if kind == 'gspo':
    log_ratio = ((log_ratio * mask).sum(-1) / mask.sum(-1).clamp(min=1.0))[:, None]
  ratio = torch.exp(log_ratio)
  low, high = 1 - CLIPS['clip_low'], 1 + CLIPS['clip_high']
  if kind == 'cispo':
    values = -torch.clamp(ratio, low, high).detach() * advantage * new
  else:
    clipped = torch.clamp(ratio, low, high)
    if kind == 'dual_clip':
      ratio = torch.clamp(ratio, max=CAP)
    values = -torch.min(ratio * advantage, clipped * advantage)
  values = values * mask
  match aggregate:
    case 'token':
      loss = values.sum() / mask.sum()
    case 'sequence':
      loss = (values.sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()
    case 'budget':
      loss = values.sum() / 40.0
  loss.backward()
  return loss.item(), new.grad.numpy()


def loss_and_gradient(kind, aggregate, *args, **clips):
  function = functools.partial(FAMILY[kind], aggregate=AGGREGATES[aggregate], **(clips or CLIPS))
  (loss, metrics), gradient = jax.value_and_grad(function, has_aux=True)(*args)
  return loss, metrics, gradient


def assert_close(actual, desired):
  np.testing.assert_allclose(actual, desired, rtol=2e-6, atol=1e-6 * np.max(np.abs(desired)))


@pytest.mark.parametrize('aggregate', AGGREGATES)
@pytest.mark.parametrize('kind', FAMILY)
def test_it_is_the_formula_of_trl(kind, aggregate):
  for seed in range(2):
    args = batch(seed)
    loss, _, gradient = loss_and_gradient(kind, aggregate, *args)
    expected, slope = theirs(kind, aggregate, *args)
    # A sum of terms near 1 of both signs: its error is theirs, however small the sum.
    np.testing.assert_allclose(loss, expected, rtol=2e-6, atol=2e-7)
    assert_close(gradient, slope)
    assert np.any(slope[args[3]] == 0) or kind == 'cispo'


@pytest.mark.parametrize('aggregate', AGGREGATES)
@pytest.mark.parametrize('kind', FAMILY)
def test_on_policy_the_gradient_is_that_of_reinforce(kind, aggregate):
  new, _, advantage, mask = batch()
  _, metrics, gradient = loss_and_gradient(kind, aggregate, new, new, advantage, mask)
  weigh = lambda logp: -AGGREGATES[aggregate](logp * advantage[:, None], mask)  # noqa: E731
  reinforce = np.asarray(jax.grad(weigh)(new))
  if kind == 'gspo':  # one ratio for a whole sequence: its gradient lies on all tokens alike
    shares = np.sum(reinforce, axis=1, keepdims=True) / np.maximum(mask.sum(1, keepdims=True), 1)
    reinforce = np.where(mask, shares, 0)
  np.testing.assert_allclose(gradient, reinforce, rtol=1e-5, atol=1e-8)
  assert metrics['ratio'] == 1 and metrics['kl_sampler'] == 0
  assert metrics['clip_frac_low'] == metrics['clip_frac_high'] == 0


@pytest.mark.parametrize('kind', FAMILY)
@pytest.mark.parametrize('junk', [np.nan, np.inf, -1e30])
def test_masked_tokens_and_the_order_of_sequences_do_not_matter(kind, junk):
  args = batch()
  clean = loss_and_gradient(kind, 'token', *args)
  for place in (0, 1):
    dirty = [args[0].copy(), args[1].copy(), args[2], args[3]]
    dirty[place][~args[3]] = junk
    jax.tree.map(np.testing.assert_array_equal, loss_and_gradient(kind, 'token', *dirty), clean)
  order = np.array([3, 0, 5, 4, 2, 1])
  moved = loss_and_gradient(kind, 'token', *(x[order] for x in args))
  np.testing.assert_allclose(moved[0], clean[0], rtol=1e-6)
  np.testing.assert_allclose(moved[2], clean[2][order], rtol=1e-6)


@pytest.mark.parametrize('kind', FAMILY)
def test_a_clipped_ratio_beyond_float32_leaves_loss_and_gradient_finite(kind):
  new, old, advantage, mask = batch()
  new[0, 2] = old[0, 2] + 300.0  # advantage 1.3: clipped
  new[4, 1] = old[4, 1] + 300.0  # advantage 0
  loss, _, gradient = loss_and_gradient(kind, 'token', new, old, advantage, mask)
  assert np.isfinite(loss) and np.all(np.isfinite(gradient))


def test_the_dual_clip_bounds_what_a_likely_token_can_cost():
  new, old = jnp.log(jnp.array([[2.0, 50.0]])), jnp.zeros((1, 2))
  args = new, old, jnp.array([-1.0]), jnp.ones((1, 2), bool)
  assert_close(loss_and_gradient('grpo', 'token', *args)[0], (2 + 50) / 2)
  loss, metrics, gradient = loss_and_gradient('dual_clip', 'token', *args)
  assert_close(loss, (2 + CAP) / 2)
  assert_close(gradient, [[1.0, 0.0]])
  assert (metrics['clip_frac_low'], metrics['clip_frac_high']) == (0.5, 0)


def test_gspo_by_hand():
  # Ratios 4 and 1 have the geometric mean 2, above 1.28; 1/2 and 1/2 of the second row 1/2.
  new = jnp.log(jnp.array([[4.0, 1.0], [0.5, 0.5]]))
  args = new, jnp.zeros((2, 2)), jnp.array([1.0, 1.0]), jnp.ones((2, 2), bool)
  loss, metrics, gradient = loss_and_gradient('gspo', 'sequence', *args)
  assert_close(loss, -(1.28 + 0.5) / 2)
  assert_close(gradient, [[0, 0], [-0.125, -0.125]])
  assert (metrics['clip_frac_low'], metrics['clip_frac_high']) == (0, 0.5)
  np.testing.assert_allclose(metrics['ratio'], (4 + 1 + 0.5 + 0.5) / 4, rtol=1e-6)


def test_cispo_bounds_the_weight_and_keeps_every_gradient():
  ratio = np.array([[0.5, 1.0, 2.0]], np.float32)
  args = jnp.log(ratio), jnp.zeros((1, 3)), jnp.array([2.0]), jnp.ones((1, 3), bool)
  _, metrics, gradient = loss_and_gradient('cispo', 'token', *args)
  assert_close(gradient, -2 * np.array([[0.8, 1.0, 1.28]]) / 3)
  np.testing.assert_allclose(
    [metrics['clip_frac_low'], metrics['clip_frac_high']], 1 / 3, rtol=1e-6
  )


@pytest.mark.parametrize('kind', ['gspo', 'dual_clip'])
def test_finite_differences(kind):
  new, old, advantage, mask = batch(1, spread=0.05)
  new[:2, :2] = old[:2, :2]

  def loss(new):
    clips = {'clip_low': 0.5, 'clip_high': 0.5}
    return FAMILY[kind](new, old, advantage, mask, **clips, aggregate=losses.token_mean)[0]

  test_util.check_grads(loss, (new,), order=1, modes=('rev',), eps=1e-2, rtol=1e-3, atol=1e-3)


def test_truncated_weights_by_hand():
  old, sampler = jnp.log(jnp.array([[1.0, 4.0, 0.5]])), jnp.log(jnp.array([[2.0, 1.0, 0.5]]))
  weight = losses.truncated_weight(old, sampler, cap=2.0)
  np.testing.assert_allclose(weight, [[0.5, 2.0, 1.0]], rtol=1e-6)
  extreme = losses.truncated_weight(old + 200, sampler, cap=2.0)
  np.testing.assert_allclose(extreme, [[2.0, 2.0, 2.0]], rtol=1e-6)
  slope = jax.grad(lambda old: jnp.sum(losses.truncated_weight(old, sampler, cap=2.0)))(old)
  np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize('kind', FAMILY)
def test_a_weight_multiplies_each_tokens_share(kind):
  new, old, advantage, mask = batch()
  weight = np.where(mask, 0.5, np.nan).astype(np.float32)
  halved = losses.weighted(losses.token_mean, weight)
  function = functools.partial(FAMILY[kind], **CLIPS, aggregate=halved)
  (loss, _), gradient = jax.value_and_grad(function, has_aux=True)(new, old, advantage, mask)
  whole, _, slope = loss_and_gradient(kind, 'token', new, old, advantage, mask)
  np.testing.assert_allclose(loss, whole / 2, rtol=1e-6)
  np.testing.assert_allclose(gradient, slope / 2, rtol=1e-6)
  unit = losses.weighted(losses.token_mean, np.ones_like(new))
  assert FAMILY[kind](new, old, advantage, mask, **CLIPS, aggregate=unit)[0] == whole


def test_kl_reference_is_the_aggregate_of_k3_and_blind_to_padding():
  new, ref, _, mask = batch()
  exact = np.exp(np.float64(ref) - new) - (np.float64(ref) - new) - 1
  for name, aggregate in AGGREGATES.items():
    value = losses.kl_reference(new, ref, mask, aggregate=aggregate)
    np.testing.assert_allclose(value, aggregate(jnp.float32(exact), mask), rtol=1e-5, err_msg=name)
  dirty = np.where(mask, ref, np.nan).astype(np.float32)
  function = functools.partial(losses.kl_reference, mask_BT=mask, aggregate=losses.token_mean)
  clean = jax.value_and_grad(function)(new, ref)
  jax.tree.map(np.testing.assert_array_equal, jax.value_and_grad(function)(new, dirty), clean)


def test_bradley_terry_with_a_margin_and_a_centre():
  chosen, rejected = jnp.array([2.0, 1.0]), jnp.array([1.0, 1.5])
  margin = jnp.array([1.0, -0.5])
  np.testing.assert_allclose(
    losses.bradley_terry(chosen, rejected, margin), np.log(2), rtol=1e-6
  )  # both are just as far ahead as they should be
  plain = losses.bradley_terry(chosen, rejected)
  centred = losses.bradley_terry(chosen, rejected, centring=0.01)
  np.testing.assert_allclose(centred - plain, 0.01 * (9 + 6.25) / 2, rtol=1e-5)
  assert losses.bradley_terry(chosen, -chosen, centring=9.0) == losses.bradley_terry(
    chosen, -chosen
  )


def test_shares_of_pairs_add_up_to_the_bradley_terry_loss_of_all():
  chosen, rejected, margin = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
  here = jnp.array([True, False, True, True, False])

  def share(mask):
    return losses.bradley_terry(
      *(chosen, rejected, margin),
      centring=0.1,
      aggregate=lambda x: jnp.sum(jnp.where(mask, x, 0.0)) / 5.0,
    )

  whole = losses.bradley_terry(chosen, rejected, margin, centring=0.1)
  np.testing.assert_allclose(share(here) + share(~here), whole, rtol=1e-6)


@pytest.mark.parametrize(
  'name, numbers, warning',
  [
    ('grpo', (0.2, 0.2, 0.0), ''),
    ('grpo', (0.2, 0.28, 3.0), ''),
    ('gspo', (3e-4, 4e-4, 0.0), ''),
    ('gspo', (3e-4, 0.2, 0.0), 'clip_high=0.2 are too large for gspo'),
    ('cispo', (1.0, 0.2, 0.0), ''),
    ('cispo', (0.2, 0.2, 0.0), 'clip_low=0.2 should be 1'),
  ],
)
def test_numbers_of_another_loss_get_a_warning(name, numbers, warning):
  found = losses.check(
    name, **dict(zip(('clip_low', 'clip_high', 'ratio_cap'), numbers, strict=True))
  )
  assert warning in found and bool(warning) == bool(found)


@pytest.mark.parametrize('name', ['gspo', 'cispo', 'of my own'])
def test_a_loss_without_dual_clip_refuses_a_cap(name):
  with pytest.raises(ValueError, match=r'^ratio_cap=3\.0 is of dual clip, which only grpo has'):
    losses.check(name, clip_low=1.0, clip_high=0.2, ratio_cap=3.0)


def test_a_cap_that_the_clip_would_hide_is_refused():
  with pytest.raises(ValueError, match=r'^ratio_cap=1\.2 must be above 1 \+ clip_high = 1\.28'):
    losses.check('grpo', clip_low=0.2, clip_high=0.28, ratio_cap=1.2)
