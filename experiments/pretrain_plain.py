"""Continual pretraining without long thoughts, for experiments/claims/composition.py.

python -m lwz.launch --config=experiments/pretrain_plain.py
"""

from experiments import pretrain


def get_config(size: str = 'tiny'):
  c = pretrain.get_config(size)
  c.experiment = 'pretrain_plain'
  c.data.formatted_share = 0.0
  return c
