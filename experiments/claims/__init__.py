"""The paper's claims, a sweep each: what is claimed, where, with which numbers, what refutes it.

  python -m lwz.sweep --sweep=experiments/claims/NAME.py
  python -m lwz.launch --config=experiments/report.py --config.report.runs="('NAME-tiny',)"

[H], [M] and [L] behind a number say how sure it is: read in two or more accounts of the paper that
agree, in one good one, or in a weak one. In every sweep the first value is the one that is claimed
to be better.
"""

from experiments import base, grpo_think

STEPS = 40  # at the small sizes, half of the main job's


def get_config(size: str = 'tiny'):
  """Returns the main job with fewer steps, evaluated twice as often, and one reward model."""
  c = grpo_think.get_config(size)
  c.reward.ensemble = ()
  if size in base.POCKET:
    c.train.num_steps = 3 if size == 'micro' else STEPS
    c.train.decay_steps = c.train.num_steps * c.rl.num_minibatches // 2
    c.eval.every, c.eval.greedy = 10, 0  # greedy answers are compared by prompt, too
  return c


def seeds(h):
  """Returns three seeds, each with a base, pretraining, reward model and referee of its own."""
  return h.zipit([h.sweep(key, [0, 1, 2]) for key in ('seed', 'needs_seed')])
