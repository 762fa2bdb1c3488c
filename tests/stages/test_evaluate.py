"""The two benchmarks from file to report, with systems and judge behind a scripted server."""

import importlib.util
import json
import re

import pytest
from etils import epath

from experiments import eval_arena, eval_longbench, eval_ruler, eval_writingbench, report
from experiments import people as people_experiment
from lwz.evals import offline
from lwz.judge import judge as judge_lib
from lwz.judge.benchmarks import writingbench
from lwz.stages import evaluate, people
from lwz.stages import report as report_stage
from tests.rollout import scripted

LONG = 'A baseline that says a good deal more than its name does, and says it well.'
ARENA = [
  {
    'idx': 1,
    'question': 'Ode',
    'type': 'Poem',
    'length': 20,
    'baseline_response': {'gpt-4o': LONG},
  },
  {
    'idx': 2,
    'question': '论文',
    'type': 'Essay',
    'length': '2,000',
    'baseline_response': [LONG, LONG],
  },
  {'question': 'No fields'},
  {'idx': 1, 'question': 'twice'},
  {'idx': 4, 'question': None},
]
CRITERIA = [{'name': name, 'criteria_description': 'd', '1-2': 'no'} for name in ('Tone', 'Depth')]
BENCH = [
  {'index': 1, 'domain1': 'Education', 'domain2': 'Essay', 'query': 'Ode', 'criteria': CRITERIA},
  {'index': 2, 'query': '论文', 'criteria': [CRITERIA, [[]]]},
  {'index': 3, 'query': 'none', 'criteria': []},
]


class Models:
  """Writers 'good' and 'poor', and a judge that prefers whatever 'good' wrote."""

  def __init__(self):
    self.judge_replies = {}  # number of the question to the judge -> another reply
    self.asked = {'good': 0, 'poor': 0, 'judge': 0}

  def __call__(self, number, payload):
    model = payload['model']
    text = '\n'.join(message['content'] for message in payload['messages'])
    number = self.asked[model]
    self.asked[model] += 1
    if model != 'judge':
      return f'<think>hm</think>The {model} answer to {text}'
    if number in self.judge_replies:
      return self.judge_replies[number]
    if '[Answer A]' not in text:
      return json.dumps({'score': 9 if 'The good answer' in text else 4, 'reason': 'so'})
    first, second = text.partition('[Answer B]')[::2]
    if 'The good answer' in first:
      return 'First. [[A]]'
    return 'Second. [[B]]' if 'The good answer' in second else 'Neither. [[C]]'


@pytest.fixture
def models():
  return Models()


@pytest.fixture
def server(models):
  with scripted.serve(models) as server:
    yield server


def config(experiment, server, folder, rows, **changes):
  lines = [json.dumps(row) for row in rows] + ['{"idx": 9, "question": "cut']
  (folder / 'bench.jsonl').write_text('\n'.join(lines))
  c = experiment.get_config('micro')
  c.runs_dir = str(folder / 'runs')
  c.eval.file = str(folder / 'bench.jsonl')
  c.eval.systems = tuple(f'{name}@{server.url}' for name in ('good', 'poor'))
  c.judge.model = f'judge@{server.url}'
  c.judge.tries = 1
  c.judge.max_failures = 0.0
  c.update_from_flattened_dict(changes)
  return c


def run(c):
  evaluate.check(c)
  evaluate.run(c)
  folder = f'{c.runs_dir}/{c.experiment}-micro'
  with open(f'{folder}/results.json') as file:
    return json.load(file)


