"""A model's writing, streamed to the terminal: a run's, or that of a Hugging Face model.

python -m lwz.launch --config=experiments/generate.py --config.prompt="Write a note on the sea."
python -m lwz.launch --config=experiments/generate.py:32b --config.init=FOLDER --config.prompt=...
python -m lwz.launch --config=experiments/generate.py --config.generate.prompts=FILE.jsonl \\
  --config.generate.drafts=3 --config.generate.folder=texts      # kept, continued after a kill

From `0.5b` on it samples as the model card of LongWriter-Zero-32B says.
"""

from experiments import base


def get_config(size: str = 'tiny'):
  c = base.get_config(size)
  c.experiment = 'generate'
  c.stage = 'generate'
  c.init = f'grpo_think:{size}'
  c.needs = ('init', 'reward.model')
  c.prompt = 'Write a note on the sea.'
  c.generate.loop = 256
  base.sample_as_published(c)
  return c
