"""A third of the paper's continual pretraining, for experiments/claims/dose.py.

python -m lwz.launch --config=experiments/pretrain_third.py
"""

from experiments import pretrain


def get_config(size: str = 'tiny'):
  c = pretrain.get_config(size)
  c.experiment = 'pretrain_third'
  c.train.num_steps = max(1, c.train.num_steps // 3)
  c.train.decay_steps = c.train.num_steps
  return c
