"""A trained policy as a Hugging Face folder: for transformers, vLLM, SGLang, llama.cpp's converter.

python -m lwz.launch --config=experiments/export.py                       # of the main job
python -m lwz.launch --config=experiments/export.py --config.init=FOLDER  # of that run
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'export'
  c.stage = 'export'
  c.init = f'grpo_think:{size}'
  c.needs = ('init',)
  return c
