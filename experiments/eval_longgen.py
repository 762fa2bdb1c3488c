"""Tasks in the form of LongGenBench: diaries and towers whose instructions are checked by rules.

Completion and accuracy, by length and position in the task, without a judge.

  python -m lwz.launch --config=experiments/eval_longgen.py
"""

from experiments import eval_ruler


def get_config(size: str = 'tiny'):
  c = eval_ruler.get_config(size)
  c.experiment = 'eval_longgen'
  c.eval.benchmark = 'longgen'
  if size == 'micro':
    c.rollout.max_tokens = 56  # of 256 positions; the longest request, a Chinese one, takes 197
  return c
