"""Answers of the pretrained policy, as the worse sides of preference pairs.

The referee learns from them; so do the writing reward model of the size small, and that of an
ablation, each from its own share of the requests.

  python -m lwz.launch --config=experiments/policy_pairs.py
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'policy_pairs'
  c.stage = 'policy_pairs'
  c.init = 'sft:small' if size == 'small' else f'pretrain:{size}'
  c.needs = ('init', 'data.folder')
  c.eval.slots = 8 if size == 'micro' else 64 if size in base.POCKET else 32
  c.pairs.temperatures = 1 if size == 'micro' else 2 if size == 'small' else 4
  # The hottest is above that of GRPO: a reward model that never saw noise pays for surprise.
  c.pairs.hottest = 1.4
  return c
