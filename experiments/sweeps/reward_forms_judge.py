"""A form of reward survives a flaw of its judge if the referee prefers what it trains as before.

Every form that asks a judge, by one more judge, which the command line names: rules with another
amount (scripted-noisy-0.5), an endpoint, a model, or a Python file with a function
`reply(question)`, see lwz/judge/own.py. Its arms stand on the page of the bench beside those of
reward_forms.py and reward_forms_more.py, by its name; what it fails on is masked, however much.

python -m lwz.sweep --sweep=experiments/sweeps/reward_forms_judge.py --config.reward.judge=JUDGE.py
python benchmarks/reward_forms.py --judge JUDGE.py --runs_dir runs --out results/reward_forms
"""

from experiments import claims
from experiments.sweeps import reward_forms, reward_forms_more


def get_config(size: str = 'tiny'):
  c = claims.get_config(size)
  c.reward.weights.writing, c.reward.max_failures = 0.0, 1.0
  return c


def get_hyper(h):
  forms = (*reward_forms.FORMS, *reward_forms_more.FORMS)
  return h.product([[{f'reward.weights.{form}': 1.0} for form in forms], claims.seeds(h)])
