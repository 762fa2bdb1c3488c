"""WritingBench (paper, Table 1): answers marked from 1 to 10 by the criteria of each query.

`eval.file` is benchmark_all.jsonl or the folder of the benchmark's repository, whose subsets and
critic's prompt are then used. Without it the queries are held-out titles. Systems and critic are
sampled with the benchmark's published settings.

  python -m lwz.launch --config=experiments/eval_writingbench.py
  python -m lwz.launch --config=experiments/eval_writingbench.py:32b \\
    --config.eval.file=WritingBench --config.judge.model=critic@http://localhost:8000/v1
"""

from ml_collections import config_dict

from experiments import base, eval_arena


def get_config(size: str = 'tiny'):
  c = eval_arena.get_config(size)
  c.experiment = 'eval_writingbench'
  c.eval.benchmark = 'writingbench'
  c.rollout.temperature, c.rollout.top_p, c.rollout.top_k = 0.7, 0.8, 20
  if size not in base.POCKET:
    c.rollout.max_tokens = 16_000
  # None: as published for the critic of the version that is judged: 0.7 and 0.8 for the first, 1.0
  # and 0.95 for later ones.
  c.judge.temperature = config_dict.placeholder(float)
  c.judge.top_p = config_dict.placeholder(float)
  return c
