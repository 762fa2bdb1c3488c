"""Continual pretraining on the language reference alone, for experiments/claims/sources.py.

python -m lwz.launch --config=experiments/pretrain_books.py
"""

from experiments import pretrain


def get_config(size: str = 'tiny'):
  c = pretrain.get_config(size)
  c.experiment = 'pretrain_books'
  c.data.sources = ('reference',)
  return c
