"""The prompt set (paper, section 3.1): from a million conversations to requests for long texts.

WildChat-1M and LMSYS-Chat-1M go through rules, duplicates, a filter judge and a length assessor;
the paper's judge is QwQ-32B. What comes out is a file for data.prompts.

  python -m lwz.launch --config=experiments/prompts.py
  python -m lwz.launch --config=experiments/prompts.py --config.name=wildchat \\
    --config.prompts.sources="('WildChat-1M/data', 'LMSYS-Chat-1M/data')" \\
    --config.judge.model=Qwen/QwQ-32B@http://localhost:8000/v1
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'prompts'
  c.stage = 'prompts'
  c.needs = ('judge.model',)
  c.judge.max_tokens = 8_192  # a judge that thinks aloud
  return c