def test_an_arena_from_file_to_report(server, models, tmp_path):
  results = run(config(eval_arena, server, tmp_path, ARENA))
  assert results['facts']['prompts'] == 3
  assert [re.sub('.*:', '', r['where']) for r in results['rejects']] == ['6', '4', '5']
  assert all(r['reason'] for r in results['rejects'])
  # Prompt 1 has one baseline, 2 has two, 3 none; the two systems meet on each: 2 + 4 + 3 pairs.
  assert results['bias']['pairs'] == 9 and models.asked == {'good': 3, 'poor': 3, 'judge': 14}
  assert results['standings'][0]['player'] == 'good'
  rate = {(r['system'], r['by'], r['group']): r['rate'] for r in results['win_rates']}
  assert rate['good', 'all', 'all'] == 1 and rate['poor', 'opponent', 'gpt-4o'] == 0.5
  assert rate['good', 'length', '2000 to 4000'] == 1
  assert results['lengths']['good']['words'] == pytest.approx((5 + 6 + 6) / 3)
  folder = tmp_path / 'runs' / 'eval_arena-micro'
  assert '| good |' in (folder / 'table.md').read_text()
  assert 'hm</think>' not in (folder / 'people.html').read_text()
  assert (folder / 'DONE').exists() and (folder / 'report.html').exists()


def test_a_system_that_the_judge_has_trained_is_marked_in_every_table(
  server, tmp_path, monkeypatch
):
  monkeypatch.setattr(evaluate.judged, 'trained', lambda c, systems: [systems[0].name])
  c = config(eval_arena, server, tmp_path, ARENA)
  run(c)
  said = f'The judge {c.judge.model} trained good, and evaluates it'
  for name in ('table.md', 'report.html'):
    assert said in (tmp_path / 'runs' / 'eval_arena-micro' / name).read_text()
  c = report.get_config('micro')
  c.runs_dir, c.report.runs = str(tmp_path / 'runs'), ('eval_arena-micro',)
  report_stage.check(c)
  report_stage.run(c)
  board = (tmp_path / 'runs' / 'report-micro' / 'table.md').read_text()
  assert board.count('| good, trained by this judge |') == 1 and '| poor |' in board


def test_writingbench_from_file_to_report(server, models, tmp_path):
  models.judge_replies = {0: 'It is fine.', 1: '```json\n{"score": 9, "reason": "cut'}
  results = run(config(eval_writingbench, server, tmp_path, BENCH, **{'judge.concurrency': 1}))
  assert results['facts']['version'] == 'v1' and results['facts']['prompts'] == 2
  assert results['scores']['good']['overall'] == 9 and results['scores']['poor']['overall'] == 4
  assert results['scores']['good']['D/Education'] == 9 and results['scores']['poor']['zh'] == 4
  # Two systems, two queries, two criteria; the reply that said nothing was asked for again.
  assert models.asked['judge'] == 8 + 1 and results['facts']['failed marks'] == 0
  lines = (tmp_path / 'runs/eval_writingbench-micro/scores-good.jsonl').read_text().splitlines()
  record = json.loads(lines[0])
  assert record['index'] == 1 and set(record['scores']) == {'Tone', 'Depth'}
  assert record['scores']['Tone'][0]['score'] == 9


@pytest.mark.parametrize(
  'experiment, rows', [(eval_arena, ARENA), (eval_writingbench, BENCH), (eval_longbench, ARENA[:2])]
)
def test_a_second_judge_of_the_kept_answers_agrees_so_far(experiment, rows, server, tmp_path):
  c = config(experiment, server, tmp_path, rows)
  c.judge.model = offline.NAME if experiment is eval_longbench else c.judge.model
  first = run(c)
  name = f'{c.experiment}-micro'
  kept = [f'{s}={c.runs_dir}/{name}/answers-{s}.jsonl' for s in ('good', 'poor')]
  for second in ('same', 'second'):
    c.eval.systems, c.name = tuple(kept), second
    c.judge.model = c.judge.model if second == 'same' else 'offline-rules'
    evaluate.check(c)
    evaluate.run(c)
  again = json.loads((tmp_path / 'runs' / 'same' / 'results.json').read_text())
  assert again['diversity'] == first['diversity']
  for board in (first['leaderboard'], again['leaderboard']):
    sampled = board['conditions'].pop('sampling of the systems')
    assert sampled.startswith('temperature' if board is first['leaderboard'] else 'of the file')
  assert again['leaderboard'] == first['leaderboard']
  compared = report.get_config('micro')
  compared.runs_dir, compared.report.runs = c.runs_dir, ('same', 'second', name)
  report_stage.check(compared)
  report_stage.run(compared)
  text = (tmp_path / 'runs' / 'report-micro' / 'table.md').read_text()
  board = text.split('**', 4)[2]
  assert board.count('| same |') == len(first['leaderboard']['rows'])
  assert f'| {name} | sampling of the systems: temperature' in text
  if experiment is not eval_longbench:
    assert '| second | judge: offline-rules, not judge |' in text
    assert text.count('| judge | offline-rules | ') == 2


