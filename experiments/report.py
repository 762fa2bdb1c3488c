"""Think against direct answers: the paper's Fig. 2 at pocket size, from runs that are there.

python -m lwz.launch --config=experiments/report.py
python -m lwz.launch --config=experiments/report.py --config.report.runs="('mine', 'yours')"
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'report'
  c.stage = 'report'
  c.report.runs = (f'grpo_think-{size}', f'grpo_nothink-{size}')
  return c
