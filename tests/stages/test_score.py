"""Rewards are tried on texts: recorded ones, or held-out passages."""

import json
import re

import numpy as np
import pytest

from experiments import grpo_think
from lwz import types
from lwz.reward import components
from lwz.reward import format as format_lib
from lwz.stages import score

FORMATTED = '<think>Plan.</think>\n<answer>The sea is wide and old.</answer>'  # 6 words


def config(**keys):
  c = grpo_think.get_config('micro')
  c.stage = 'score'
  del c.reward.weights['writing']  # needs a model
  c.reward.model = 'http://localhost:1/score'
  for name, value in keys.items():
    c.score[name] = value
  return c


def rows(c, capsys):
  score.check(c)
  score.run(c)
  lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
  cells = [[cell.strip() for cell in line.strip('| ').split(' | ')] for line in lines]
  return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_recorded_texts_get_the_rewards_of_the_equations(tmp_path, capsys):
  path = tmp_path / 'texts.jsonl'
  records = [
    {'text': FORMATTED, 'prompt': 'Write.', 'lower': 5, 'upper': 9},
    {'text': FORMATTED},  # data.lower = 10
    {'text': FORMATTED[:30], 'lower': 5, 'upper': 9},
  ]
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))
  inside, short, broken = rows(config(texts=str(path)), capsys)
  assert (inside['text'], inside['words'], inside['asked']) == ('texts:1', '6', '5 to 9')
  assert (inside['length'], inside['format'], inside['structure']) == ('1.000', '1.000', 'valid')
  assert (short['length'], short['asked']) == ('0.600', '10 to 24')  # n / lower, Eq. 3
  assert (broken['length'], broken['format']) == ('0', '0')
  assert broken['structure'] == 'unclosed_answer'


def test_the_samples_of_a_run_are_found_in_its_folder(tmp_path, capsys):
  (tmp_path / 'samples').mkdir()
  for step in (0, 10):
    record = {'step': step, 'text': FORMATTED, 'prompt': 'Write.', 'lower': 6, 'upper': 6}
    (tmp_path / f'samples/step-{step:06d}.jsonl').write_text(json.dumps(record) + '\n')
  found = rows(config(texts=str(tmp_path)), capsys)
  assert [row['text'] for row in found] == ['step-000000:1', 'step-000010:1']


def test_held_out_passages_have_rewards_and_damaged_ones_less(capsys):
  """Also by a judge: their prompts have criteria and references, the passage is the best."""
  c = config()
  c.seed = 2  # whose stutter begins early
  c.reward.judge = 'scripted-perfect'
  c.reward.weights.rubric = c.reward.weights.ladder = 1.0
  found = rows(c, capsys)
  intact = [row for row in found if row['text'] == 'original']
  assert len(intact) >= 5
  assert all(float(r['length']) > 0.9 and float(r['format']) > 0.9 for r in intact)
  assert all(float(r['rubric']) == 1.0 and float(r['ladder']) >= 0.5 for r in intact)
  by_kind = {row['text']: row for row in found}
  assert float(by_kind['stutter']['format']) < 0.7
  assert by_kind['no text']['format'] == by_kind['half of the text']['length'] == '0'


def test_siblings_are_those_that_answer_one_prompt():
  prompts = [types.Prompt('', name, 1, 2) for name in ('a', 'b', 'a')]
  parsed = format_lib.parse(FORMATTED, 'think')
  samples = [components.Sample(prompt, FORMATTED, parsed) for prompt in prompts]
  size = components.per_group(lambda group: np.full(len(group), float(len(group))))
  assert score._values(size, samples).tolist() == [2, 1, 2]


@pytest.mark.parametrize(
  'record, what',
  [
    ({'text': None}, "'text' is null"),
    ({'prompt': 'x'}, "no field 'text'"),
    ({'text': 'x', 'lower': 9, 'upper': 5}, 'expected 0 < lower <= upper, in words, not 9 and 5'),
    ({'text': 'x', 'lower': '9'}, "'lower' should be int, found str"),
  ],
)
def test_a_broken_line_is_named(tmp_path, record, what):
  path = tmp_path / 'texts.jsonl'
  path.write_text(json.dumps({'text': 'x'}) + '\n' + json.dumps(record) + '\n')
  with pytest.raises(ValueError, match=re.escape(f'{path}:2: {what}')):
    score.check(config(texts=str(path)))


def test_a_folder_without_texts_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'score\.texts=.*: no texts; name a JSONL file, or'):
    score.check(config(texts=str(tmp_path)))
