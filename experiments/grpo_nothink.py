"""The direct-answer ablation (Base-nothink in the paper): the same run without thoughts.

python -m lwz.launch --config=experiments/grpo_nothink.py
"""

from experiments import grpo_think


def get_config(size: str = 'tiny'):
  c = grpo_think.get_config(size)
  c.experiment = 'grpo_nothink'
  c.data.style = 'direct'
  return c
