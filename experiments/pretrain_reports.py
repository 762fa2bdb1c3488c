"""Continual pretraining on docstrings alone, for experiments/claims/sources.py.

python -m lwz.launch --config=experiments/pretrain_reports.py
"""

from experiments import pretrain


def get_config(size: str = 'tiny'):
  c = pretrain.get_config(size)
  c.experiment = 'pretrain_reports'
  c.data.sources = ('stdlib',)
  return c
