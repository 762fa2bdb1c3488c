"""30B tokens of continual pretraining beat none, a third and five thirds (paper, section 3.3, RQ3).

The paper states one dose, 30B tokens, and its absence: Elo 1447 and 1221 [H]. Doses in between are
ours: 0, 1/3, 1 and 5/3 of it; at `tiny` 30B stand for 500 steps of 1,024 tokens.

Refuted if a third of the dose, or none, serves as well, or if 5/3 is better still: then the paper's
dose is not where the gain ends.

  python -m lwz.sweep --sweep=experiments/claims/dose.py
"""

from experiments import claims

get_config = claims.get_config


def get_hyper(h):
  doses = ['pretrain:tiny', 'base_model:tiny', 'pretrain_third:tiny', 'pretrain_more:tiny']
  return h.product([h.sweep('init', doses), claims.seeds(h)])