def test_a_bound_is_no_length_that_an_answer_must_meet(tmp_path):
  lengths = ('at least 3,000 words', 'at most 900 words', '500 to 900 words', '700 words')
  rows = [
    {'index': i, 'query': f'Write {said}.', 'criteria': CRITERIA} for i, said in enumerate(lengths)
  ]
  (tmp_path / 'bench.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  loaded = writingbench.load(
    eval_writingbench.get_config('micro'), epath.Path(tmp_path / 'bench.jsonl')
  )
  assert loaded.asked == {0: 0, 1: 0, 2: 0, 3: 700}


def test_a_killed_run_asks_nothing_twice(server, models, tmp_path):
  c = config(eval_arena, server, tmp_path, ARENA, **{'judge.concurrency': 1})
  c.judge.cache = str(tmp_path / 'first.sqlite')
  models.judge_replies = {7: scripted.status(500)}
  with pytest.raises(RuntimeError, match=r'1 of 14 have failed.*http 500.*run again'):
    run(c)
  before = dict(models.asked)
  assert before['judge'] >= 8
  c.judge.cache = str(tmp_path / 'second.sqlite')  # the journal alone must do
  results = run(c)
  assert models.asked['good'] == before['good'] and results['bias']['pairs'] == 9
  # Every question once; again the one that failed, and one that was on its way when the run ended.
  assert 14 + 1 <= models.asked['judge'] <= 14 + 2


def test_what_the_judge_never_says_is_counted_not_scored(server, models, tmp_path):
  c = config(eval_arena, server, tmp_path, ARENA[:1], **{'judge.max_failures': 1.0})
  c.judge.concurrency, c.judge.rounds = 1, 2
  models.judge_replies = dict.fromkeys((0, 6), 'I would rather not say.')
  results = run(c)
  assert (results['bias']['pairs'], results['bias']['missing']) == (2, 1)
  assert results['faults'] == ['unreadable: I would rather not say.']
  assert 'The judge failed on some' in (tmp_path / 'runs/eval_arena-micro/table.md').read_text()


def test_nothing_but_failures_is_an_error_and_not_done(server, models, tmp_path):
  c = config(eval_arena, server, tmp_path, ARENA[:1], **{'judge.max_failures': 1.0})
  models.judge_replies = dict.fromkeys(range(100), 'I would rather not say.')
  with pytest.raises(RuntimeError, match='none of 6 questions has a verdict: 6 x unreadable'):
    run(c)
  c.eval.systems = ('gone@http://127.0.0.1:9/v1',)
  c.name = 'second'
  with pytest.raises(RuntimeError, match='all 1 requests have failed: 1 x connection'):
    run(c)
  assert not list((tmp_path / 'runs').glob('*/DONE*'))


@pytest.mark.parametrize('experiment', [eval_arena, eval_writingbench])
def test_an_empty_answer_is_the_worst_one(tmp_path, experiment):
  models = Models()

  def behave(number, payload):
    return '' if payload['model'] == 'poor' else models(number, payload)

  with scripted.serve(behave) as server:
    rows = ARENA[:2] if experiment is eval_arena else BENCH[:2]
    results = run(config(experiment, server, tmp_path, rows))
  if experiment is eval_writingbench:
    assert results['scores']['poor']['overall'] == 1.0
  else:
    rates = {r['system']: r['rate'] for r in results['win_rates'] if r['by'] == 'all'}
    assert rates['poor'] == 0 and results['bias']['missing'] == 0
  assert results['facts']['answers that failed'] == 0


