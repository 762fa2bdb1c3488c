"""Leaderboards: only results of the same conditions, and judges on the same answers."""

import json

import pytest

from experiments import report
from lwz.stages import report as stage

CONDITIONS = {'benchmark': 'writingbench', 'queries': '3 of digest ab', 'judge': 'one'}


def leave(runs, name, scores, marks=(), **changes):
  """The folder of an evaluation: scores by system, (index, answer, mark) of its judge."""
  folder = runs / name
  folder.mkdir()
  config = {'config': {'stage': 'evaluate'}, 'history': [], 'versions': {}, 'command': []}
  (folder / 'config.json').write_text(json.dumps(config | {'hash': '', 'created': ''}))
  rows = [
    {'system': s, 'value': x, 'low': x - 1, 'high': x + 1, 'S_l': 50.0, 'answers': 3}
    for s, x in scores.items()
  ]
  kept = {'conditions': CONDITIONS | changes, 'unit': 'marks', 'lower_is_better': False}
  (folder / 'results.json').write_text(json.dumps({'leaderboard': {**kept, 'rows': rows}}))
  lines = [
    {'index': i, 'answers': [answer], 'criterion': 'Tone', 'score': mark}
    for i, answer, mark in marks
  ]
  (folder / 'judgements.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


def compare(runs, *names):
  c = report.get_config('micro')
  c.runs_dir, c.report.runs = str(runs), names
  stage.check(c)
  stage.run(c)
  return (runs / 'report-micro' / 'table.md').read_text(), (
    runs / 'report-micro' / 'report.html'
  ).read_text()


def test_results_of_other_conditions_stand_apart_with_what_differs(tmp_path):
  leave(tmp_path, 'a', {'base': 4.0, 'ours': 7.0})
  leave(tmp_path, 'b', {'theirs': 6.0})
  leave(tmp_path, 'c', {'best': 9.5}, queries='9 of digest cd')
  text, page = compare(tmp_path, 'c', 'a', 'b')
  board, apart = text.split('**other conditions')
  lines = [line.split(' | ') for line in board.splitlines() if line.startswith('|')][2:]
  assert [(line[0], line[1]) for line in lines] == [
    ('| 1', 'ours'),
    ('| 2', 'theirs'),
    ('| 3', 'base'),
  ]
  assert 'best' not in board
  assert '| c | queries: 9 of digest cd, not 3 of digest ab | best |' in apart
  assert '3 of digest ab' in page and '<svg' in page


def test_two_judges_are_compared_on_the_same_answers_alone(tmp_path):
  marks = [(i, f'x{i}', m) for i, m in enumerate([3, 9, 5, 7])]
  leave(tmp_path, 'a', {'s': 6.0, 't': 5.0, 'u': 4.0}, marks)
  other = [*marks[:3], (3, 'another answer', 1)]
  leave(tmp_path, 'b', {'s': 6.0, 't': 5.0, 'u': 7.0}, other, judge='two')
  text, _ = compare(tmp_path, 'a', 'b')
  row = text.split('**two judges')[1].splitlines()[-1].split(' | ')
  assert row[:4] == ['| one', 'two', '3', '3'] and row[4] == '1.000'
  assert float(row[-1].rstrip(' |').replace('−', '-')) == pytest.approx(-1 / 3, abs=1e-3)
  assert '**two judges' not in compare(tmp_path, 'a')[0]


@pytest.mark.parametrize(
  'break_, why',
  [
    (lambda at: (at / 'results.json').unlink(), 'a has no results.json; finish'),
    (lambda at: (at / 'results.json').write_text('{}'), 'leaderboard is missing; delete DONE'),
    (
      lambda at: (at / 'results.json').write_text('{"leaderboard": {"rows": 3}}'),
      'conditions is missing.*rows = 3 is no list',
    ),
    (lambda at: (at.parent / 'run').mkdir(), 'a is an evaluation, and run is none'),
  ],
)
def test_what_is_no_result_is_named(break_, why, tmp_path):
  leave(tmp_path, 'a', {'s': 1.0})
  break_(tmp_path / 'a')
  names = ('a', 'run') if (tmp_path / 'run').exists() else ('a',)
  with pytest.raises(ValueError, match=why):
    compare(tmp_path, *names)
