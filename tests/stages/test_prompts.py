"""The prompt funnel, from files to a prompt set: nothing is lost, nothing is asked twice."""

import collections
import json
import os
import re

import pytest

from experiments import base
from experiments import prompts as experiment
from lwz import types
from lwz.data import prompts
from lwz.data.funnel import assessor, embedded_conversations, offline_rules, sift
from lwz.judge import client
from lwz.judge import judge as judge_lib
from lwz.reward import components
from lwz.reward import format as format_lib
from lwz.rl import judged
from lwz.stages import prompts as stage
from tests import jobs
from tests.rollout import scripted


def config(runs, **keys):
  c = experiment.get_config('micro')
  c.runs_dir = str(runs)
  for key, value in keys.items():
    c.prompts[key] = value
  return c


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, records):
  path.parent.mkdir(exist_ok=True)
  path.write_text('\n'.join(r if isinstance(r, str) else json.dumps(r) for r in records))
  return str(path)


def conversation(text):
  return {'conversation': [{'role': 'user', 'content': text}], 'language': 'English'}


def conversations(num):
  documents = [types.Document(f'title {i}', f'text {i} ' * 40, 's') for i in range(50)]
  return embedded_conversations.records(documents, num)


def judged_by(monkeypatch, ask):
  """Puts `ask`, from chats to client.Replies, in the place of the judge."""
  monkeypatch.setattr(
    judge_lib, 'connect', lambda c: lambda requests: ask(r.messages for r in requests)
  )


MIXED = [
  conversation('Write an essay about the long rivers of the world.'),
  conversation('Write an essay, about the LONG rivers of the world!'),
  conversation('Write a 2,000-word report on the bridges of Paris.'),
  conversation('What is the capital of France?'),
  conversation('Write a report on the attached document, please.'),
  conversation('Write a benchmark essay on owls, hawks and eagles at night.'),
  '{"conversation": [',
  {'conversation': None},
  conversation('写一篇关于长江的调研报告。') | {'language': 'Chinese'},
]


def test_rows_become_prompts_or_rejects(tmp_path, capsys):
  source = write(tmp_path / 'in' / 'chats.jsonl', MIXED)
  benchmark = [{'query': 'Write a benchmark essay on owls, hawks and eagles at night.'}]
  c = config(
    tmp_path, sources=(source,), benchmarks=(write(tmp_path / 'in' / 'b.jsonl', benchmark),)
  )
  stage.check(c)
  stage.run(c)
  folder = tmp_path / 'prompts-micro'
  kept = lines(folder / 'prompts.jsonl')
  assert [(p['lower'], p['upper'], p['language']) for p in kept] == [
    (700, 1200, 'en'),
    (1800, 2200, 'en'),
    (1500, 3000, 'zh'),
  ]
  assert [p['provenance']['row'] for p in kept] == [1, 3, 9]
  assert {p['provenance']['filter'] for p in kept} == {'offline-rules'}
  assert [p.id for p in prompts.load(folder / 'prompts.jsonl')] == [p['id'] for p in kept]
  gone = {r['row']: r['reason'] for r in lines(folder / 'rejects.jsonl')}
  assert gone == {
    2: 'exact duplicate',
    4: 'short answer',
    5: 'filter judge',
    6: 'benchmark',
    7: 'unreadable',
    8: 'unreadable',
  }
  assert (folder / 'DONE').exists() and 'offline-rules' in (folder / 'report.html').read_text()
  assert '3 prompts' in capsys.readouterr().out


def test_a_file_whose_name_is_not_utf_8_is_sifted(tmp_path):
  name = os.fsdecode('对话.jsonl'.encode('gbk'))  # as unzip leaves it
  write(tmp_path / 'in' / name, MIXED[:1])
  stage.run(config(tmp_path, sources=(str(tmp_path / 'in'),)))
  (kept,) = prompts.load(tmp_path / 'prompts-micro' / 'prompts.jsonl')
  assert kept.source == 'in'


def test_a_named_range_is_kept_and_no_assessor_asked(tmp_path, monkeypatch):
  asked = []

  def ask(chats):
    for index, chat in enumerate(chats):
      asked.append(chat)
      yield client.Reply(index, '{"keep": true}')

  record = {'data': {'ask': 'Write down the history of the world'}, 'words': [1234, 2345]}
  paths = {'text_path': 'data.ask', 'lower_path': 'words.0', 'upper_path': 'words.1'}
  judged_by(monkeypatch, ask)
  stage.run(config(tmp_path, sources=(write(tmp_path / 'in' / 's.jsonl', [record]),), **paths))
  (kept,) = lines(tmp_path / 'prompts-micro' / 'prompts.jsonl')
  assert (kept['lower'], kept['upper'], len(asked)) == (1234, 2345, 1)


