"""A form of reward survives a flaw of its judge if the referee prefers what it trains as before.

Forms that compare answers (`sibling`, `ranking`) by scripted judges of one known flaw each, beside
the reward model of the main job: what each reward says of itself, and what the referee says, which
trains nothing. In every arm all three are computed, and one has a weight, beside length and format.
40 GRPO steps an arm; three seeds share a policy and a reward model each.

python -m lwz.sweep --sweep=experiments/sweeps/reward_forms.py
"""

from experiments import claims

FORMS = ('sibling', 'ranking')
JUDGES = (
  *('perfect', 'length-loving-0.5', 'position-biased-0.3', 'noisy-0.3', 'gullible'),
  'blind-to-order',
)


def get_config(size: str = 'tiny'):
  c = claims.get_config(size)
  c.reward.weights = {'length': 1.0, 'format': 1.0, **dict.fromkeys(('writing', *FORMS), 0.0)}
  c.reward.judge = 'scripted-perfect'
  return c


def get_hyper(h):
  arms = [{'reward.weights.writing': 1.0}]  # by the reward model, no judge trains
  arms += [
    {f'reward.weights.{form}': 1.0, 'reward.judge': f'scripted-{judge}'}
    for form in FORMS
    for judge in JUDGES
  ]
  return h.product([arms, claims.seeds(h)])
