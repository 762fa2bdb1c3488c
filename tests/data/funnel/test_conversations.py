"""Rows of conversations: every schema that is about, and everything that is wrong with a file."""

import gzip
import json
import time

import pytest

from lwz.data.funnel import conversations, language, sources

WILDCHAT = {
  'conversation_hash': 'h0',
  'model': 'gpt-4',
  'conversation': [
    {'content': 'Be kind.', 'role': 'system', 'language': 'English', 'toxic': False},
    {'content': 'Write an ode.', 'role': 'user', 'language': 'Latin', 'redacted': False},
    {'content': 'O!', 'role': 'assistant', 'redacted': True},
    {'content': 'More.', 'role': 'user'},
  ],
  'turn': 2,
  'language': 'English',
  'openai_moderation': [{'flagged': False, 'categories': {}}, {'flagged': False}],
  'toxic': False,
  'redacted': False,
}

EXPORTED = {  # from ChatGPT, its messages in no order
  'conversation_id': 'c',
  'mapping': {
    'd': {'message': {'author': {'role': 'user'}, 'content': {'parts': ['B']}, 'create_time': 3.0}},
    'r': {'message': None, 'children': ['s']},
    'u': {'message': {'author': {'role': 'user'}, 'content': {'parts': ['A']}, 'create_time': 1.5}},
    's': {'message': {'author': {'role': 'system'}, 'content': {'parts': ['']}}},
    'x': None,
  },
}
ALONE = (
  'User: Tom is the hero. Write a story.',
  'Human: a history. Write it as an essay.',
  '问：为什么？请写一篇文章。',
)


def row(record, **paths):
  return conversations.from_record(record, 'f', 7, conversations.Paths(**paths))


def test_the_first_request_of_a_user_counts():
  assert row(WILDCHAT) == conversations.Row('f', 7, 'Write an ode.', 'h0', 'English')


