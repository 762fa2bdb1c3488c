"""Pretraining on books and reports together beats either alone (paper, section 3.3, its mixture).

The paper mixes books, reports and academic papers in six categories [H]; their shares exist, and
no run without one of them is known [L]. Here the language reference stands for the book, docstrings
for the reports; each arm takes the same number of steps: a smaller source is read more often. The
base model, the reward model, the referee and the titles that GRPO asks for are of both.

Refuted if GRPO after one of the sources alone has the outcome of GRPO after both.

  python -m lwz.sweep --sweep=experiments/claims/sources.py
"""

from experiments import claims

get_config = claims.get_config


def get_hyper(h):
  mixtures = ['pretrain:tiny', 'pretrain_books:tiny', 'pretrain_reports:tiny']
  return h.product([h.sweep('init', mixtures), claims.seeds(h)])
