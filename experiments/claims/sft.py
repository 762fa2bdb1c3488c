"""RL beats supervised fine-tuning from the same start (paper, section 3.3, Fig. 4).

The paper, Arena-Write Elo: 1221 by RL and 964 by SFT from the base, 1447 and 971 after continual
pretraining: SFT gains 7 from it, RL 226 [H]. What its SFT learns from is unknown. Here it learns
from formatted documents for 100 steps, see experiments/sft.py; RL from there is the third arm. An
arm of rate 0 trains nothing: it evaluates the fine-tuned model as GRPO would.

Refuted if the fine-tuned model, without any RL, has the outcome of RL from the same pretraining.

  python -m lwz.sweep --sweep=experiments/claims/sft.py
"""

from experiments import claims

get_config = claims.get_config


def get_hyper(h):
  arms = [
    h.sweep('init', ['pretrain:tiny', 'sft:tiny', 'sft:tiny']),
    h.sweep('train.learning_rate', [2e-4, 0.0, 2e-4]),
    h.sweep('train.num_steps', [claims.STEPS, 10, claims.STEPS]),
  ]
  return h.product([h.zipit(arms), claims.seeds(h)])
