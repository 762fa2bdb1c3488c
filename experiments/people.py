"""People's blind judgements (paper, Fig. 5): win rates with ties as half, and their agreement.

An arena writes people.html. What people export from it goes into a folder `annotations` of that
run, or into `eval.annotations`.

  python -m lwz.launch --config=experiments/people.py
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'people'
  c.stage = 'people'
  c.eval.arena = f'eval_arena-{size}'
  return c
