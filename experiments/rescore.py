"""Other rewards on the samples of a finished or interrupted run: would GRPO have seen the same?

Here the second reward model of the main job judges alone. Name any rewards, models and judges; a
weight of 0 leaves a reward out.

  python -m lwz.launch --config=experiments/rescore.py
  python -m lwz.launch --config=experiments/rescore.py --config.rescore.run=runs/mine \
      --config.reward.weights.diversity=1 --config.name=rescore_diversity
"""

from experiments import grpo_think


def get_config(size: str = 'tiny'):
  c = grpo_think.get_config(size)
  c.experiment = c.stage = 'rescore'
  c.rescore.run = f'grpo_think:{size}'
  c.needs = ('rescore.run', *c.needs)
  if c.reward.ensemble:
    c.reward.model, c.reward.ensemble = c.reward.ensemble[0], ()
  c.reward.heldout = ''
  return c
