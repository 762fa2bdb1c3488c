"""Supervised fine-tuning on prompts and answers: what the paper compares RL with (Fig. 4).

It starts where GRPO does, so that the two differ in how they learn alone. The paper's SFT gains 7
Elo from continual pretraining (964 to 971), its RL 226; data and settings of its SFT are not known.
Those here are LongWriter's own (arXiv 2408.07055): four epochs or so at 1e-5, packed. Its
data set, LongWriter-6k, has no thoughts: fine-tune on it with --config.data.style=direct.

  python -m lwz.launch --config=experiments/sft.py
  python -m lwz.launch --config=experiments/sft.py --config.data.examples=grpo_think:tiny \\
    --config.name=rejection_sampling                           # on the best rollouts of that run
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = c.stage = 'sft'
  pocket = size in base.POCKET
  small = size == 'small'
  c.init = base.begin(size) if small else f'pretrain:{size}'
  c.needs = ('init', 'data.examples', 'data.folder')
  c.train.rows = 8 if pocket else 4 if small else 64
  c.train.num_steps = 4 if size == 'micro' else 100 if pocket else 50 if small else 200
  c.train.decay_steps = c.train.num_steps
  # At a tenth of it a small model learns the format, and not what the plan's numbers mean.
  c.train.learning_rate = 1e-3 if pocket else 5e-4 if small else 1e-5
  return c
