"""Arena-Write (paper, Table 1): policies against baselines and each other, as ratings.

Without `eval.file` the prompts are held-out titles, and the baseline is the passage of the corpus.

  python -m lwz.launch --config=experiments/eval_arena.py
  python -m lwz.launch --config=experiments/eval_arena.py:32b \\
    --config.eval.file=arena_write.jsonl \\
    --config.judge.model=Qwen/Qwen2.5-72B-Instruct@http://localhost:8000/v1
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'eval_arena'
  c.stage = 'evaluate'
  c.needs = ('eval.systems', 'eval.scorers', 'judge.model')
  first = 'sft' if size == 'small' else 'pretrain'
  c.eval.systems = tuple(f'{name}:{size}' for name in (first, 'grpo_think', 'grpo_nothink'))
  if size in base.POCKET:
    c.eval.systems = (f'base_model:{size}', *c.eval.systems)
  else:
    c.eval.prompts = 0
  c.rollout.temperature = 1.0 if size in base.POCKET else 0.6  # the model card's
  return c
