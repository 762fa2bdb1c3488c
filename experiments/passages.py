"""Passages that a model writes itself, for the size `small`: it has no corpus of its own register.

python -m lwz.launch --config=experiments/passages.py:small --config.base_model=MODEL
"""

from experiments import base


def get_config(size: str = 'small'):
  c = base.get_config(size)
  c.experiment = c.stage = 'passages'
  c.init = 'base_model'
  c.needs = ('init', 'data.prompts')
  c.eval.slots = 16
  c.pairs.temperatures = 2
  c.pairs.openings = 4
  c.pairs.coldest, c.pairs.hottest = 0.3, 0.7  # its best, not its boldest
  return c
