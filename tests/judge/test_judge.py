"""Questions are asked until their replies can be read, and nothing is asked twice."""

import functools
import json

import pytest

from experiments import eval_arena
from lwz.data.funnel import assessor
from lwz.judge import client, journal
from lwz.judge import judge as judge_lib


class Judge:
  """Replies to requests from a table, last request first; counts them."""

  def __init__(self, monkeypatch, replies):
    self.replies, self.rounds = replies, []
    monkeypatch.setattr(judge_lib, 'connect', lambda c: self)

  def __call__(self, requests):
    requests = list(requests)
    self.rounds.append(requests)
    for index, request in reversed(list(enumerate(requests))):
      said = self.replies(request.messages, request.sample)
      fault = said if said.startswith(('http', 'request')) else ''
      yield client.Reply(index, '' if fault else said, fault, tokens_in=1)


def config(**changes):
  c = eval_arena.get_config('micro')
  c.judge.max_failures = 1.0
  c.judge.price_in = 1e6
  c.update_from_flattened_dict({f'judge.{key}': value for key, value in changes.items()})
  return c


def question(text, key=''):
  return judge_lib.Question([{'role': 'user', 'content': text}], lambda: f'rules: {text}', key)


def read(text):
  return text.removeprefix('is ') if text.startswith('is ') else None


def in_turn(messages, sample):
  """'never' is never readable, 'late' is at its second turn, 'gone' is a fault, others at once."""
  text = messages[0]['content']
  if text in ('http 500', 'request: long'):
    return text
  return f'is {text}' if text not in ('never', 'late') or (text, sample) == ('late', 1) else 'hm'


ASKED = ['a', 'late', 'never', 'http 500', 'a', 'request: long']


def test_verdicts_come_in_the_order_of_the_questions(monkeypatch, tmp_path):
  judge = Judge(monkeypatch, in_turn)
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept:
    found = judge_lib.ask(config(), [question(t) for t in ASKED], read, kept)
  assert found.values == ['a', 'late', None, None, 'a', None]
  assert found.faults == {2: 'unreadable: hm', 3: 'http 500', 5: 'request: long'}
  # The twice asked is asked once, the faulty not again, the unreadable as other samples.
  assert [[r.messages[0]['content'] for r in turn] for turn in judge.rounds] == [
    ['a', 'late', 'never', 'http 500', 'request: long'],
    ['never', 'late'],
    ['never'],
  ]
  assert [{r.sample for r in turn} for turn in judge.rounds] == [{0}, {1}, {2}]
  assert found.usage.cost == found.usage.replies == 8 and found.usage.failed == 2


@pytest.mark.parametrize('after', range(9))
def test_a_journal_is_gone_on_with_wherever_it_ended(monkeypatch, tmp_path, after):
  """The records are those of every version: `key-turn` and the text of the reply."""
  c, path = config(), tmp_path / 'v.jsonl'
  Judge(monkeypatch, in_turn)
  with journal.ReplyJournal(path) as kept:
    whole = judge_lib.ask(c, [question(t) for t in ASKED], read, kept)
  records = [json.loads(line) for line in path.read_text().splitlines()]
  key = journal.key(c.judge.model, judge_lib.sampling(c), question('never').messages)
  said = {r['key']: r['text'] for r in records}
  assert [said[f'{key}-{turn}'] for turn in range(3)] == ['hm'] * 3
  assert all(list(record) == ['key', 'text'] for record in records) and len(records) == 6
  path.write_text(''.join(json.dumps(record) + '\n' for record in records[:after]))
  again = Judge(monkeypatch, in_turn)
  with journal.ReplyJournal(path) as kept:
    found = judge_lib.ask(c, [question(t) for t in ASKED], read, kept)
  assert (found.values, found.faults) == (whole.values, whole.faults)
  num = sum(map(len, again.rounds))
  # The faults are no replies; and what was never readable is asked again, in another run.
  rounds = sum(
    record['text'] == 'hm' and record['key'].startswith(key) for record in records[:after]
  )
  assert num == 2 + max(0, 6 - after) + (3 if rounds == 3 else 0)


def test_nothing_to_ask_needs_no_judge(monkeypatch, tmp_path):
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept:
    Judge(monkeypatch, in_turn)
    judge_lib.ask(config(), [question('a')], read, kept)
    monkeypatch.setattr(judge_lib, 'connect', lambda c: pytest.fail('was asked'))
    assert judge_lib.ask(config(), [question('a')], read, kept).values == ['a']
    assert judge_lib.ask(config(), [], read, kept).values == []


def test_the_rules_reply_in_place_of_a_model(tmp_path):
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept:
    found = judge_lib.ask(config(), [question('a'), question('b')], str, kept)
  assert found.values == ['rules: a', 'rules: b']


def test_too_many_failures_stop_at_once_and_faulty_requests_never(monkeypatch, tmp_path):
  Judge(monkeypatch, in_turn)
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept:
    questions = [question(t) for t in ('a', 'request: long', 'http 500', 'b')]
    with pytest.raises(RuntimeError, match=r'1 of 4 have failed.*judge: http 500.*to go on'):
      judge_lib.ask(config(max_failures=0.24), questions, read, kept)
    assert len(kept) == 1  # b came first
    assert judge_lib.ask(config(max_failures=0.25), questions, read, kept).values[0] == 'a'


