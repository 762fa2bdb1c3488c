"""WritingBench (paper, Table 1): answers marked from 1 to 10 by the criteria of each query.

`eval.file` is benchmark_all.jsonl or the folder of the benchmark's repository, whose subsets and
critic's prompt are then used. Without it the queries are held-out titles.

  python -m lwz.launch --config=experiments/eval_writingbench.py
  python -m lwz.launch --config=experiments/eval_writingbench.py:32b \\
    --config.eval.file=WritingBench --config.judge.model=critic@http://localhost:8000/v1
"""

from experiments import eval_arena


def get_config(size: str = 'tiny'):
  c = eval_arena.get_config(size)
  c.experiment = 'eval_writingbench'
  c.eval.benchmark = 'writingbench'
  # How the critic of version 1 is sampled, as published; that of later versions: 1.0 and 0.95.
  c.judge.temperature, c.judge.top_p = 0.7, 0.8
  return c
