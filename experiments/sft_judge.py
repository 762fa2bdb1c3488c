"""The cold start of a judge: which of two answers is better, and the form of a verdict.

python -m lwz.launch --config=experiments/sft_judge.py
"""

from experiments import base, sft


def get_config(size: str = 'tiny'):
  c = sft.get_config(size)
  c.experiment = 'sft_judge'
  c.data.style = 'direct'  # embedded pairs have no reasons to learn from
  c.data.examples = f'reward_model:{size}'  # its pairs
  if size in base.POCKET:
    c.data.row_length = 512 if size == 'tiny' else 256
    c.train.num_steps = c.train.decay_steps = 4 if size == 'micro' else 60
  return c
