"""Continual pretraining (paper, section 3.3): long-form text with a share of formatted documents.

The paper mixes 1 % of long thoughts into 30B tokens, and finds that this alone aligns the format
early. A pocket model sees a million tokens, so its share is larger.

  python -m lwz.launch --config=experiments/pretrain.py
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'pretrain'
  c.stage = 'pretrain'
  pocket = size in base.POCKET
  c.init = base.begin(size)
  c.needs = ('init', 'data.folder')
  c.data.formatted_share = 0.7 if pocket else 0.01
  c.train.num_steps = 4 if size == 'micro' else 500 if pocket else 1_788  # 30B tokens
  c.train.decay_steps = c.train.num_steps
  c.train.learning_rate = 3e-3 if pocket else 1e-5
  if pocket:
    c.train.optimizer = 'muon'
  if size == 'tiny':
    c.train.rows = c.train.micro_rows = 4
  return c
