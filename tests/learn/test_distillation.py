"""On-policy distillation is the gradient of the reverse KL, and brings a student to its teacher."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.learn import distillation, losses

V = 5
WIDE = {'clip_low': 1.0, 'clip_high': 1e6}  # no clip


def table(seed, rows=V, scale=1.0):
  return scale * np.random.default_rng(seed).standard_normal((rows, V)).astype(np.float32)


def reverse_kl(logits, teacher):
  own, other = jax.nn.log_softmax(logits), jax.nn.log_softmax(teacher)
  return jnp.sum(jnp.exp(own) * (own - other), axis=-1)


@pytest.mark.parametrize('off_policy', [False, True])
def test_the_expected_gradient_is_that_of_the_reverse_kl(off_policy):
  logits, teacher = jnp.asarray(table(0, 1)[0]), jnp.asarray(table(1, 1)[0])
  old = jax.nn.log_softmax(logits + 0.5 * table(2, 1)[0] * off_policy)
  gap_V = jax.nn.log_softmax(teacher) - old

  def expected(logits):
    """The loss of every token as a sequence of its own, weighted by how often it is sampled."""
    value, _ = distillation.loss(
      jax.nn.log_softmax(logits)[:, None],
      old[:, None],
      jnp.full(V, 7.0),  # advantages of rewards: not read
      jnp.ones((V, 1), bool),
      teacher_logp_BT=jax.nn.log_softmax(teacher)[:, None],
      aggregate=lambda values_BT, mask_BT: jnp.sum(jnp.exp(old) * values_BT[:, 0]),
      **WIDE,
    )
    return value

  def surrogate(logits):  # off-policy: E_pi of the gap to the policy that sampled
    return -jnp.sum(jnp.exp(jax.nn.log_softmax(logits)) * gap_V)

  wanted = surrogate if off_policy else lambda logits: reverse_kl(logits, teacher)
  np.testing.assert_allclose(jax.grad(expected)(logits), jax.grad(wanted)(logits), atol=1e-6)


def test_of_samples_it_is_the_mean_gap_times_the_score():
  logits, teacher = table(3), table(4)
  ids_T = np.array([0, 3, 3, 1])
  mask_BT = np.array([[True, True, True, False]])
  logp = lambda logits: jax.nn.log_softmax(logits)[jnp.arange(4), ids_T][None]  # noqa: E731
  padded = lambda x: jnp.where(mask_BT, x, jnp.nan)  # noqa: E731

  def loss(logits):
    return distillation.loss(
      logp(logits),
      padded(logp(jnp.asarray(table(3)))),
      jnp.zeros(1),
      mask_BT,
      teacher_logp_BT=padded(logp(jnp.asarray(teacher))),
      aggregate=losses.token_mean,
      clip_low=0.2,
      clip_high=0.2,
    )

  (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(logits))
  gap_T = np.asarray(logp(jnp.asarray(teacher)) - logp(jnp.asarray(logits)))[0, :3]
  own = np.asarray(jax.nn.softmax(logits))
  wanted = np.zeros_like(logits)
  for t, gap in enumerate(gap_T):
    wanted[t] = -gap * (np.eye(V)[ids_T[t]] - own[t]) / 3
  np.testing.assert_allclose(gradient, wanted, atol=1e-6)
  np.testing.assert_allclose(metrics['kl_teacher'], -gap_T.mean(), rtol=1e-5)
  assert metrics['ratio'] == 1 and set(metrics) > {'clip_frac_low', 'kl_sampler'}


def test_a_teacher_that_is_the_student_has_nothing_to_say():
  logp_BT, mask_BT = jnp.array([[-1.0, -2.0]]), jnp.ones((1, 2), bool)
  how = dict(teacher_logp_BT=logp_BT, aggregate=losses.token_mean, **WIDE)
  fn = lambda own: distillation.loss(own, logp_BT, jnp.ones(1), mask_BT, **how)  # noqa: E731
  (value, metrics), gradient = jax.value_and_grad(fn, has_aux=True)(logp_BT)
  assert value == 0 and metrics['kl_teacher'] == 0 and not gradient.any()


def test_a_student_comes_to_its_teacher_by_what_it_writes_itself():
  """A bigram model: each token is sampled given the last one, and only samples are compared."""
  teacher = jnp.asarray(table(5, scale=2.0))

  def step(logits, key):
    def token(last_B, key):
      next_B = jax.random.categorical(key, logits[last_B])
      return next_B, (last_B, next_B)

    first_B = jnp.zeros(64, jnp.int32)
    _, (before_TB, after_TB) = jax.lax.scan(token, first_B, jax.random.split(key, 12))
    of = lambda table: jax.nn.log_softmax(table)[before_TB, after_TB].T  # noqa: E731

    def loss(moved):
      value, metrics = distillation.loss(
        of(moved),
        of(logits),
        jnp.zeros(64),
        jnp.ones((64, 12), bool),
        teacher_logp_BT=of(teacher),
        aggregate=losses.token_mean,
        clip_low=0.2,
        clip_high=0.2,
      )
      return value, metrics['kl_teacher']

    gradient, kl = jax.grad(loss, has_aux=True)(logits)
    return logits - 2.0 * gradient, kl

  before, keys = reverse_kl(jnp.zeros((V, V)), teacher), jax.random.split(jax.random.key(0), 150)
  logits, measured = jax.lax.scan(step, jnp.zeros((V, V)), keys)
  after = reverse_kl(logits, teacher)
  assert (after < 0.1 * before).all() and measured[-1] < 0.1 * measured[0]
