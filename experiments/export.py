"""A trained policy as a Hugging Face folder or a GGUF file, with the prompt that it answers to.

python -m lwz.launch --config=experiments/export.py                       # of the main job
python -m lwz.launch --config=experiments/export.py --config.init=FOLDER  # of that run
python -m lwz.launch --config=experiments/export.py --config.export.format=gguf  # for llama.cpp
python -m lwz.launch --config=experiments/export.py --config.export.push=USER/NAME  # to the hub
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'export'
  c.stage = 'export'
  c.init = f'grpo_think:{size}'
  c.needs = ('init',)
  return c
