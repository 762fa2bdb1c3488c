"""On-policy distillation: a student learns from a teacher's opinion of what it wrote itself."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from lwz.learn import losses


def loss(
  logp_BT: Float[losses.AnyArray, 'B T'],
  old_logp_BT: Float[losses.AnyArray, 'B T'],
  advantage_B: Real[losses.AnyArray, 'B'],
  mask_BT: losses.Mask,
  *,
  teacher_logp_BT: Float[losses.AnyArray, 'B T'],
  clip_low: losses.Scalar,
  clip_high: losses.Scalar,
  aggregate: losses.Aggregate,
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
  """`losses.grpo` with A_t = log pi_teacher(o_t | q, o_<t) - log pi_old(o_t | q, o_<t), a constant.

  On-policy, its expected gradient is that of the reverse KL(pi || pi_teacher) of the next token,
  for each prefix that the student wrote (GKD, arXiv 2306.13649; MiniLLM, arXiv 2306.08543, also
  credits a token with the gaps of later ones). Rewards do not train: `advantage_B` is not read.

  Metrics are those of `grpo`, and `kl_teacher`, the mean of log pi_old - log pi_teacher: an
  unbiased estimate of that KL, which in a small batch may be negative.
  """
  del advantage_B
  old_logp_BT, teacher_logp_BT = (
    jnp.asarray(x, jnp.float32) for x in (old_logp_BT, teacher_logp_BT)
  )
  gap_BT = jnp.where(jnp.asarray(mask_BT, bool), teacher_logp_BT - old_logp_BT, 0.0)
  value, metrics = losses.grpo(
    logp_BT,
    old_logp_BT,
    gap_BT,
    mask_BT,
    clip_low=clip_low,
    clip_high=clip_high,
    aggregate=aggregate,
  )
  return value, metrics | {'kl_teacher': losses.masked_mean(-gap_BT, mask_BT)}
