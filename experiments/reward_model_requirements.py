"""A writing reward model that also learns from answers which cover fewer terms of the request.

The ablation of such pairs (arXiv 2604.27453), see sweeps/writing_reward.py.

  python -m lwz.launch --config=experiments/reward_model_requirements.py
"""

from experiments import reward_model


def get_config(size: str = 'tiny'):
  c = reward_model.get_config(size)
  c.experiment = 'reward_model_requirements'
  c.data.requirements = 3
  return c
