"""Rejection sampling: which samples of a GRPO run's archive become examples."""

import numpy as np
import pytest

from experiments import grpo_think, sft
from lwz import types
from lwz.data import examples
from lwz.rl import best_samples, sampling
from lwz.runtime import sources
from tests import archived_run

PROMPTS = [types.Prompt(f'p{i}', f'Write about {i}.', 3, 9) for i in range(4)]
TEXTS = [  # of one prompt
  '<think>Plan a.</think>\n<answer>Text a.</answer>',
  '<think>Plan b.</think>\n<answer>Text b.</answer>',
  '<answer>No thought.</answer>',
  '<think>Plan d.</think>\n<answer>Text d.',
]
# mean rewards of the samples of four prompts, and whether they were judged
MEANS = [[0.6, 0.7, 0.1, 0.2], [0.6, 0.5, 0.9, 0.8], [0.4, 0.3, 0.9, 0.9], [0.6, 0.7, 0.1, 0.2]]
VALID = [[True] * 4, [True] * 4, [True] * 4, [True, False, True, True]]


@pytest.fixture
def made(tmp_path, monkeypatch):
  """A complete run of GRPO with two steps of two prompts; one reward alone weighs."""
  run = grpo_think.get_config('micro')
  run.train.num_steps, run.rl.prompts_per_step, run.rl.group_size = 2, 2, 4
  run.reward.weights.update({'length': 2.0, 'writing': 0.0, 'format': 0.0})
  means = np.array(MEANS, np.float32)
  rewards = {'length': means, 'writing': 1 - means, 'format': np.ones_like(means)}
  archived_run.write(tmp_path, run, TEXTS, rewards, VALID, steps=range(2))
  monkeypatch.setattr(sources, 'writing_prompts', lambda c: PROMPTS)
  monkeypatch.setattr(sampling, 'take', lambda c, prompts, step: prompts[2 * step : 2 * step + 2])
  c = sft.get_config('micro')
  c.data.examples = str(tmp_path)
  return c, tmp_path


def test_the_best_valid_and_judged_sample_of_a_group_above_the_threshold(made):
  c, folder = made
  a, b = (('Plan a.', 'Text a.'), ('Plan b.', 'Text b.'))
  found, num_groups = best_samples.load(c, folder)
  wanted = [('Write about 0.', *b), ('Write about 1.', *a), ('Write about 3.', *a)]
  assert (found, num_groups) == ([examples.Example(*one) for one in wanted], 4)
  c.data.threshold = 0.65
  assert best_samples.load(c, folder)[0] == [examples.Example(*wanted[0])]
  c.data.style = 'direct'
  assert best_samples.load(c, folder)[0] == [examples.Example('Write about 0.', '', 'Text b.')]


def test_a_run_that_is_not_complete_or_has_no_thoughts_is_refused(made):
  c, folder = made
  path = folder / 'config.json'
  path.write_text(path.read_text().replace('"style": "think"', '"style": "direct"'))
  with pytest.raises(ValueError, match="a run in the style 'direct' has no thoughts"):
    best_samples.load(c, folder)
  (folder / 'DONE').unlink()
  with pytest.raises(FileNotFoundError, match='the run is not complete'):
    best_samples.load(c, folder)
