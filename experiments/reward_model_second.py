"""A second writing reward model, for ensembles: the same pairs, another seed.

python -m lwz.launch --config=experiments/reward_model_second.py
"""

from experiments import reward_model


def get_config(size: str = 'tiny'):
  c = reward_model.get_config(size)
  c.experiment = 'reward_model_second'
  c.name = f'reward_model_second-{size}'
  c.seed = 2_000
  return c