def test_criteria_and_references_of_a_data_set_are_kept(tmp_path, monkeypatch):
  def ask(chats):
    for index, _ in enumerate(chats):
      yield client.Reply(index, '{"keep": true}')

  record = {'prompt': [{'role': 'user', 'content': 'Write down the history of the world'}]}
  record |= {'lower': 400, 'upper': 900, 'best': ['Long ago.', 'In the beginning.']}
  rubrics = [{'criterion': 'Names a king.', 'points': 3}]
  made = [record | {'reward_model': {'rubrics': rubrics}}]
  made.append(record | {'reward_model': {'rubrics': [{'points': 3}]}})
  paths = {'criteria_path': 'reward_model.rubrics', 'references_path': 'best'}
  judged_by(monkeypatch, ask)
  stage.run(config(tmp_path, sources=(write(tmp_path / 'in' / 's.jsonl', made),), **paths))
  (kept,) = prompts.load(tmp_path / 'prompts-micro' / 'prompts.jsonl')
  assert kept.criteria == (types.Criterion('c1', 'Names a king.', 3.0),)
  assert kept.references == ('Long ago.', 'In the beginning.')
  (gone,) = lines(tmp_path / 'prompts-micro' / 'rejects.jsonl')
  assert "no field 'text'" in gone['detail']


def test_criteria_are_written_once_and_only_for_prompts_that_stay_and_have_none(
  tmp_path, monkeypatch
):
  asked = []

  def ask(chats):
    for index, chat in enumerate(chats):
      query = assessor.query_of(chat)
      if not chat[0]['content'].startswith(assessor.CRITERIA[:40]):
        yield client.Reply(index, offline_rules.reply(chat))
        continue
      asked.append((query, len(chat)))
      said = {'criteria': [{'text': f'Keeps to {len(query)}.', 'kind': 'hard', 'weight': 2}]}
      broken = 'rivers' in query and len(chat) == 1
      yield client.Reply(index, 'Hm.' if broken else f'So: {json.dumps(said)}')

  judged_by(monkeypatch, ask)
  c = config(tmp_path, sources=(write(tmp_path / 'in' / 's.jsonl', MIXED),), criteria=True)
  stage.run(c)
  found = {p.text: p.criteria for p in prompts.load(tmp_path / 'prompts-micro' / 'prompts.jsonl')}
  assert len(found) == 4 and all(
    criteria == (types.Criterion('c1', f'Keeps to {len(request)}.', 2.0, 'hard'),)
    for request, criteria in found.items()
  )
  assert len(asked) == 5 and sum(turns == 3 for _, turns in asked) == 1
  (tmp_path / 'prompts-micro' / 'DONE').unlink()
  stage.run(c)
  assert len(asked) == 5

  record = {'prompt': [{'role': 'user', 'content': 'Write an essay on the history of the world'}]}
  record |= {'lower': 400, 'upper': 900, 'mine': [{'text': 'Names a king.'}]}
  own = {'sources': (write(tmp_path / 'in' / 'own.jsonl', [record]),), 'criteria_path': 'mine'}
  stage.run(config(tmp_path / 'own', criteria=True, **own))
  (kept,) = prompts.load(tmp_path / 'own' / 'prompts-micro' / 'prompts.jsonl')
  assert kept.criteria == (types.Criterion('c1', 'Names a king.'),) and len(asked) == 5