@pytest.mark.parametrize(
  'record, text',
  [
    ({'messages': [{'role': 'user', 'content': 'A'}]}, 'A'),
    ({'conversations': [{'from': 'human', 'value': 'A'}]}, 'A'),
    ({'prompt': [{'role': 'user', 'content': [{'type': 'text', 'text': 'A'}, 3]}]}, 'A'),
    ({'conversation': json.dumps([{'role': 'User', 'content': 'A'}])}, 'A'),
    ({'prompt': 'A', 'type': 'Essay', 'length': 300}, 'A'),
    ({'query': 'A', 'checklist': []}, 'A'),
    ({'idx': 1, 'question': 'A'}, 'A'),
    ({'messages': [{'role': 'user', 'content': ''}, {'role': 'user', 'content': 'A'}]}, 'A'),
    ({'conversations': [{'from': 'gpt', 'value': 'Hi'}, {'from': 'human', 'value': 'A'}]}, 'A'),
    ({'conversation': [{'role': 'human', 'text': 'A'}]}, 'A'),
    ({'items': [{'from': 'human', 'value': 'A'}]}, 'A'),
    ({'conversation': [{'human': 'A', 'assistant': 'B'}]}, 'A'),
    ({'conversation_a': [{'role': 'user', 'content': 'A'}], 'conversation_b': []}, 'A'),
    ({'chosen': [{'role': 'user', 'content': 'A'}, {'role': 'assistant', 'content': 'B'}]}, 'A'),
    ({'inputs': 'A', 'targets': 'x'}, 'A'),
    ({'input': 'A', 'output': 'x'}, 'A'),
    ({'data': ['A', 'answer'], 'id': '0'}, 'A'),
    ({'question_id': 81, 'category': 'writing', 'turns': ['A', 'Again.']}, 'A'),
    ({'prompt': '["A", "Again."]'}, 'A'),
    ({'prompt': '[INST] A [/INST] B'}, 'A'),
    ({'question': 'A', 'items': ['x', 'y']}, 'A'),
    ({'instruction': 'A', 'input': 'B', 'output': 'x'}, 'A\n\nB'),
    ({'instruction': 'A', 'input': '', 'output': 'x'}, 'A'),
    ({'instruction': 'A', 'input': '<noinput>', 'output': 'x'}, 'A'),
    ({'instruction': 'A', 'context': 'B', 'response': 'x'}, 'A\n\nB'),  # Dolly
    ({'text': 'A', 'role': 'prompter', 'parent_id': None, 'lang': 'en'}, 'A'),  # OASST
    ({'message_tree_id': '1', 'prompt': {'text': 'A', 'role': 'prompter', 'replies': []}}, 'A'),
    ({'chosen': '\n\nHuman: A\n\nAssistant: B\n\nHuman: C', 'rejected': 'x'}, 'A'),  # HH-RLHF
    ({'prompt': '\n\nHuman: A\n\nAssistant:'}, 'A'),
    ({'text': '### Human: A### Assistant: B'}, 'A'),
    ({'text': '<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nA<|im_end|>\n'}, 'A'),
    ({'text': 'Below is an instruction.\n\n### Instruction:\nA\n\n### Response:\nB'}, 'A'),
    ({'text': 'A chat with an assistant. USER: A ASSISTANT: B</s>'}, 'A'),
    ({'text': '用户：A\n助手：B'}, 'A'),
    ({'system': 'SYSTEM: Be.', 'chat': 'USER: A\n\n\nASSISTANT: B <|endoftext|>\n'}, 'A'),  # Glaive
    ({'chat': 'USER: A ASSISTANT: B USER: C ASSISTANT: D'}, 'A'),
    ({'text': 'User: A. Assistant: B'}, 'A.'),
    ({'input': '["x", "y"]', 'output': 'x'}, '["x", "y"]'),
    ({'chat': [{'role': 'user', 'content': 'A'}]}, 'A'),
    ({'custom_id': '1', 'body': {'messages': [{'role': 'user', 'content': 'A'}]}}, 'A'),  # OpenAI
    ({'custom_id': '1', 'body': {'input': [{'role': 'user', 'content': 'A'}]}}, 'A'),
    ({'custom_id': '1', 'params': {'messages': [{'role': 'user', 'content': 'A'}]}}, 'A'),
    ({'request': {'contents': [{'role': 'user', 'parts': [{'text': 'A'}]}]}}, 'A'),  # Gemini
    ({'request': 'A'}, 'A'),
    ({'user': 'A', 'assistant': 'B'}, 'A'),
    ({'system': 'Be.', 'human': 'A', 'gpt': 'B'}, 'A'),
    ({'user': 'alice', 'prompt': 'A', 'assistant': 'model-1'}, 'A'),
    ({'user': 'alice', 'question': 'A'}, 'A'),
    ({'role': 'user', 'content': 'A'}, 'A'),
    ({'role': 'user', 'content': [{'type': 'text', 'text': 'A'}]}, 'A'),
    ({'from': 'human', 'value': 'A'}, 'A'),
    ({'from': '2020', 'text': 'A'}, 'A'),
    *(({'prompt': text}, text) for text in ALONE),
    ({'text': 'AI: a history. Write it as an essay.'}, 'AI: a history. Write it as an essay.'),
  ],
)
def test_schemas_are_known(record, text):
  assert row(record).text == text and not row(record).fault


def test_the_time_to_read_a_transcript_is_linear_in_its_length():
  began = time.monotonic()
  for text in ('USER: ', '\n', ' \n', '### Instruction: ', 'Human: \n\n'):
    conversations.from_record({'prompt': 'Write. ' + text * 30_000}, '', 0)
  assert time.monotonic() - began < 5


def test_an_export_has_its_earliest_request():
  assert row(EXPORTED) == conversations.Row('f', 7, 'A', 'c')
  picture = [{'content_type': 'image_asset_pointer'}, 'A']
  message = {'author': {'role': 'user'}, 'content': {'parts': picture}}
  assert 'an image' in row({'mapping': {'u': {'message': message}}}).fault
  for broken in ({}, 'x', {'u': {'message': {'author': 3, 'content': 3, 'create_time': 'x'}}}):
    assert row({'mapping': broken}).fault == conversations.NOTHING
  assert row({'custom_id': 'q-1', 'body': {'prompt': 'A'}}).key == 'q-1'


