"""What makes the writing reward harder to fool: the main job's means and others, by three seeds.

The outcome is the referee, which trains nothing: its win rate against step 0 on held-out titles.

python -m lwz.sweep --sweep=experiments/sweeps/writing_reward.py
"""

EXPERIMENT = 'grpo_think'


def get_hyper(h):
  one = {'reward.ensemble': ()}  # a single model, of eight kinds of damage
  means = [
    {},  # the main job: two models, and the lower bound of their rewards
    one,
    {**one, 'reward.model': 'reward_model_damage:tiny'},  # without words that do not exist
    {**one, 'reward.model': 'reward_model_written:tiny'},  # and what the pretrained policy wrote
    {**one, 'reward.model': 'reward_model_requirements:tiny'},  # and fewer of the terms asked for
    {**one, 'reward.refresh': 20},  # learns from the policy's recent texts
    {**one, 'rl.kl_weight': 0.05},  # for comparison: the paper has no such term
  ]
  seeds = h.zipit([h.sweep('seed', [0, 1, 2]), h.sweep('needs_seed', [0, 1, 2])])
  return h.product([means, seeds])
