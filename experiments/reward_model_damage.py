"""A writing reward model that never saw a policy's text: passages against damaged copies alone.

The ablation of the pairs that the pretrained policy wrote, see sweeps/writing_reward.py.

  python -m lwz.launch --config=experiments/reward_model_damage.py
"""

from experiments import reward_model


def get_config(size: str = 'tiny'):
  c = reward_model.get_config(size)
  c.experiment = 'reward_model_damage'
  c.data.written = ''
  return c
