"""The ruler: asked against produced length from 100 to 30,000 words at real sizes.

LongWrite-Ruler's form, without a judge: S_l, early ends, cap hits, runaways, and what each text is
like over its length; 10 to 80 words at pocket sizes. `eval.file` may be longwrite_ruler.jsonl, a
system a file of answers that exist already.

  python -m lwz.launch --config=experiments/eval_ruler.py
  python -m lwz.launch --config=experiments/eval_ruler.py:32b \\
    --config.eval.systems="('longwriter=answers.jsonl',)"
"""

from experiments import base, eval_arena


def get_config(size: str = 'tiny'):
  c = eval_arena.get_config(size)
  c.experiment = 'eval_ruler'
  c.eval.benchmark = 'ruler'
  if size not in (*base.POCKET, 'small'):
    c.rollout.temperature = 0.5  # LongWriter's
    c.rollout.max_tokens = 30_000  # of the 32,768 positions that most models have
  return c
