"""Marks of single answers."""

import numpy as np

from lwz.rl import referee
from lwz.store import by_prompt


def test_marks_of_the_last_evaluation_come_back_by_metric_and_prompt(tmp_path):
  answers = [referee.Answer('Write about seas.', 'Two words.'), referee.Answer('Write.', '')]
  scores = {'referee': np.array([0.25, np.nan]), 'logp': np.array([-4.0, np.nan])}
  rows = referee.rows({'sampled': answers}, {'sampled': scores})
  assert by_prompt.read(tmp_path) == {}
  by_prompt.write(tmp_path / 'evaluations', 0, [{'mode': 'sampled', 'prompt': 'old', 'words': 9}])
  by_prompt.write(tmp_path / 'evaluations', 10, rows)
  assert by_prompt.read(tmp_path) == {
    'eval/valid_format/sampled': {'Write about seas.': 1.0, 'Write.': 0.0},
    'eval/words/sampled': {'Write about seas.': 2.0},
    'eval/referee/sampled': {'Write about seas.': 0.25},
    'eval/logp/sampled': {'Write about seas.': -4.0},
    'eval/outcome/sampled': {'Write about seas.': 0.25, 'Write.': 0.0},
  }
