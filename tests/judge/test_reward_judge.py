"""The judge that trains asks each question once, over one connection, and keeps every reply."""

import concurrent.futures
import dataclasses
import json
import threading
import time

import pytest
from etils import epath

from experiments import base
from lwz import types
from lwz.judge import reward_judge, systems
from lwz.reward import questions
from lwz.runtime import setup
from tests import jobs
from tests.rollout import scripted as server_lib

CRITERIA = (types.Criterion('a', 'Names "silt".'), types.Criterion('b', 'Rhymes.'))
PROMPT = types.Prompt('p', 'Write.', 1, 9, criteria=CRITERIA)
COMPARED = questions.Comparison(PROMPT, 'one text', 'another')
ASKED = [
  COMPARED,
  questions.Comparison(PROMPT, 'another', 'one text'),
  questions.Ranking(PROMPT, ('x', 'y', 'z')),
  questions.Check(PROMPT, 'a text'),
  COMPARED,
]
VERDICTS = ['A', 'B', (1, 0, 2), ('yes', 'no'), 'A']


def config(tmp_path, judge, **changes):
  c = base.get_config('micro')
  c.runs_dir, c.reward.judge = str(tmp_path / 'runs'), judge
  c.judge.price_in, c.judge.tries = 1e6, 1
  c.update_from_flattened_dict({key.replace('__', '.'): v for key, v in changes.items()})
  return c


def of(server, tmp_path, **changes):
  return config(tmp_path, f'judge@{server.url}', **changes)


def say(number, payload):
  """The best text is 'one text', the best of x, y, z is y."""
  text = payload['messages'][0]['content']
  if '[Criteria]' in text:
    return 'So.\n{"c1": "yes", "c2": "no"}'
  if '[Answer 3]' in text:
    return '[[2 > 1 > 3]]'
  return '[[A]]' if '[Answer A]\none text' in text else '[[B]]'


def opened(c, folder):
  return reward_judge.RewardJudge(c, folder)


def test_verdicts_come_in_the_order_of_the_questions_and_nothing_is_asked_twice(tmp_path):
  with server_lib.serve(say) as server:
    judge = opened(of(server, tmp_path), tmp_path)
    assert judge(ASKED) == judge(ASKED) == VERDICTS
    assert len(server.seen) == 4
    assert judge.metrics() == {'judge/asked': 4, 'judge/cached': 0, 'judge/cost': 40}
    assert judge.metrics()['judge/asked'] == 0
    judge.close()
    again = opened(of(server, tmp_path, runs_dir='elsewhere'), tmp_path)  # of another start
    assert again(ASKED) == VERDICTS and len(server.seen) == 4
    again.close()
  payload = server.seen[0][1]
  assert (payload['temperature'], payload['max_tokens'], payload['model']) == (0.0, 2_048, 'judge')


@pytest.mark.parametrize(
  'changes', [{'reward__judge_temperature': 0.5}, {'reward__judge_tokens': 9}, {'judge': 'other'}]
)
def test_another_judge_is_asked_anew(tmp_path, changes):
  with server_lib.serve(say) as server:
    judge = opened(of(server, tmp_path), tmp_path)
    judge(ASKED)
    judge.close()
    name = changes.pop('judge', 'judge')
    other = opened(config(tmp_path, f'{name}@{server.url}', **changes), tmp_path)
    assert other(ASKED) == VERDICTS and len(server.seen) == 8
    other.close()


def test_what_another_process_has_asked_is_known(tmp_path, monkeypatch):
  with server_lib.serve(say) as server:
    first = opened(of(server, tmp_path), tmp_path)
    first(ASKED)
    first.close()
    monkeypatch.setattr('jax.process_index', lambda: 1)
    second = opened(of(server, tmp_path), tmp_path)
    assert second(ASKED) == VERDICTS and len(server.seen) == 4
    second.close()
  assert sorted(path.name for path in (tmp_path / 'judge').iterdir()) == [
    'verdicts-0.jsonl',
    'verdicts-1.jsonl',
  ]


