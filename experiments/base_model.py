"""A base model from random weights on plain text: what downloading Qwen2.5 is at real sizes.

python -m lwz.launch --config=experiments/base_model.py
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'base_model'
  c.stage = 'pretrain'
  c.train.num_steps = 4 if size == 'micro' else 250
  c.train.decay_steps = c.train.num_steps
  return c
