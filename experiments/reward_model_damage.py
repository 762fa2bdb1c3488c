"""A writing reward model that never saw words that do not exist: seven kinds of damage of eight.

The ablation of `coin`, see sweeps/writing_reward.py.

  python -m lwz.launch --config=experiments/reward_model_damage.py
"""

from experiments import reward_model

KINDS = ('shuffle', 'repeat', 'cut', 'replace', 'mix', 'scramble', 'stutter')


def get_config(size: str = 'tiny'):
  c = reward_model.get_config(size)
  c.experiment = 'reward_model_damage'
  c.data.damages = KINDS
  return c
