"""Benchmarks that look inside long texts, from file to report, by a scripted judge or none."""

import json

import pytest

from experiments import eval_consistency, eval_longbench, eval_longgen, eval_ruler
from lwz.evals import consistency, lengths, longbench, longgen
from lwz.stages import evaluate
from tests.rollout import scripted


def config(experiment, server, folder, rows, **changes):
  """Systems 'good' and 'poor' and the judge behind one server, asked for `rows`."""
  (folder / 'bench.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  c = experiment.get_config('micro')
  c.runs_dir, c.eval.file = str(folder / 'runs'), str(folder / 'bench.jsonl')
  if server:
    c.eval.systems = tuple(f'{name}@{server.url}' for name in ('good', 'poor'))
    c.judge.model = f'judge@{server.url}'
  c.judge.tries = 1
  c.update_from_flattened_dict(changes)
  return c


def run(c):
  evaluate.check(c)
  evaluate.run(c)
  with open(f'{c.runs_dir}/{c.experiment}-micro/results.json') as file:
    return json.load(file)


def lines_of(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


class Judge:
  """A judge of quality and of contradictions: 'good' is praised, green eyes are not brown."""

  def __init__(self, broken=()):
    self.broken = broken  # numbers of the questions that it leaves unanswered

  def __call__(self, number, payload):
    text = payload['messages'][0]['content']
    if payload['model'] != 'judge':
      return (
        f'The {payload["model"]} answer to {text}. Mara had green eyes. Later Mara had brown eyes.'
      )
    if number in self.broken:
      return 'I would rather not say.'
    if '"facts"' in text:
      told = [
        {'subject': 'Mara', 'attribute': 'eyes', 'value': colour, 'quotation': f'Mara had {colour}'}
        for colour in ('green', 'brown', 'blue')
      ]
      return json.dumps({'facts': told})
    if '"conflicts"' in text:
      one = {'first': 1, 'second': 2, 'class': 'factual detail', 'why': 'two colours'}
      return json.dumps({'conflicts': [one] if 'brown' in text else []})
    mark = 5 if 'The good answer' in text else 2
    return json.dumps({'Analysis': 'so'} | dict.fromkeys(longbench.DIMENSIONS, mark))


def test_longbench_write_from_file_to_report(tmp_path):
  rows = [{'prompt': f'Ode {i}', 'type': 'Poem', 'length': 10 + 990 * i} for i in range(2)]
  with scripted.serve(Judge()) as server:
    results = run(config(eval_longbench, server, tmp_path, rows))
  assert results['scores']['good']['all']['S_q'] == 100
  assert results['scores']['poor']['all']['S_q'] == 25
  # 14 words of 10, and of 1,000, of which a third or less are worth nothing.
  asked = [lengths.score(10, 14), 0.0]
  for name in ('good', 'poor'):
    scores = results['scores'][name]
    assert scores['all']['S_l'] == pytest.approx(sum(asked) / 2)
    assert scores['all']['S'] == pytest.approx((scores['all']['S_l'] + scores['all']['S_q']) / 2)
    assert scores['words: under 500']['S_l'] == pytest.approx(asked[0])
    assert results['by_length'][name][0]['early'] == 0.5
  folder = tmp_path / 'runs/eval_longbench-micro'
  table = (folder / 'table.md').read_text()
  assert table.index('asked and produced length') < table.index('LongBench-Write')
  assert {r['scores']['Clarity'] for r in lines_of(folder / 'judgements.jsonl')} == {5, 2}
  assert 'over position' in (folder / 'report.html').read_text()


def test_contradictions_have_both_quotations_and_places(tmp_path):
  rows = [{'prompt': f'Ode {i}', 'length': 10} for i in range(2)]
  with scripted.serve(Judge()) as server:
    results = run(config(eval_consistency, server, tmp_path, rows))
  # Each text has one in 15 words; of three quotations the one of blue eyes does not stand there.
  good = results['scores']['good']
  assert good['density'] == pytest.approx(10_000 / 15) and good['conflicts'] == 2
  assert good['by class']['factual detail'] == good['density']
  assert results['facts']['quotations that do not stand in the text'] == 4
  found = lines_of(tmp_path / 'runs/eval_consistency-micro/conflicts.jsonl')
  assert len(found) == 4 and {r['class'] for r in found} == {'factual detail'}
  assert (found[0]['first']['quotation'], found[0]['second']['quotation']) == (
    'Mara had green',
    'Mara had brown',
  )
  assert (found[0]['first']['before'], found[0]['second']['before']) == (6, 11)


def test_of_a_text_beyond_the_windows_the_words_that_were_read_count(tmp_path, monkeypatch):
  monkeypatch.setattr(consistency, 'SIZE', 16)
  monkeypatch.setattr(consistency, 'MOST', 2)  # of three: 17 words, and 15 with both colours
  row = {'prompt': 'Ode' + '. It rained for many more days' * 6, 'length': 10}
  with scripted.serve(Judge()) as server:
    results = run(config(eval_consistency, server, tmp_path, [row]))
  good = results['scores']['good']
  assert (good['conflicts'], good['words'], good['density']) == (1, 32, 10_000 / 32)


def test_a_text_without_a_verdict_is_masked(tmp_path):
  rows = [{'prompt': f'Ode {i}', 'length': 10} for i in range(2)]
  with scripted.serve(Judge(broken={4})) as server:  # the first question of the judge
    c = config(eval_consistency, server, tmp_path, rows, **{'judge.max_failures': 1.0})
    c.judge.concurrency = c.judge.rounds = 1
    results = run(c)
  assert results['facts']['texts without a verdict'] == 1
  assert sum(row['texts'] for row in results['scores'].values()) == 3
  assert results['scores']['poor']['density'] == pytest.approx(10_000 / 15)


def answers_file(path, records):
  path.write_text(''.join(json.dumps(r, ensure_ascii=False) + '\n' for r in records))
  return f'given={path}'


def test_rules_say_no_more_than_is_read_of_a_text_of_nothing_but_facts(tmp_path):
  told = (f'张{name}今年{age}岁，张{name}是一位木匠' for name in '伟娜芳洋' for age in '三五七九')
  text = '，'.join(told) + '。'  # one sentence, quoted with each of its facts
  systems = (answers_file(tmp_path / 'given.jsonl', [{'index': 0, 'response': 2 * text}]),)
  c = config(eval_consistency, None, tmp_path, [{'prompt': 'Ode'}], **{'eval.systems': systems})
  c.judge.model = 'offline-rules'
  results = run(c)
  assert results['facts']['texts without a verdict'] == 0
  assert results['facts']['facts'] == consistency.FACTS


def test_a_file_of_answers_is_measured_without_a_judge(tmp_path, capsys):
  asked = [{'prompt': f'Write {n} words', 'type': 'x', 'length': n} for n in (100, 100, 400)]
  (tmp_path / 'ruler.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in asked))
  texts = ['word ' * 100, 'word ' * 20, ('One sentence of it. ' * 5 + 'Or so. ') * 60]
  given = [
    {'index': i, 'response': text, 'finish_reason': 'length' if i == 2 else 'stop'}
    for i, text in enumerate(texts)
  ]
  c = eval_ruler.get_config('micro')
  c.runs_dir, c.eval.file = str(tmp_path / 'runs'), str(tmp_path / 'ruler.jsonl')
  c.eval.systems = (answers_file(tmp_path / 'answers.jsonl', given),)
  results = run(c)
  rows = {row['group']: row for row in results['by_length']['given']}
  assert rows['100']['S_l'] == 50 and rows['100']['early'] == 0.5 and rows['100']['cap'] == 0
  assert rows['400']['cap'] == rows['400']['runaway'] == 1 and rows['400']['S_l'] == lengths.score(
    400, 1320
  )
  assert results['facts']['judge'] == 'none'
  repeated = results['by_position']['repetition']['given']
  assert repeated['curve'][-1]['mean'] > 0.9 and repeated['fall']['value'] > 0.05
  said = capsys.readouterr().out
  assert 'cap hit %' in said and 'repetition' in said and 'offline-rules' not in said


def test_tasks_by_rules_from_file_to_report(tmp_path):
  tasks = [longgen.make(length, 'diary', 'en', 0, i) for i, length in enumerate((1_500, 3_000))]
  (tmp_path / 'tasks.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in [*tasks, {'a': 1}]))
  half = [
    '\n'.join(f'Week {u}: {"plain " * 150}' for u in range(1, task['units'] // 2 + 1))
    for task in tasks
  ]
  given = [{'index': i, 'response': text} for i, text in enumerate(half)]
  c = eval_longgen.get_config('micro')
  c.runs_dir, c.eval.file = str(tmp_path / 'runs'), str(tmp_path / 'tasks.jsonl')
  c.eval.systems = (answers_file(tmp_path / 'answers.jsonl', given),)
  results = run(c)
  scores = results['scores']['given']
  assert scores['all']['completion'] == 0.5 and scores['all']['accuracy'] == 0
  assert [p['mean'] for p in scores['position']['completion']] == [1, 1, 0, 0]
  assert len(results['rejects']) == 1
  checks = lines_of(tmp_path / 'runs/eval_longgen-micro/checks.jsonl')
  assert [sum(r['there']) for r in checks] == [5, 10]


def test_a_ruler_without_lengths_is_refused(tmp_path):
  (tmp_path / 'ruler.jsonl').write_text('{"prompt": "Write"}\n')
  c = eval_ruler.get_config('micro')
  c.runs_dir, c.eval.file = str(tmp_path), str(tmp_path / 'ruler.jsonl')
  with pytest.raises(ValueError, match="no 'length'"):
    evaluate.check(c)
