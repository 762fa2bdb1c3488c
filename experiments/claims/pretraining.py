"""Continual pretraining raises the start and the ceiling (paper, section 3.3, RQ3; Figs. 2, 3).

The paper, both with thoughts: Arena-Write Elo 1447 after continual pretraining and 1221 without,
WritingBench 8.69 and 8.12 [H]; the Elo rises from about 1000 to 1400 in RL [H], and writing and
length rewards start higher [H].

Refuted if GRPO from the base model reaches the same rewards and the referee's preference. A pocket
base has never met the tags of the output format, which a base model of real size can write when it
is asked to: at `tiny` the gap contains the format, too, see experiments/claims/composition.py.

  python -m lwz.sweep --sweep=experiments/claims/pretraining.py
"""

from experiments import claims

get_config = claims.get_config


def get_hyper(h):
  # At real sizes: pretrain:32b and Qwen/Qwen2.5-32B.
  return h.product([h.sweep('init', ['pretrain:tiny', 'base_model:tiny']), claims.seeds(h)])
