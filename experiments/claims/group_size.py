"""Large groups beat small ones at an equal number of samples per step.

No ablation of the paper's: it has 32 concurrent trajectories per step [H], read as the size of a
group [L], and one or more prompts. Here 32 samples are 2 prompts x 16, 4 x 8 or 8 x 4.

Refuted if groups of 4 reach the same rewards and referee's preference.

  python -m lwz.sweep --sweep=experiments/claims/group_size.py
"""

from experiments import claims

get_config = claims.get_config


def get_hyper(h):
  shapes = [h.sweep('rl.group_size', [16, 8, 4]), h.sweep('rl.prompts_per_step', [2, 4, 8])]
  return h.product([h.zipit(shapes), claims.seeds(h)])