def test_a_system_that_fails_is_masked(server, models, tmp_path):
  gone = 'gone@http://127.0.0.1:9/v1'
  c = config(eval_arena, server, tmp_path, ARENA, **{'judge.max_failures': 1.0})
  c.eval.systems = (*c.eval.systems, gone)
  results = run(c)
  assert results['facts']['answers that failed'] == 3 and results['bias']['pairs'] == 9
  assert all(fault.startswith('connection') for fault in results['failed_answers']['gone'].values())


def test_the_key_reaches_the_server_and_no_file(server, tmp_path, monkeypatch):
  monkeypatch.setenv('JUDGE_KEY', 'sk-very-secret')
  c = config(eval_arena, server, tmp_path, ARENA[:1])
  c.judge.key_env = c.eval.key_env = 'JUDGE_KEY'
  run(c)
  assert {headers['Authorization'] for _, _, headers in server.seen} == {'Bearer sk-very-secret'}
  files = [path for path in tmp_path.rglob('*') if path.is_file()]
  assert len(files) > 8 and not [p for p in files if b'very-secret' in p.read_bytes()]


def test_the_offline_judge_is_named_in_every_output(server, tmp_path, capsys):
  for experiment, rows in ((eval_arena, ARENA), (eval_writingbench, BENCH)):
    c = config(experiment, server, tmp_path, rows, **{'judge.model': 'offline-rules'})
    run(c)
    folder = tmp_path / 'runs' / f'{c.experiment}-micro'
    for name in ('results.json', 'table.md', 'report.html', 'verdicts.jsonl'):
      assert 'offline-rules' in (folder / name).read_text(), name
    assert 'nothing about quality' in capsys.readouterr().out


@pytest.mark.parametrize(
  'changes, complaint',
  [
    ({'eval.benchmark': 'elo'}, "no 'elo'"),
    ({'eval.systems': ()}, 'eval.systems is empty'),
    ({'eval.systems': ('a/m@http://host', 'b/m@http://host')}, 'called the same: m, m'),
    ({'eval.systems': ('a m=m@http://host', 'a-m=m@http://host')}, 'called the same: a m, a-m'),
    ({'eval.file': 'nowhere.jsonl'}, 'nowhere.jsonl'),
    ({'judge.key_env': 'NO_SUCH_KEY'}, 'NO_SUCH_KEY'),
    ({'eval.key_env': 'NO_SUCH_KEY'}, 'NO_SUCH_KEY'),
    ({'judge.model': 'pred.jsonl'}, 'cannot judge'),
    ({'judge.sends': ('temprature',)}, "no parameter 'temprature'"),
    ({'eval.sends': ('temprature',)}, "no parameter 'temprature'"),
    ({'judge.max_failures': 2.0}, 'max_failures=2.0'),
    ({'eval.style': 'poem'}, "'poem'"),
    ({'eval.slots': 0}, 'eval.slots=0'),
    ({'rollout.top_p': 2.0}, 'rollout.top_p=2.0'),
    ({'rollout.min_tokens': 9}, 'rollout.min_tokens=9'),
  ],
)
def test_wrong_values_stop_before_any_work(server, models, tmp_path, changes, complaint):
  c = config(eval_arena, server, tmp_path, ARENA, **changes)
  with pytest.raises((ValueError, FileNotFoundError), match=complaint):
    evaluate.check(c)
  assert sum(models.asked.values()) == 0