FUNNEL = {'a': '{"keep": true}', 'b': 'hm', 'c': 'hm', 'd': 'http 500'}


def funnel(messages, sample):
  assert sample == 0  # another chat is another question
  query = assessor.query_of(messages)
  return '{"keep": no}' if len(messages) > 1 and query == 'b' else FUNNEL[query]


def test_an_unreadable_reply_is_shown_and_asked_for_again(monkeypatch, tmp_path):
  judge = Judge(monkeypatch, funnel)
  questions = [
    judge_lib.Question(assessor.messages(assessor.FILTER, text), str, f'id-{text}')
    for text in FUNNEL
  ]
  how = {'total': 4, 'again': functools.partial(assessor.again, assessor.FILTER), 'whole': False}
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept:
    found = judge_lib.stream(*(config(), iter(questions), assessor.parse_keep, kept), **how)
    verdicts = {verdict.key: verdict for verdict in found}
  assert [[len(r.messages) for r in turn] for turn in judge.rounds] == [[1, 1, 1, 1], [3, 3], [5]]
  assert [verdicts[f'id-{text}'].value for text in FUNNEL] == [True, False, None, None]
  assert (verdicts['id-c'].fault, verdicts['id-d'].fault) == ('unreadable: hm', 'http 500')
  # The records of every version: the value, and the end of the reply that it was read of.
  records = [json.loads(line) for line in (tmp_path / 'v.jsonl').read_text().splitlines()]
  assert [record for record in records if 'value' in record] == [
    {'key': 'id-a', 'value': True, 'answer': '{"keep": true}'},
    {'key': 'id-b', 'value': False, 'answer': '{"keep": no}'},
  ]
  # Another run shows the judge what could not be read, and does not ask the same once more.
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept:
    list(judge_lib.stream(*(config(), questions[2:], assessor.parse_keep, kept), **how))
  assert [[len(r.messages) for r in turn] for turn in judge.rounds[3:]] == [[7, 1], [9], [11]]


def test_a_stream_waits_for_the_judge(monkeypatch, tmp_path):
  taken = []

  def questions():
    for i in range(100):
      taken.append(i)
      yield question(str(i), str(i))

  def write(requests):
    for index, _ in enumerate(requests):
      yield client.Reply(index, 'is so')

  monkeypatch.setattr(judge_lib, 'connect', lambda c: write)
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept:
    for i, verdict in enumerate(judge_lib.stream(config(), questions(), read, kept, total=100)):
      assert verdict == judge_lib.Verdict(str(i), 'so') and len(taken) == i + 1


def test_an_unreadable_verdict_is_asked_for_in_other_words(monkeypatch, tmp_path):
  judge = Judge(monkeypatch, lambda messages, sample: 'is A' if len(messages) > 1 else '7 or 8')
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept:
    again = judge_lib.ask_in('[[A]]')
    found = judge_lib.ask(config(), [question('a')], read, kept, again=again)
  assert found.values == ['A']
  (first,), (second,) = judge.rounds
  assert [m['content'] for m in second.messages[:2]] == ['a', '7 or 8']
  assert '[[A]]' in second.messages[2]['content'] and first.messages != second.messages


def test_nothing_but_faults_is_an_error_that_counts_its_causes(monkeypatch, tmp_path):
  Judge(monkeypatch, in_turn)
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept:
    questions = [question(t) for t in ('http 500', 'never', 'request: long')]
    match = 'none of 3 questions has a verdict: 1 x '
    with pytest.raises(RuntimeError, match=match):
      judge_lib.ask(config(), questions, read, kept)


def test_a_verdict_that_is_given_is_not_asked_for(monkeypatch, tmp_path):
  monkeypatch.setattr(judge_lib, 'connect', lambda c: pytest.fail('was asked'))
  asked = judge_lib.Question([{'role': 'user', 'content': 'a'}], str, given='B')
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept:
    assert judge_lib.ask(config(), [asked], read, kept).values == ['B']


def test_another_run_goes_on_from_what_could_not_be_read(monkeypatch, tmp_path):
  """A judge without randomness: it would say the same to the same chat."""
  c = config(rounds=2)
  asked = [question('a')], read
  again = judge_lib.ask_in('[[A]]')
  judge = Judge(monkeypatch, lambda messages, sample: 'is A' if len(messages) > 5 else 'hm')
  failed = pytest.raises(RuntimeError, match='none of 1 questions')
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept, failed:
    judge_lib.ask(c, *asked, kept, again=again)
  with journal.ReplyJournal(tmp_path / 'v.jsonl') as kept:
    found = judge_lib.ask(c, *asked, kept, again=again)
  assert found.values == ['A'] and found.replies == ['is A']
  chats = [request.messages for (request,) in judge.rounds]
  assert [len(chat) for chat in chats] == [1, 3, 5, 7]
  assert [m['role'] for m in chats[-1]] == ['user', 'assistant'] * 3 + ['user']
