"""LongBench-Write: quality in six dimensions, with the length score, by type and length.

`eval.file` is longbench_write.jsonl, or its folder, whose judge.txt is then used. Without it the
requests are held-out titles. Systems and judge are sampled at LongWriter's temperature.

  python -m lwz.launch --config=experiments/eval_longbench.py
  python -m lwz.launch --config=experiments/eval_longbench.py:32b \\
    --config.eval.file=LongWriter/evaluation --config.judge.model=gpt-4o@https://api.openai.com/v1
"""

from experiments import eval_ruler


def get_config(size: str = 'tiny'):
  c = eval_ruler.get_config(size)
  c.experiment = 'eval_longbench'
  c.eval.benchmark = 'longbench'
  c.judge.temperature, c.judge.max_tokens = 0.5, 1_024
  return c
