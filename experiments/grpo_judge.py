"""A generative judge, trained by the loop that trains a writer (RLCS, arXiv 2601.07149).

The prompts are preference pairs, each in both orders; the reward is 1 for the right verdict.
`sft_judge` has learnt from most of the pairs, so that the reward is no accuracy on unseen ones. As
`reward.judge` or `judge.model` the run is asked the arena's question, in other words than these.

  python -m lwz.launch --config=experiments/grpo_judge.py
"""

from experiments import base, grpo_think


def get_config(size: str = 'tiny'):
  c = grpo_think.get_config(size)
  c.experiment = 'grpo_judge'
  c.data.style = 'direct'  # with thoughts, if `init` has learnt them
  c.init, c.data.prompts = f'sft_judge:{size}', f'reward_model:{size}'
  c.reward.model, c.reward.heldout, c.reward.ensemble = '', '', ()
  c.reward.weights = {'verdict': 1.0}
  c.eval.every = 0  # it would compare verdicts as texts
  if size in base.POCKET:
    c.rollout.max_prompt_tokens, c.rollout.max_tokens = (448, 40) if size == 'tiny' else (224, 16)
    c.data.row_length = 512 if size == 'tiny' else 256
    c.rl.overlong_margin = 8
  return c
