"""The referee: a reward model that trains nothing, and tells whether the policy really gets better.

It shares no document, no kind of damage and no seed with the writing reward model.

  python -m lwz.launch --config=experiments/referee.py
"""

from experiments import reward_model


def get_config(size: str = 'tiny'):
  c = reward_model.get_config(size)
  c.experiment = 'referee'
  c.name = f'referee-{size}'
  c.seed = 1_000
  c.data.share_from, c.data.share_to = c.data.share_to, 1.0
  c.data.written = f'policy_pairs:{size}' if size in ('tiny', 'small') else ''
  c.data.damages = ('marks', 'drop', 'swap', 'chain', 'splice', 'stuff', 'misspell')
  return c
