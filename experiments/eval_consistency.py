"""Contradictions per 10,000 words, in ConStory-Bench's classes, with both quotations.

`eval.file` holds requests in the schema of LongBench-Write; without it they are held-out titles.
The judge lists the facts of each part of a text, then the conflicts among them.

  python -m lwz.launch --config=experiments/eval_consistency.py
  python -m lwz.launch --config=experiments/eval_consistency.py:32b \\
    --config.eval.file=stories.jsonl --config.judge.model=judge@http://localhost:8000/v1
"""

from experiments import eval_arena


def get_config(size: str = 'tiny'):
  c = eval_arena.get_config(size)
  c.experiment = 'eval_consistency'
  c.eval.benchmark = 'consistency'
  c.judge.max_tokens = 4_096  # a list of facts with quotations
  return c