def test_people_judge_what_the_arena_wrote(server, tmp_path, capsys):
  c = config(eval_arena, server, tmp_path, ARENA)
  run(c)
  folder = tmp_path / 'runs/eval_arena-micro'
  key = json.loads((folder / 'people-key.json').read_text())
  for name in ('ann', 'ben'):
    choices = [
      {'id': int(i), 'choice': next((s for s in ('first', 'second') if item[s] == 'good'), 'tie')}
      for i, item in key['items'].items()
    ]
    record = {'page': key['page'], 'annotator': name, 'judgements': choices}
    (folder / 'annotations').mkdir(exist_ok=True)
    (folder / 'annotations' / f'{name}.json').write_text(json.dumps(record))
  (folder / 'annotations' / 'broken.json').write_text('{')
  c = people_experiment.get_config('micro')
  c.runs_dir = str(tmp_path / 'runs')
  people.check(c)
  people.run(c)
  results = json.loads((tmp_path / 'runs/people-micro/results.json').read_text())
  assert results['facts']['people'] == 2 and len(results['rejects']) == 1
  alpha = results['facts']['agreement (alpha)']
  if importlib.util.find_spec('krippendorff'):
    assert alpha == pytest.approx(1.0)
  else:
    assert "pip install 'lwz[eval]'" in alpha
  rate = {(r['system'], r['opponent']): r['rate'] for r in results['win_rates']}
  assert rate['good', 'poor'] == 1 and rate['good', 'gpt-4o'] == 1
  assert 'ties as half' in capsys.readouterr().out


def test_people_without_a_run_are_told(tmp_path):
  c = people_experiment.get_config('micro')
  c.runs_dir = str(tmp_path)
  with pytest.raises(FileNotFoundError, match='name the run whose'):
    people.check(c)


def test_prompts_beyond_the_limit_are_told(server, tmp_path):
  c = config(eval_arena, server, tmp_path, ARENA)
  c.eval.prompts = 1
  results = run(c)
  assert results['left_out'] == 2 and results['facts']['prompts'] == 1
  table = (tmp_path / 'runs/eval_arena-micro/table.md').read_text()
  assert 'eval.prompts=1: 2 more were not asked' in table


def test_a_request_that_is_at_fault_stops_nothing():
  faults = ('', 'request too long: 900 tokens, and room for 400', 'http 500: x')
  assert list(map(judge_lib.is_failure, faults)) == [False, False, True]


def test_a_system_may_be_one_of_the_baselines(server, tmp_path):
  row = ARENA[0] | {'baseline_response': {'good': LONG}}
  results = run(config(eval_arena, server, tmp_path, [row]))
  assert {r['player'] for r in results['standings']} == {'good (here)', 'good', 'poor'}