def test_references_rise_one_out_of_the_other_and_a_ladder_takes_them(tmp_path, monkeypatch):
  asked = []

  def ask(chats):
    for index, chat in enumerate(chats):
      said, query = chat[0]['content'], assessor.query_of(chat)
      if 'You write texts for comparison' not in said:
        yield client.Reply(index, offline_rules.reply(chat))
        continue
      before = re.findall(r'<text>\n(.*)\n</text>', said)
      words = re.search(r'of (\d+) to (\d+) words', said)
      asked.append((query, len(before), words.groups()))
      whole = len(asked) != 2  # one is cut, and asked for again
      text = f'{before[0] if before else query[-6:]}+'
      yield client.Reply(
        index, f'<think>So <text>no</text>.</think><text>{text}' + '</text>' * whole
      )

  judged_by(monkeypatch, ask)
  source = write(tmp_path / 'in' / 's.jsonl', MIXED)
  c = config(tmp_path, sources=(source,), references=3, criteria=True)
  with pytest.raises(
    ValueError, match=r'prompts\.references=3: offline-rules write no texts; name'
  ):
    stage.check(c)
  c.judge.model = 'writer@http://localhost:1/v1'
  stage.check(c)
  c.name, c.judge.max_tokens = 'short', 99  # the least that is asked for has 100 words
  said = r"judge\.max_tokens=99 hold no text of \d{3} words, .* \('Write.*\): raise it"
  with pytest.raises(ValueError, match=said):
    stage.run(c)
  assert not asked
  c.name, c.judge.max_tokens = '', 2_048
  stage.run(c)
  found = prompts.load(tmp_path / 'prompts-micro' / 'prompts.jsonl')
  assert len(found) == 4 and all(
    p.references == tuple(p.text[-6:] + '+' * rung for rung in (1, 2, 3)) for p in found
  )
  assert {lengths for _, _, lengths in asked} == {(str(p.lower), str(p.upper)) for p in found}
  assert [rung for _, rung, _ in asked] == [0] * 5 + [
    1
  ] * 8  # the third has one text before it, too
  (tmp_path / 'prompts-micro' / 'DONE').unlink()
  stage.run(c)
  assert len(asked) == 13
  ladder = base.get_config('micro')
  ladder.reward.judge, ladder.reward.weights.ladder, ladder.data.prompts = (
    'scripted-perfect',
    1.0,
    'x',
  )
  judged.check_prompts(ladder, judged.guided(ladder, found))
  reward = judged.JudgedRewards(ladder).reward('ladder')
  own = components.Sample(found[0], '', format_lib.Parsed('', found[0].references[0], True, ''))
  assert reward.values([own], 1).tolist() == [0.5]  # as good as the first rung, which it is


@pytest.mark.parametrize(
  'reply',
  [
    'none',
    '{"criteria": []}',
    '{"criteria": [{"text": ""}]}',
    '{"criteria": [{"text": "a", "kind": "vague"}]}',
    '{"criteria": [{"text": "a", "weight": -1}]}',
    '{"criteria": "a"}',
    '{"criteria": [{"text": "a"}',
    '<think>{"criteria": [{"text": "a"}]}',
  ],
)
def test_a_reply_without_sound_criteria_has_none(reply):
  assert assessor.parse_criteria(reply) is None
  good = '{"criteria": [{"text": "a"}]}'
  assert assessor.parse_criteria(f'{{"criteria": []}} {good} end')[0]['text'] == 'a'


def test_the_rules_ask_for_the_terms_of_a_request():
  chat = assessor.messages(assessor.CRITERIA, 'Write an essay about long rivers.')
  found = assessor.parse_criteria(offline_rules.reply(chat))
  assert [one['text'] for one in found][-1] == '"rivers"'


class Killed(BaseException):
  pass


def test_a_killed_run_goes_on_without_asking_twice(tmp_path, monkeypatch):
  made = [json.dumps(record, default=str) for record in conversations(150)]
  source = write(tmp_path / 'in' / 's.jsonl', made)
  whole = config(tmp_path / 'whole', sources=(source,))
  stage.run(whole)
  asked: collections.Counter = collections.Counter()
  left = [0]

  def ask(chats):
    for index, chat in enumerate(_counted(chats)):
      if not left[0]:
        raise Killed
      left[0] -= 1
      yield client.Reply(index, offline_rules.reply(chat))

  def _counted(chats):
    for chat in chats:
      yield chat
      asked[chat[0]['content']] += 1  # reached when the next one is asked for: it was answered

  judged_by(monkeypatch, ask)
  c, runs = config(tmp_path / 'cut', sources=(source,)), 0
  original = sift.sift
  sifts = []
  monkeypatch.setattr(sift, 'sift', lambda *a, **k: (sifts.append(a[1]), original(*a, **k)))
  while not (tmp_path / 'cut' / 'prompts-micro' / 'DONE').exists():
    assert runs < 20
    left[0] = 12
    try:
      stage.run(c)
    except Killed:
      runs += 1
  assert runs > 2 and len(sifts) == 1
  assert set(asked.values()) == {1}
  for name in ('prompts.jsonl', 'rejects.jsonl'):
    both = [(tmp_path / d / 'prompts-micro' / name).read_bytes() for d in ('whole', 'cut')]
    assert both[0] == both[1]


