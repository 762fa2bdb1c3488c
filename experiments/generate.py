"""A model's writing, streamed to the terminal: a run's, or that of a Hugging Face model.

python -m lwz.launch --config=experiments/generate.py --config.prompt="Write a note on the sea."
python -m lwz.launch --config=experiments/generate.py:32b --config.init=FOLDER --config.prompt=...
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'generate'
  c.stage = 'generate'
  c.init = f'grpo_think:{size}'
  c.needs = ('init',)
  c.prompt = 'Write a note on the sea.'
  return c
