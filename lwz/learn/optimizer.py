"""AdamW and its schedule, from plain numbers."""

import jax
import optax


def schedule(
  learning_rate: float, *, warmup_steps: int, decay_steps: int, final_share: float
) -> optax.Schedule:
  """Linear warm-up, then a cosine from `learning_rate` to `final_share` of it at `decay_steps`.

  `decay_steps=0` keeps the rate constant after the warm-up.
  """
  if not decay_steps:
    return optax.linear_schedule(
      0.0 if warmup_steps else learning_rate, learning_rate, max(warmup_steps, 1)
    )
  return optax.warmup_cosine_decay_schedule(
    0.0,
    learning_rate,
    warmup_steps,
    max(decay_steps, warmup_steps + 1),
    learning_rate * final_share,
  )


def adamw(
  rate: optax.Schedule, *, b1: float, b2: float, weight_decay: float, max_norm: float
) -> optax.GradientTransformation:
  """AdamW (arXiv 1711.05101) after a clip of the global gradient norm.

  Matrices decay; biases, norms and the score head's vector do not.
  """
  return optax.chain(
    optax.clip_by_global_norm(max_norm),
    optax.adamw(rate, b1=b1, b2=b2, weight_decay=weight_decay, mask=_decays),
  )


def _decays(params):
  """True for leaves whose name says matrix: `embed`, `head` and the layers' `w*`."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: str(path[-1].key).startswith(('w', 'embed', 'head')), params
  )