def test_an_unreadable_reply_is_shown_and_asked_for_again_and_then_counts_as_failed(tmp_path):
  def behave(number, payload):
    turns = len(payload['messages']) // 2
    return say(number, payload) if '[Criteria]' in str(payload) and turns == 2 else 'hm'

  with server_lib.serve(behave) as server:
    for start in range(2):  # a resumed run has the same verdicts, and asks nothing
      judge = opened(of(server, tmp_path), tmp_path)
      assert judge(ASKED) == [None, None, None, ('yes', 'no'), None]
      counts = judge.metrics()
      assert counts.get('judge/failed/unreadable', 0) == (0 if start else 3)
      judge.close()
      assert len(server.seen) == 4 * reward_judge.ROUNDS
  chats = [payload['messages'] for _, payload, _ in server.seen]
  assert max(map(len, chats)) == 5
  assert all(chat[1]['content'] == 'hm' for chat in chats if len(chat) > 1)


def test_a_killed_run_goes_on_in_the_middle_of_a_question(tmp_path):
  with server_lib.serve(lambda n, p: 'hm' if n == 0 else '[[A]]') as server:
    judge = opened(of(server, tmp_path), tmp_path)
    assert judge([COMPARED]) == ['A']
    judge.close()
    kept = tmp_path / 'judge' / 'verdicts-0.jsonl'
    lines = kept.read_text().splitlines(keepends=True)
    assert [json.loads(line)['text'] for line in lines] == ['hm', '[[A]]']
    kept.write_text(lines[0] + lines[1][:20])  # killed while it wrote
    judge = opened(of(server, tmp_path, judge__cache=str(tmp_path / 'new')), tmp_path)
    assert judge([COMPARED]) == ['A'] and len(server.seen) == 3
    assert len(server.seen[-1][1]['messages']) == 3
    judge.close()


@pytest.mark.parametrize(
  'fault, cause',
  [
    (server_lib.status(500), 'http'),
    (server_lib.hang_up, 'connection'),
    (server_lib.status(400, b'maximum context length exceeded'), 'request'),
    ({'choices': []}, 'garbage'),
  ],
)
def test_a_fault_is_masked_counted_by_cause_and_asked_again_by_another_start(
  tmp_path, fault, cause
):
  with server_lib.serve(lambda n, p: fault if n < 4 else say(n, p)) as server:
    judge = opened(of(server, tmp_path), tmp_path)
    assert judge(ASKED) == [None] * 5
    assert judge.metrics()[f'judge/failed/{cause}'] == 4
    judge.close()
    judge = opened(of(server, tmp_path), tmp_path)
    assert judge(ASKED) == VERDICTS
    judge.close()


def test_a_judge_that_knows_us_not_stops_the_run(tmp_path):
  with server_lib.serve(lambda n, p: server_lib.status(401, b'no key')) as server:
    judge = opened(of(server, tmp_path), tmp_path)
    with pytest.raises(PermissionError, match=r'reward.judge=judge@.*http 401: no key'):
      judge(ASKED)
    judge.close()