def test_paths_say_where():
  record = {'data': [{'ask': 'A'}], 'words': {'from': 100, 'to': 200.0}, 'l': 'Chinese'}
  found = row(record, text='data.0.ask', language='l', lower='words.from', upper='words.to')
  assert (found.text, found.language, found.lower, found.upper) == ('A', 'Chinese', 100, 200)
  assert row(record, text='data.1.ask').fault == "no text at 'data.1.ask'"
  assert row({'text': 'A', 'range': [5, 3]})[-3:] == (0, 0, '')
  assert row({'text': 'A', 'range': [0.5, 3]})[-3:] == (0, 0, '')
  assert row({'text': 'A', 'range': [3, 5]})[-3:] == (3, 5, '')


@pytest.mark.parametrize(
  'change, held',
  [
    ({'toxic': True}, 'flagged'),
    ({'openai_moderation': [{'flagged': False}, {'flagged': True}]}, 'flagged'),
    ({'openai_moderation': {'flagged': True}}, 'flagged'),
    ({'conversation': [{'role': 'user', 'content': 'A', 'toxic': True}]}, 'flagged'),
    ({'conversation': [{'role': 'user', 'content': 'A', 'redacted': True}]}, 'redacted'),
    ({'redacted': True}, 'redacted'),
    ({'openai_moderation': None, 'toxic': None}, ''),
    ({'openai_moderation': [None, 3], 'toxic': 'no'}, ''),
  ],
)
def test_warnings_of_the_set_are_honoured(change, held):
  assert row(WILDCHAT | change).held == held


@pytest.mark.parametrize(
  'record',
  [
    *(None, 3, [], 'x', {}, {'conversation': None}, {'conversation': 'x'}, {'conversation': [3]}),
    {'conversation': [{'role': 'assistant', 'content': 'A'}]},
    {'conversation': [{'role': None, 'content': None}, {'content': 3, 'role': 'user'}]},
    {'conversation': [{'role': 'user', 'content': 'half \ud83d'}]},
    {'text': 3},
    {'prompt': {'a': 1}},
    {'messages': [{'role': 'user', 'content': '  '}]},
    {'text': '', 'role': 'prompter', 'parent_id': None},
    {'text': 'Assistant: I can help.'},
    {'chosen': 'An answer.', 'rejected': 'Another.'},
  ],
)
def test_no_record_raises(record):
  assert row(record).fault and not row(record).text


@pytest.mark.parametrize(
  'record, reason',
  [
    ({'text': 'First, research.', 'role': 'assistant', 'parent_id': 'x'}, 'of the assistant'),
    ({'text': 'And then?', 'role': 'prompter', 'parent_id': 'x'}, 'a later turn'),
    ({'text': 'Be kind.', 'role': 'system'}, 'of the system'),
    ({'role': 'assistant', 'content': 'B'}, 'of the assistant'),
    ({'from': 'gpt', 'value': 'B'}, 'of the gpt'),
    ({'role': 'user', 'content': 'A', 'parent_id': 'x'}, 'a later turn'),
    ({'text': 'Write about <image>.'}, 'an image'),
    ({'text': None}, "'text' is null"),
    ({'messages': []}, "'messages' is empty"),
    ({'title': 'x'}, 'no turn of a user, and no text'),
    ({'image': 'x.jpg', 'conversations': [{'from': 'human', 'value': 'A'}]}, 'an image'),
    (
      {'messages': [{'role': 'user', 'content': [{'type': 'image_url'}, {'text': 'A'}]}]},
      'an image',
    ),
    (
      {'messages': [{'role': 'user', 'content': [{'type': 'input_audio'}, {'text': 'A'}]}]},
      'an image, a sound',
    ),
  ],
)
def test_what_is_no_first_request_has_a_reason(record, reason):
  assert reason in row(record).fault