def lines_of(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_verdicts_can_be_traced(server, tmp_path):
  c = config(eval_arena, server, tmp_path, ARENA[:1])
  run(c)
  found = lines_of(tmp_path / 'runs/eval_arena-micro/judgements.jsonl')
  said = {(r['first'], r['second']): (r['verdict'], r['reply']) for r in found}
  # Three pairs in both orders, each with what the judge has said of that order.
  assert len(found) == len(said) == 6 and {r['prompt'] for r in found} == {'Ode'}
  assert said['good', 'poor'] == ('A', 'First. [[A]]')
  assert said['poor', 'good'] == ('B', 'Second. [[B]]')
  run(config(eval_writingbench, server, tmp_path, BENCH[:1]))
  found = lines_of(tmp_path / 'runs/eval_writingbench-micro/judgements.jsonl')
  assert [(r['system'], r['criterion'], r['score']) for r in found] == [
    *(('good', 'Tone', 9), ('good', 'Depth', 9)),
    *(('poor', 'Tone', 4), ('poor', 'Depth', 4)),
  ]
  assert all(json.loads(r['reply'])['score'] == r['score'] and not r['fault'] for r in found)


def test_a_file_of_answers_is_a_system_and_two_servers_may_serve_one_name(models, tmp_path):
  own = tmp_path / 'pred.jsonl'
  lines = [
    {'prompt': 'Ode', 'length': 20, 'response_length': 3, 'response': 'The good answer'},
    {'prompt': '论文', 'type': 'Essay', 'response': None},
    {'prompt': 'of another file', 'response': 'x'},
  ]
  own.write_text(''.join(json.dumps(line, ensure_ascii=False) + '\n' for line in lines))
  with scripted.serve(models) as one, scripted.serve(models) as other:
    c = config(eval_arena, one, tmp_path, ARENA[:2])
    c.eval.systems = (str(own), f'before=poor@{one.url}', f'after=poor@{other.url}')
    results = run(c)
  answers = results['answers']
  assert list(answers) == ['pred', 'before', 'after']
  assert list(answers['pred'].values()) == [1, 0, 0, 1] and answers['after']['answers'] == 2
  assert results['failed_answers']['pred'] == {'2': "'response' is null"}
  assert results['standings'][0]['player'] == 'pred'
  assert results['facts']['sampling'].startswith('temperature')


def test_plain_answers_are_measured_by_the_length_that_their_requests_state(tmp_path, capsys):
  line = 'Rivers carry heavy water to the sea, and nobody who lives there writes about comets. '
  own = tmp_path / 'answers-mine.jsonl'
  own.write_text(
    json.dumps({'prompt': 'Write 1,500 words on rivers.', 'response': line * 100}) + '\n'
  )
  c = eval_ruler.get_config('micro')
  c.runs_dir, c.eval.file, c.eval.systems = str(tmp_path / 'runs'), str(own), (str(own),)
  evaluate.check(c)
  evaluate.run(c)
  results = json.loads((tmp_path / 'runs/eval_ruler-micro/results.json').read_text())
  assert results['facts']['sampling'] == 'of the file' and list(results['answers']) == ['mine']
  assert results['by_length']['mine'][0]['S_l'] == 100
  assert 'by windows of 150 words' in capsys.readouterr().out
  own.write_text('{"prompt": "Write on rivers.", "response": "a"}\n')
  with pytest.raises(ValueError, match="no 'length', of index "):
    evaluate.check(c)
  c.judge.model = 'judge.py'
  with pytest.raises(ValueError, match='a Python file gives rewards'):
    evaluate.check(c)


@pytest.mark.parametrize(
  'lines, complaint',
  [
    (['{"index": 1, "response": "a"}', '{"index": 1, "response": "b"}'], ':2: .*:1 answers the'),
    (['{"index": 7, "response": "a"}'], '1 records, and none answers one of the 2 prompts'),
    (
      ['{"prompt": "Ode", "answer": "a"}'],
      r"own.jsonl\S*: no field 'response'; there are \['answer'",
    ),
    (['{"index": 1, "response": "a"', ''], ':1: not JSON'),
    (['{"response": "a"}'], "no field 'index'.*and no prompt"),
    (['{"index": 1, "prompt": "Sonnet", "response": "a"}'], 'its prompt is not that of index'),
  ],
)
def test_a_file_of_other_answers_is_refused_before_any_work(
  server, models, tmp_path, lines, complaint
):
  own = tmp_path / 'own.jsonl'
  own.write_text('\n'.join(lines))
  c = config(eval_arena, server, tmp_path, ARENA[:2])
  c.eval.systems = (*c.eval.systems, str(own))
  with pytest.raises(ValueError, match=complaint):
    evaluate.check(c)
  c.eval.systems = (str(tmp_path / 'nowhere.jsonl'),)
  with pytest.raises(FileNotFoundError, match='expected answers'):
    evaluate.check(c)
  assert sum(models.asked.values()) == 0


def test_answers_cut_at_the_limit_are_counted_and_shown(models, tmp_path):
  def behave(number, payload):
    said = models(number, payload)
    return scripted.completion(said, 'length') if payload['model'] == 'poor' else said

  with scripted.serve(behave) as server:
    results = run(config(eval_arena, server, tmp_path, ARENA[:2]))
  cut = {name: counts['cut at the limit'] for name, counts in results['answers'].items()}
  assert cut == {'good': 0, 'poor': 2}
  folder = tmp_path / 'runs/eval_arena-micro'
  for name in ('table.md', 'report.html'):
    assert 'poor: 2 of 2 answers were cut' in (folder / name).read_text()
  assert '| poor | 2 | 2 | 0 | 0 |' in (folder / 'table.md').read_text()


def test_what_is_too_long_for_the_judge_is_counted_apart(models, tmp_path):
  said = b'{"error": {"message": "maximum context length is 8 tokens"}}'

  def behave(number, payload):
    is_long = payload['model'] == 'judge' and models.asked['judge'] == 0
    reply = models(number, payload)
    return scripted.status(400, said) if is_long else reply

  with scripted.serve(behave) as server:
    c = config(eval_writingbench, server, tmp_path, BENCH[:1], **{'judge.concurrency': 1})
    results = run(c)
  assert results['facts']['too long for the judge'] == 1 and results['facts']['failed marks'] == 0
  assert (results['scores']['good']['marks'], results['scores']['good']['failed']) == (1, 1)
  assert (results['scores']['poor']['marks'], results['scores']['poor']['failed']) == (2, 0)


@pytest.mark.parametrize(
  'field, critic', [('criteria', (0.7, 0.8)), ('checklist', (1.0, 0.95)), ('own', (0.2, 0.95))]
)
def test_writingbench_is_sampled_as_published_for_its_version(server, tmp_path, field, critic):
  name = 'checklist' if field == 'own' else field
  rows = [
    {'index': i, 'query': f'Ode {i}', 'domain1': 'Education', name: CRITERIA} for i in range(3)
  ]
  c = config(eval_writingbench, server, tmp_path, rows)
  if field == 'own':
    c.judge.temperature = 0.2
  results = run(c)
  asked = [p for p in server.payloads if p['model'] == 'judge']
  assert {(p['temperature'], p['top_p'], p['max_tokens']) for p in asked} == {(*critic, 2048)}
  asked = [p for p in server.payloads if p['model'] != 'judge']
  assert {(p['temperature'], p['top_p'], p['top_k']) for p in asked} == {(0.7, 0.8, 20)}
  assert eval_writingbench.get_config('32b').rollout.max_tokens == 16_000
  assert results['scores']['good'].items() >= {'low': 9, 'high': 9, 'marks': 6, 'failed': 0}.items()
  header = (tmp_path / 'runs/eval_writingbench-micro/table.md').read_text()
  assert '| system | overall | 95 % | marks | failed |' in header


def test_the_interval_of_a_mark_is_over_queries():
  same = [(score, query) for query in range(50) for score in (2, 8)]
  assert writingbench._interval(same, 0) == {'low': 5, 'high': 5}  # all queries are alike
  apart = [(score, query) for query, score in enumerate([2, 8] * 25) for _ in range(2)]
  found = writingbench._interval(apart, 0)
  # Two equal marks of a query are one fact: 1.96 * 3 / sqrt(50), not / sqrt(100).
  assert found['high'] - found['low'] == pytest.approx(2 * 1.96 * 3 / 50**0.5, rel=0.1)
  assert str(writingbench._interval([(5, 1)], 0)['low']) == 'nan'


def test_each_endpoint_gets_the_parameters_that_it_knows(server, tmp_path):
  c = config(eval_arena, server, tmp_path, ARENA[:1])
  c.judge.sends, c.eval.sends = ('max_completion_tokens',), ('temperature', 'max_tokens')
  run(c)
  fixed = {'model', 'messages'}
  for payload in server.payloads:
    is_judge = payload['model'] == 'judge'
    sent = {'max_completion_tokens'} if is_judge else {'temperature', 'max_tokens'}
    assert payload.keys() - fixed == sent
