"""The writing reward model: Bradley-Terry on preference pairs (paper, Eq. 4; Qwen2.5-72B there).

The paper's pairs are labelled by hand and unpublished. Without `data.preferences`, a passage of the
corpus is preferred to damaged copies of itself; at the size small, also to what the policy writes.

  python -m lwz.launch --config=experiments/reward_model.py
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'reward_model'
  c.stage = 'reward_model'
  pocket = size in base.POCKET
  small = size == 'small'
  c.init = base.begin(size)
  # A pocket policy's own texts as worse sides have it pay for words that do not exist, see LOG.md.
  c.data.written = 'policy_pairs:small' if small else ''
  c.data.share_to = 0.6  # the referee has the rest
  c.data.tests = f'{base.DATA}/cheats.jsonl' if size == 'tiny' else ''
  c.needs = ('init', 'data.written', 'data.folder')
  c.train.rows = 2 if size == 'micro' else 16 if pocket else 8 if small else 64
  c.train.micro_rows = 8 if pocket else 2  # both sides of a pair meet in one pass
  c.train.num_steps = 4 if size == 'micro' else 250 if pocket else 24 if small else 1_000
  c.train.decay_steps = c.train.num_steps
  c.train.learning_rate = 1e-3 if pocket else 2e-5 if small else 5e-6
  return c
