"""GRPO with the think prompt and three balanced rewards: LongWriter-Zero itself (section 3).

python -m lwz.launch --config=experiments/grpo_think.py        # minutes, on any CPU
python -m lwz.launch --config=experiments/grpo_think.py:32b    # the paper's own
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'grpo_think'
  c.stage = 'grpo'
  pocket = size in base.POCKET
  small = size == 'small'
  c.init = 'sft:small' if small else f'pretrain:{size}'
  c.reward.model = f'reward_model:{"72b" if size == "32b" else size}'  # the paper's is of 72B
  c.reward.heldout = f'referee:{size}' if size in ('tiny', 'small') else ''  # micro: if named
  # Where one of two is fooled they disagree, and the lower bound pays less, see docs/showcase.md.
  c.reward.ensemble = ('reward_model_second:tiny',) if size == 'tiny' else ()
  # The referee waits for pairs of the policy: of two at a time, the second model is better last.
  rewards = ('reward.model', 'reward.heldout', 'reward.ensemble', 'reward.likelihood_model')
  c.needs = ('init', *rewards, 'data.prompts', 'judge.model', 'reward.judge', 'rl.teacher')
  c.train.num_steps = 3 if size == 'micro' else 80 if pocket else 60 if small else 150
  # 7e-4 drifts into what the reward model pays for and no reader reads, see LOG.md.
  c.train.learning_rate = 2e-4 if pocket else 1e-5 if small else 1e-6
  c.train.weight_decay = 0.0
  c.train.micro_rows = 4 if pocket else 1
  c.data.row_length = 256 if pocket else 0 if small else 16_384
  if pocket:
    c.rl.prompts_per_step, c.rl.group_size = (2, 4) if size == 'micro' else (4, 8)
    c.rl.num_minibatches = 2
    c.eval.every = 40  # they take 5 % of the run's time: the longest of their answers
    c.eval.prompts = 4 if size == 'micro' else 0  # all held-out titles: win rates of few are noise
    c.eval.greedy = 16
    # Updates, then on at a tenth: with more, the text pleases the reward model alone, see LOG.md.
    c.train.decay_steps = 3 if size == 'micro' else 60
  if small:
    c.rl.prompts_per_step, c.rl.group_size, c.rl.num_minibatches = 2, 8, 2
  if size == 'micro':
    c.rl.entropy_weight = 0.01  # no text of a run of seconds earns a reward: this moves the policy
  return c