def test_threads_share_the_limits_of_one_endpoint(tmp_path):
  waits = threading.Event()

  def behave(number, payload):
    waits.wait(0.05)
    return '[[A]]'

  asked = [questions.Comparison(PROMPT, f'{i}', f'-{i}') for i in range(24)]
  with server_lib.serve(behave) as server:
    judge = opened(of(server, tmp_path, judge__concurrency=3), tmp_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      parts = [asked[i : i + 3] for i in range(0, 24, 3)]
      assert [*pool.map(judge, parts)] == [['A'] * 3] * 8
    judge.close()
  assert server.most_in_flight == 3


def test_what_several_threads_ask_at_a_time_is_paid_for_once(tmp_path, monkeypatch):
  """Without a cache of replies, as in a run of several processes."""
  monkeypatch.setattr(systems, 'cache', lambda c: None)
  go_on, waiting = threading.Event(), threading.Barrier(5, timeout=20)

  def behave(number, payload):
    go_on.wait(20)
    return say(number, payload)

  def ask(judge):
    waiting.wait()
    return judge(ASKED)

  with server_lib.serve(behave) as server:
    judge = opened(of(server, tmp_path), tmp_path)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      found = [pool.submit(ask, judge) for _ in range(4)]
      waiting.wait()
      time.sleep(0.3)  # for what would be asked again
      go_on.set()
      assert [future.result(20) for future in found] == [VERDICTS] * 4
    assert len(server.seen) == 4 and judge.metrics()['judge/asked'] == 4
    judge.close()
  lines = (tmp_path / 'judge' / 'verdicts-0.jsonl').read_text().splitlines()
  assert len(lines) == len({json.loads(line)['key'] for line in lines}) == 4


def test_what_has_arrived_is_kept_while_others_are_in_flight(tmp_path):
  """A kill loses what is in flight, and nothing that was paid for before."""
  go_on = threading.Event()

  def behave(number, payload):
    said = say(number, payload)
    if said == '[[A]]':  # the first question
      go_on.wait(20)
    return said

  kept = tmp_path / 'judge' / 'verdicts-0.jsonl'
  with server_lib.serve(behave) as server:
    judge = opened(of(server, tmp_path), tmp_path)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      future = pool.submit(judge, ASKED)
      jobs.wait_for(lambda: kept.exists() and kept.read_text().count('\n') == 3)
      go_on.set()
      assert future.result(20) == VERDICTS
    judge.close()


def test_what_is_in_flight_holds_no_run_that_ends(tmp_path):
  begun, go_on = threading.Event(), threading.Event()

  def behave(number, payload):
    begun.set()
    go_on.wait(20)
    return '[[A]]'

  with server_lib.serve(behave) as server:
    judge = opened(of(server, tmp_path), tmp_path)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      future = pool.submit(judge, ASKED)
      assert begun.wait(20)
      start = time.monotonic()
      judge.close()
      assert future.exception(20) is not None and time.monotonic() - start < 5
    go_on.set()


def test_a_scripted_judge_is_kept_like_any_other(tmp_path):
  judge = opened(config(tmp_path, 'scripted-gullible'), tmp_path)
  asked = [questions.Check(PROMPT, 'Silt.'), questions.Check(PROMPT, 'This text is perfect.')]
  assert judge(asked) == [('yes', 'no'), ('yes', 'yes')]
  assert judge.metrics()['judge/cost'] == 0
  judge.close()
  lines = (tmp_path / 'judge' / 'verdicts-0.jsonl').read_text().splitlines()
  assert all(json.loads(line)['text'].startswith('scripted-gullible: ') for line in lines)


def test_rules_read_the_asked_length_which_no_chat_says(tmp_path):
  short, long = 'One two three.', 'One two three four five six seven eight nine.'
  asked = [
    questions.Comparison(dataclasses.replace(PROMPT, lower=n, upper=n), short, long) for n in (3, 9)
  ]
  judge = opened(config(tmp_path, 'scripted-perfect'), tmp_path)
  assert judge(asked) == ['A', 'B']
  judge.close()


OWN = """
import time
from lwz.judge import scripted

def reply(question):
  if 'error' in str(question):
    raise OSError('no answer')
  if 'garbage' in str(question):
    return 'hm'
  if 'none' in str(question):
    return None
  if 'slow' in str(question):
    time.sleep(0.2)
  if 'hangs' in str(question):
    time.sleep(60)
  return scripted.by_quality(question, lambda prompt, answer: answer.count('*') / 2)
"""


def test_a_judge_may_be_a_file_with_a_function(tmp_path):
  """One that likes lists, fails, rambles, says nothing, or is slow."""
  file = tmp_path / 'lists.py'
  file.write_text(OWN)
  c = config(tmp_path, str(file))
  reward_judge.check(c)
  judge = opened(c, tmp_path)
  begun = time.monotonic()
  said = judge(
    [
      questions.Comparison(PROMPT, '* a', 'b'),
      questions.Ranking(PROMPT, ('a', '* a * b', '* c')),
      *(questions.Check(PROMPT, text) for text in ('', '*', '* *')),
      *(questions.Check(PROMPT, text) for text in ('error', 'garbage', 'none')),
      *(questions.Check(PROMPT, f'slow {i}') for i in range(16)),
    ]
  )
  assert time.monotonic() - begun < 16 * 0.2  # not one after another
  assert said[:5] == ['A', (2, 0, 1), ('no', 'no'), ('partly', 'partly'), ('yes', 'yes')]
  assert said[5:] == [None] * 3 + [('no', 'no')] * 16
  counts = judge.metrics()
  assert (counts['judge/failed/error'], counts['judge/failed/unreadable']) == (2, 1)
  assert judge([COMPARED]) == ['C'] and judge.metrics()['judge/asked'] == 1
  judge.close()
  (tmp_path / 'elsewhere').mkdir()  # the same judge, of whom nothing is asked twice
  moved = file.rename(tmp_path / 'elsewhere' / 'lists.py')
  judge = opened(config(tmp_path, str(moved)), tmp_path)
  assert judge([COMPARED]) == ['C'] and judge.metrics()['judge/asked'] == 0
  judge.close()
  file.write_text(OWN.replace("'*'", "'x'"))  # another judge, which is asked anew
  judge = opened(c, tmp_path)
  assert judge([COMPARED]) == ['A']
  judge.close()


def test_a_judge_of_ones_own_that_hangs_holds_neither_the_run_nor_other_questions(tmp_path):
  file = tmp_path / 'lists.py'
  file.write_text(OWN)
  c = config(tmp_path, str(file), judge__concurrency=2, judge__deadline=1)
  judge, begun = opened(c, tmp_path), time.monotonic()
  asked = [questions.Check(PROMPT, text) for text in ('hangs 1', 'hangs 2', 'hangs 3', '*')]
  assert judge(asked) == [None] * 3 + [('partly', 'partly')]
  assert time.monotonic() - begun < 20
  assert judge.metrics()['judge/failed/deadline'] == 3
  judge.close()


def test_the_file_of_a_judge_is_part_of_what_a_run_is(tmp_path):
  file = tmp_path / 'lists.py'
  file.write_text(OWN)
  model = tmp_path / 'model'  # its weights are not read, so that its name counts
  model.mkdir()
  (model / 'config.json').write_text('{}')
  named = ('scripted-perfect', 'm@http://localhost:1/v1', 'pretrain:micro', str(model))
  for name in (str(file), *named):
    c = config(tmp_path, name)
    c.stage = 'grpo'
    found = setup.identity(c, reward_judge.READS).files()['reward.judge']
    assert found == ({'lists.py': epath.Path(file)} if name == str(file) else {})


@pytest.mark.parametrize(
  'text, message',
  [
    (None, 'no such file; name one with'),
    ('x = 1', 'has no function reply'),
    ('1 / 0', 'lists.py: ZeroDivisionError: division by zero'),
    ('import sys; sys.exit(3)', 'lists.py: SystemExit: 3'),
  ],
)
def test_a_file_that_is_no_judge_is_refused(tmp_path, text, message):
  file = tmp_path / 'lists.py'
  if text:
    file.write_text(text)
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    reward_judge.check(config(tmp_path, str(file)))


@pytest.mark.parametrize(
  'judge, message',
  [
    ('', "reward.judge='' names no judge: choose"),
    ('answers.jsonl', "reward.judge='answers.jsonl' names no judge"),
    ('scripted-mild', "no scripted judge 'scripted-mild'; choose from scripted-perfect"),
    ('./no_such_model', 'no_such_model'),
    ('http://localhost:1/v1', 'name the model that it serves, too, as MODEL@http://localhost:1/v1'),
  ],
)
def test_a_judge_that_cannot_be_asked_is_refused(tmp_path, judge, message):
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    reward_judge.check(config(tmp_path, judge))


def test_a_budget_without_prices_is_refused(tmp_path):
  (tmp_path / 'lists.py').write_text(OWN)
  budget = {'reward__judge_budget': 2.0}
  reward_judge.check(config(tmp_path, 'judge@http://localhost:1/v1', **budget))
  for judge, price in (('judge@http://localhost:1/v1', 0.0), (f'{tmp_path}/lists.py', 1.0)):
    with pytest.raises(ValueError, match=r'judge_budget=2.0: nothing that .* says has a cost'):
      reward_judge.check(config(tmp_path, judge, judge__price_in=price, **budget))


def test_an_endpoint_needs_the_key_that_it_names(tmp_path, monkeypatch):
  c = config(tmp_path, 'judge@http://localhost:1/v1', reward__judge_key_env='NO_SUCH_KEY')
  with pytest.raises(ValueError, match='NO_SUCH_KEY holds no API key'):
    reward_judge.check(c)
  monkeypatch.setenv('NO_SUCH_KEY', 'k')
  reward_judge.check(c)
