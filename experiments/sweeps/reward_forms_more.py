"""A form of reward survives a flaw of its judge if the referee prefers what it trains as before.

The forms that judge each answer by what its prompt carries, `rubric` (criteria: terms of the true
text) and `ladder` (references: the true text and damaged copies of it), by the scripted judges of
reward_forms.py, whose runs are needed here, too; and those without a judge, `likelihood` alone and
`diversity` beside the reward model, without which it pays for noise. In every arm all are computed.

python -m lwz.sweep --sweep=experiments/sweeps/reward_forms_more.py
python benchmarks/reward_forms.py --runs_dir runs --out results/reward_forms
"""

from experiments import claims
from experiments.sweeps import reward_forms

FORMS = ('rubric', 'ladder')
UNJUDGED = ({'likelihood': 1.0}, {'diversity': 1.0, 'writing': 1.0})


def get_config(size: str = 'tiny'):
  c = reward_forms.get_config(size)
  weights = dict.fromkeys(('writing', *FORMS, 'likelihood', 'diversity'), 0.0)
  c.reward.weights = {'length': 1.0, 'format': 1.0, **weights}
  return c


def get_hyper(h):
  arms = [{f'reward.weights.{name}': one[name] for name in one} for one in UNJUDGED]
  arms += [
    {f'reward.weights.{form}': 1.0, 'reward.judge': f'scripted-{judge}'}
    for form in FORMS
    for judge in reward_forms.JUDGES
  ]
  return h.product([arms, claims.seeds(h)])
