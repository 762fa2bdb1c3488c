"""Balanced advantages beat the mean reward (paper, section 3.1, Eq. 5).

The paper normalises each of the three rewards in its group, then averages the advantages; in the
mean of raw rewards that of the largest scale dominates. The argument is made in words: no number of
an ablation is known [L].

Refuted if the mean reward reaches the same or higher rewards of all three kinds, and the referee
prefers its texts.

  python -m lwz.sweep --sweep=experiments/claims/advantage.py
"""

from experiments import claims

get_config = claims.get_config


def get_hyper(h):
  return h.product([h.sweep('rl.advantage', ['balanced', 'mean_reward']), claims.seeds(h)])
