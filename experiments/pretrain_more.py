"""Five thirds of the paper's continual pretraining, for experiments/claims/dose.py.

python -m lwz.launch --config=experiments/pretrain_more.py
"""

from experiments import pretrain


def get_config(size: str = 'tiny'):
  c = pretrain.get_config(size)
  c.experiment = 'pretrain_more'
  c.train.num_steps = c.train.num_steps * 5 // 3
  c.train.decay_steps = c.train.num_steps
  return c
