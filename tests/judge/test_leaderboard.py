"""Leaderboards: only results of the same conditions, and judges on the same answers."""

import json

import pytest

from experiments import eval_arena, report
from lwz.evals import arena, standings
from lwz.judge import benchmarks, leaderboard
from lwz.stages import report as stage
from tests import fakes

CONDITIONS = {'benchmark': 'writingbench', 'queries': '3 of digest ab', 'judge': 'one'}


def leave(runs, name, scores, marks=(), **changes):
  """The folder of an evaluation: scores by system, (index, answer, mark) of its judge."""
  folder = runs / name
  folder.mkdir()
  fakes.keep_config(folder, {'stage': 'evaluate'})
  rows = [
    {'system': s, 'value': x, 'low': x and x - 1, 'high': x and x + 1, 'S_l': 50.0, 'answers': 3}
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


def test_a_folder_of_no_stage_is_no_evaluation(tmp_path):
  leave(tmp_path, 'a', {'s': 1.0})
  path = tmp_path / 'a' / 'config.json'
  assert leaderboard.is_result(path.parent)
  path.write_text(path.read_text().replace('"stage"', '"stages"'))
  assert not leaderboard.is_result(path.parent)


def test_systems_without_a_score_come_last(tmp_path):
  leave(tmp_path, 'a', {'mute': None, 'base': 4.0, 'dumb': None, 'ours': 7.0})
  names = [line.split(' | ')[1] for line in compare(tmp_path, 'a')[0].splitlines() if ' | ' in line]
  assert [name for name in names if name not in ('system', '---')] == [
    'ours',
    'base',
    'dumb',
    'mute',
  ]


def in_arena(wins, *, rivals=False, length=10, baseline='text', systems=('x',)):
  """The section of an arena of ten tasks; each system beats 'base' in so many."""
  c = eval_arena.get_config('micro')
  c.eval.rivals, c.eval.systems = rivals, systems
  tasks = [arena.Task(i, f'Ode {i}', 'x', length, {'base': baseline}) for i in range(10)]
  found = [
    standings.Pairing(i, name, 'base', float(i < num))
    for name, num in wins.items()
    for i in range(10)
  ]
  rows = standings.rate(found, [*wins, 'base'], 0)
  results = {
    'facts': {'judge': 'one', 'sampling': 'temperature 1'},
    'plot': [(r['player'], r['rating'], r['low'], r['high']) for r in rows],
    'standings': rows,
    'win_rates': standings.win_rates(found, list(wins), {t.idx: t for t in tasks}, 0),
    **{'unit': 'rating', 'by_length': {}, 'answers': {}},
  }
  asked = {task.idx: task.length for task in tasks}
  prompts = {task.idx: task.question for task in tasks}
  return leaderboard.section(
    c, benchmarks.Loaded(tasks, prompts, [], 0, {'base'}, asked), results, False
  )


def test_the_score_in_an_arena_without_rivals_does_not_depend_on_the_other_systems():
  alone, beside = in_arena({'x': 9}), in_arena({'x': 9, 'y': 0})
  assert alone['conditions'] == beside['conditions'] and '%' in alone['unit']
  assert alone['rows'] == beside['rows'][:1] and alone['rows'][0]['value'] == 90
  assert [row['system'] for row in beside['rows']] == ['x', 'y']
  said = in_arena({'x': 9, 'y': 0}, rivals=True)
  assert said['conditions']['opponents'] == 'base, x, y' and len(said['rows']) == 3


def test_conditions_are_of_all_that_is_asked_and_of_what_is_known_of_a_file():
  usual, file = in_arena({'x': 9})['conditions'], in_arena({'x': 9}, systems=('a=b.jsonl',))
  for changes in ({'length': 20}, {'baseline': 'other'}):
    assert in_arena({'x': 9}, **changes)['conditions']['queries'] != usual['queries']
  assert usual['sampling of the systems'] == 'temperature 1'
  assert file['conditions']['sampling of the systems'] == 'of the file'


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
    (
      lambda at: (at / 'results.json').write_text(
        '{"leaderboard": {"conditions": {}, "unit": "", "lower_is_better": true, "rows": []}}'
      ),
      'has no judge.*delete DONE',
    ),
    (
      lambda at: (at / 'judgements.jsonl').write_text('{}\n{"verdict": ["A"]}\n'),
      "judgements.jsonl:2: 'verdict' should be str",
    ),
    (
      lambda at: (at / 'judgements.jsonl').write_text('{"scores": {"Tone": "good"}}\n'),
      "judgements.jsonl:1: 'Tone' should be Real",
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
