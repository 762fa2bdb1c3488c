"""A writing reward model that learns from what the pretrained policy wrote, too.

The ablation of pairs whose worse side is a policy's, see sweeps/writing_reward.py.

  python -m lwz.launch --config=experiments/reward_model_written.py
"""

from experiments import reward_model


def get_config(size: str = 'tiny'):
  c = reward_model.get_config(size)
  c.experiment = 'reward_model_written'
  c.data.written = f'policy_pairs:{size}' if size == 'tiny' else c.data.written
  return c
