"""Long thoughts in the pretraining mixture align the format early (paper, section 3.3).

The paper mixes 1 % of long chains of thought, distilled from its think run, into 30B tokens of
books, reports and papers, and keeps the share low so that they are not memorised [H]. No run
without them is known [L]. Here the documents of 70 % of the tokens are formatted, half of them with
a plan as their thoughts; against it stands the same dose of plain text.

Refuted if GRPO after plain text alone finds the valid format as early.

  python -m lwz.sweep --sweep=experiments/claims/composition.py
"""

from experiments import claims

get_config = claims.get_config


def get_hyper(h):
  return h.product([h.sweep('init', ['pretrain:tiny', 'pretrain_plain:tiny']), claims.seeds(h)])
