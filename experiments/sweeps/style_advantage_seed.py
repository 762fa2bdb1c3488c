"""Thinking first, and balanced rewards: each with and without (paper, section 3), by three seeds.

python -m lwz.sweep --sweep=experiments/sweeps/style_advantage_seed.py --parallel=2
"""

EXPERIMENT = 'grpo_think'


def get_hyper(h):
  return h.product(
    [
      h.sweep('data.style', ['think', 'direct']),
      h.sweep('rl.advantage', ['balanced', 'mean_reward']),
      h.sweep('seed', [0, 1, 2]),
    ]
  )
