"""A base model from random weights on plain text: what downloading Qwen2.5 is at real sizes.

python -m lwz.launch --config=experiments/base_model.py
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'base_model'
  c.stage = 'pretrain'
  c.train.num_steps = 4 if size == 'micro' else 500 if size == 'tiny' else 250
  c.train.decay_steps = c.train.num_steps
  if size in base.POCKET:
    # AdamW leaves a perplexity of 204 to 237, this one of 72 to 74, see LOG.md.
    c.train.optimizer = 'muon'
    # At micro that of `pretrain`, whose program it then is: compiled once.
    c.train.learning_rate = 3e-3 if size == 'micro' else 6e-3
  if size == 'tiny':
    c.train.rows = c.train.micro_rows = 4
  return c