def test_a_failed_judge_rejects_nothing(tmp_path, monkeypatch):
  source = write(
    tmp_path / 'in' / 's.jsonl',
    [conversation(f'Write essay number {i} on {i * i} rivers') for i in range(40)],
  )
  c = config(tmp_path, sources=(source,), similarity=1.0)

  def failing(share):
    def ask(chats):
      for index, chat in enumerate(chats):
        bad = index % 20 < 20 * share
        text = '' if bad else offline_rules.reply(chat)
        yield client.Reply(index, text, 'http 500' if bad else '')

    return ask

  judged_by(monkeypatch, failing(0.5))
  with pytest.raises(RuntimeError, match=r'judge\.max_failures.*http 500.*run again'):
    stage.run(c)
  judged_by(monkeypatch, failing(0.05))
  stage.run(c)
  gone = lines(tmp_path / 'prompts-micro' / 'rejects.jsonl')
  assert {r['reason'] for r in gone} <= {'no judgement'} and 0 < len(gone) < 5


def test_a_model_behind_an_endpoint_judges(tmp_path):
  def behave(number, payload):
    (message, *_) = payload['messages']
    good = offline_rules.reply([message])
    return f'<think>Let me see: {{"range": [1, 2]}}</think>\n```json\n{good}\n```'

  source = write(tmp_path / 'in' / 'chats.jsonl', MIXED)
  with scripted.serve(behave) as server:
    c = config(tmp_path, sources=(source,))
    c.judge.model = f'QwQ-32B@{server.url}'
    stage.check(c)
    stage.run(c)
    kept = lines(tmp_path / 'prompts-micro' / 'prompts.jsonl')
    assert [p['lower'] for p in kept] == [700, 1800, 700, 1500]
    assert {p['provenance']['length'] for p in kept} == {c.judge.model}
    num = len(server.payloads)
    (tmp_path / 'prompts-micro' / 'DONE').unlink()
    stage.run(c)
    assert len(server.payloads) == num == 9


@pytest.mark.parametrize(
  'keys, said',
  [
    ({'sources': ('nowhere',)}, 'nowhere: no such file'),
    ({'similarity': 0.0}, 'prompts.similarity'),
    ({'benchmarks': ('nowhere',)}, 'nowhere'),
  ],
)
def test_what_is_wrong_is_said_at_the_start(tmp_path, keys, said):
  with pytest.raises((ValueError, FileNotFoundError), match=said):
    stage.check(config(tmp_path, **keys))


def test_an_edited_file_is_sifted_again(tmp_path):
  path = tmp_path / 'in' / 's.jsonl'
  c = config(tmp_path, sources=(write(path, MIXED[:1]),))
  stage.run(c)
  write(path, MIXED[2:3])  # of the same size, as it happens
  stage.run(c)
  (kept,) = lines(tmp_path / 'prompts-micro' / 'prompts.jsonl')
  assert kept['lower'] == 1800


def test_the_command(tmp_path):
  output = jobs.launch('prompts:micro', tmp_path)
  assert 'judge: offline-rules' in output
  kept = prompts.load(tmp_path / 'prompts-micro' / 'prompts.jsonl')
  assert len(kept) > 20 and {p.language for p in kept} == {'en', 'zh'}
  assert all(
    p.lower % 100 == p.upper % 100 == 0 and p.upper - p.lower <= assessor.WIDTH for p in kept
  )


def test_parquet_folders(tmp_path):
  pa = pytest.importorskip('pyarrow')
  pq = pytest.importorskip('pyarrow.parquet')
  folder = tmp_path / 'WildChat-1M'
  folder.mkdir()
  records = list(conversations(300))
  for i in range(2):
    pq.write_table(pa.Table.from_pylist(records[i::2]), folder / f'{i}.parquet')
  (folder / '2.parquet').write_bytes((folder / '1.parquet').read_bytes()[:-100])
  stage.run(config(tmp_path, sources=(str(folder),)))
  kept = lines(tmp_path / 'prompts-micro' / 'prompts.jsonl')
  gone = lines(tmp_path / 'prompts-micro' / 'rejects.jsonl')
  assert len(kept) + len(gone) == 301 and kept
  assert {p['source'] for p in kept} == {'WildChat-1M'}
  assert [r['detail'][:15] for r in gone if r['file'] == '2.parquet'] == ['unreadable file']
