"""Requests of all lengths from the first step beat a schedule with short ones first.

No claim of the paper's in words: it trains on all lengths from the first step, with 14,000 tokens
for thoughts and answer [H]. Curricula of growing length are common in other work on long outputs.

Refuted if requests that grow over the first half of the steps lead to a higher length reward or the
referee's preference at the end, where both arms meet requests of all lengths.

  python -m lwz.sweep --sweep=experiments/claims/length_schedule.py
"""

from experiments import claims

get_config = claims.get_config


def get_hyper(h):
  return h.product([h.sweep('rl.short_first', [0, claims.STEPS // 2]), claims.seeds(h)])
