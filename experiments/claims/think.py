"""Thinking before writing beats answering directly (paper, section 3.2, RQ2; Figs. 2, 3 and 6).

The paper, from the same base model: Arena-Write Elo 1221 with thoughts and 668 without,
WritingBench 8.12 and 8.04 [H]. The writing reward of the think run begins near 0, below the direct
one, until the structure is learnt, then passes it; its length reward is higher throughout [H].
Thoughts grow to 2,000 to 3,000 tokens, then stay [M].

Refuted if, after the same number of steps, the direct run has the higher held-out writing: the
referee's score and its win rate against step 0, and rewards that rise no less.

  python -m lwz.sweep --sweep=experiments/claims/think.py
"""

from experiments import claims

get_config = claims.get_config


def get_hyper(h):
  return h.product([h.sweep('data.style', ['think', 'direct']), claims.seeds(h)])