def test_broken_lines_are_counted_and_named(tmp_path):
  lines = [
    b'\xef\xbb\xbf{"text": "A"}',
    b'',
    b'{"text": "B"',
    b'\xff\xfe',
    b'[' * 100_000,
    b'{"text": "\\ud800"}',
    b'{"text": ' + b'9' * 5_000 + b'}',
    '{"text": "写\\u0000 🎈"}\r'.encode(),
    b'{"text": "last"}',
  ]
  (tmp_path / 'p.jsonl').write_bytes(b'\n'.join(lines))
  rows = list(sources.read(tmp_path / 'p.jsonl'))
  assert [(r.number, bool(r.fault)) for r in rows] == [
    *((1, False), (3, True), (4, True), (5, True), (6, True), (7, True), (8, False), (9, False))
  ]
  assert [r.text for r in rows if not r.fault] == ['A', '写\0 🎈', 'last']


def test_a_compressed_file_that_breaks_off_gives_what_is_there(tmp_path):
  path = tmp_path / 'p.jsonl.gz'
  with gzip.open(path, 'wt') as file:
    file.writelines(f'{{"text": "{i} {"x" * (i % 97)}"}}\n' for i in range(20_000))
  path.write_bytes(path.read_bytes()[:30_000])
  rows = list(sources.read(path))
  assert len(rows) > 100 and not any(r.fault for r in rows[:-2])
  assert rows[-1].fault.startswith('unreadable from here on')


def test_arrays_and_misnamed_lines(tmp_path):
  path = tmp_path / 'p.json'
  for content in ('[{"text": "A"}, {"text": "B"}]', '{"data": [{"text": "A"}, {"text": "B"}]}'):
    path.write_text(content)
    assert [r.text for r in sources.read(path)] == ['A', 'B']
  path.write_text('{"text": "A"}\n{"text": "B"}\n{')
  assert [r.text for r in sources.read(path)] == ['A', 'B', '']
  path.write_text('[{"text": "A"}, 3, ')
  rows = list(sources.read(path))
  assert [r.text for r in rows] == ['A', '', ''] and rows[1].fault.endswith('found int')
  assert rows[2].fault.startswith('unreadable from here on') and 'no end' in rows[2].fault


def test_files_of_a_folder(tmp_path):
  for name in ('b/2.parquet', 'b/1.jsonl', 'a.json', '.cache/x.jsonl', 'README.md'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  found = [str(path.relative_to(tmp_path)) for path in sources.files(tmp_path)]
  assert found == ['a.json', 'b/1.jsonl', 'b/2.parquet']
  assert sources.name(tmp_path / 'b') == 'b' and sources.name(tmp_path / 'x.jsonl.gz') == 'x'
  for missing in ('none', 'README.md', '.cache/none.json'):
    with pytest.raises(FileNotFoundError):
      sources.files(tmp_path / missing)


@pytest.mark.parametrize(
  'text, code',
  [
    ('Write a story about a fox', 'en'),
    ('Schreibe eine Geschichte über den Fuchs', 'de'),
    ('Escribe una historia sobre el zorro', 'es'),
    ('写一篇关于狐狸的故事', 'zh'),
    ('写一篇关于 Formula One 的文章', 'zh'),
    ('Translate 你好 for me, would you please', 'en'),
    ('狐についての物語を書いてください', 'ja'),
    ('Напиши рассказ о лисе', 'other'),
    ('🎈 123', 'other'),
    ('Napisz opowiadanie o starym domu', 'pl'),
    ('Opisz przygody psa', 'pl'),
    ('Nehirler hakkında uzun bir deneme yaz', 'tr'),
    ('Fransız devrimini anlat', 'tr'),
    ('Schrijf een lang essay over rivieren', 'nl'),
    ('Geef me uitleg over zwaartekracht', 'nl'),
    ('Skriv en lång uppsats om floder', 'sv'),
    ('Viết một bài luận dài về sông', 'vi'),
    ('Rašyk ilgą esė apie upes', 'other'),
    ('Essay: Kraków and Łódź compared', 'en'),
    ('Write a résumé for Zoë', 'en'),
    ('Describe Amsterdam canals briefly', 'en'),
    ('Kubernetes', 'en'),
  ],
)
def test_languages_are_guessed(text, code):
  assert language.detect(text) == code


def test_tags_become_codes():
  tags = ['English', ' chinese ', 'zh-CN', 'Spanish', 'unknown', '']
  assert [language.code(tag) for tag in tags] == ['en', 'zh', 'zh', 'spanish', '', '']
  assert language.code('Latin') == ''
