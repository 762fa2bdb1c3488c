"""A policy behind an OpenAI-compatible server, with a page to write with.

python -m lwz.launch --config=experiments/serve.py
python -m lwz.launch --config=experiments/serve.py:32b --config.init=FOLDER --config.serve.port=8080
python -m lwz.launch --config=experiments/serve.py --config.reward.model=reward_model:tiny

Clients name http://127.0.0.1:8000/v1 as their base; a browser opens http://127.0.0.1:8000. With a
reward model they may ask for the best of several choices (`best_of`).
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'serve'
  c.stage = 'serve'
  c.init = f'grpo_think:{size}'
  c.needs = ('init', 'reward.model')
  base.sample_as_published(c)
  c.rollout.slots = 8
  c.rollout.block = 8  # so that a text comes in small pieces, and a slot is free soon
  c.rollout.exact = True  # a reply then has the same tokens whatever else is written
  return c
