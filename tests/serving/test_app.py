"""The routes: replies in OpenAI's form, streamed or whole, and errors as JSON."""

import asyncio
import json
import math
import random
import threading

import numpy as np
import pytest

pytest.importorskip('starlette')
from starlette import testclient

from lwz.data import templates, tokenizer
from lwz.rollout import local
from lwz.serving import replies, writer
from tests.serving import served

ASKED = {'messages': [{'role': 'user', 'content': 'the sea'}], 'seed': 5}


def client(app, **more):
  return testclient.TestClient(app, base_url='http://127.0.0.1', **more)


def post(app, body, path='chat/completions', **more):
  return client(app, raise_server_exceptions=False).post(f'/v1/{path}', json=body, **more)


def events(answer):
  """The parts of a streamed answer; the last one says that it is the last."""
  assert answer.headers['content-type'].startswith('text/event-stream')
  lines = [line for line in answer.text.split('\n\n') if line]
  assert lines[-1] == 'data: [DONE]'
  return [json.loads(line.removeprefix('data: ')) for line in lines[:-1]]


def expected(number=0, seed=5, request='the sea'):
  """The text of a choice, which its seed and its number determine."""
  (ids,) = templates.prompt_ids(served.tok(), [request], 'think', 'pocket')
  asked = local.requests([np.array(ids)], num_samples=number + 1, max_tokens=1, seed=seed, step=0)
  return served.text(ids, tuple(int(k) for k in asked[number].key))


def parts(text):
  think, _, answer = text.removeprefix('<think>').partition('</think>\n<answer>')
  return think, answer.removesuffix('</answer>')


def test_a_chat_has_the_thought_apart():
  with served.server() as (app, *_):
    body = post(app, ASKED | {'n': 2}).json()
  assert (body['object'], body['model'], body['seed']) == ('chat.completion', 'policy', 5)
  assert [choice['index'] for choice in body['choices']] == [0, 1]
  for number, choice in enumerate(body['choices']):
    message = choice['message']
    found = message['reasoning_content'], message['content']
    assert found == parts(expected(number)) and choice['finish_reason'] == 'stop'
  usage = body['usage']
  assert usage['total_tokens'] == usage['prompt_tokens'] + usage['completion_tokens']


def test_a_raw_completion_is_all_that_is_written():
  with served.server() as (app, *_):
    (prompt,) = templates.prompt_ids(served.tok(), ['the sea'], 'think', 'pocket')
    body = post(app, {'prompt': prompt, 'seed': 5}, 'completions').json()
    assert body['choices'][0]['text'] == expected()
    text = templates.render('the sea', 'think', 'pocket')
    assert (
      post(app, {'prompt': text, 'seed': 5}, 'completions').json()['choices'][0]
      == (body['choices'][0])
    )


@pytest.mark.parametrize('num_steps', [1, 4, 100])
@pytest.mark.parametrize('more', [{}, {'n': 3}, {'max_tokens': 7}, {'stop': ['boat.']}], ids=str)
def test_a_stream_adds_up_to_the_reply_that_is_not_streamed(more, num_steps):
  more = more | {'logprobs': True}
  with served.server(num_steps=num_steps) as (app, *_):
    whole = post(app, ASKED | more).json()
    stream = {'stream': True, 'stream_options': {'include_usage': True}}
    found = events(post(app, ASKED | more | stream))
  *found, last = found
  assert last['choices'] == [] and last['usage'] == whole['usage']
  assert {part['object'] for part in found} == {'chat.completion.chunk'}
  for choice in whole['choices']:
    own = [p['choices'][0] for p in found if p['choices'][0]['index'] == choice['index']]
    assert own[0]['delta']['role'] == 'assistant'
    for name in ('content', 'reasoning_content'):
      text = ''.join(part['delta'].get(name, '') for part in own)
      assert text == (choice['message'][name] or '')
    assert [part['finish_reason'] for part in own[:-1]] == [None] * (len(own) - 1)
    assert own[-1]['finish_reason'] == choice['finish_reason']
    assert own[-1]['logprobs'] == choice['logprobs']


def test_tokens_are_spelt_beside_the_loop_that_serves_others():
  """A reply of 15,000 tokens takes the loop half a second otherwise."""
  decode, beside = tokenizer.decoder(served.tok()), []

  def spell(ids):
    beside.append(asyncio._get_running_loop() is None)
    return decode(ids)

  with served.server(decode=spell) as (app, *_):
    for stream in (True, False):
      post(app, ASKED | {'logprobs': True, 'stream': stream})
  assert len(beside) > 50 and all(beside)


def test_an_event_is_one_line_however_a_client_splits():
  body = {'text': '\x1c\x85\u2028\u2029\r\n写'}
  line, *rest = replies.event(body).decode().splitlines()
  assert json.loads(line.removeprefix('data: ')) == body and rest == ['']


def test_a_streamed_completion_adds_up_too():
  with served.server() as (app, *_):
    asked = {'prompt': 'the sea', 'seed': 1}
    whole = post(app, asked, 'completions').json()
    found = events(post(app, asked | {'stream': True}, 'completions'))
  assert ''.join(p['choices'][0]['text'] for p in found) == whole['choices'][0]['text']
  assert found[-1]['choices'][0]['finish_reason'] == 'stop'


def test_log_probabilities_are_of_every_token():
  with served.server() as (app, *_):
    chat = post(app, ASKED | {'logprobs': True}).json()
    raw = post(app, {'prompt': 'the sea', 'logprobs': 0}, 'completions').json()
  found = chat['choices'][0]['logprobs']['content']
  assert len(found) == chat['usage']['completion_tokens']
  assert {one['logprob'] for one in found} == {-0.5}
  assert ''.join(one['token'] for one in found).startswith('<think>')
  found = raw['choices'][0]['logprobs']
  assert len(found['tokens']) == len(found['text_offset']) == len(found['token_logprobs'])


@pytest.mark.parametrize('chat', [True, False])
def test_the_best_of_several_come_first_and_all_are_counted(chat):
  """What the reward model reads are the request and each text; one that it cannot read is last."""
  asked, marks, path = [], [0.2, math.nan, 0.9, 0.4], 'chat/completions' if chat else 'completions'

  def rank(prompt, texts):
    asked.append((prompt, texts))
    return marks

  body = ASKED if chat else {'prompt': 'the sea', 'seed': 5}
  with served.server(rank=rank) as (app, *_):
    every = post(app, body | {'n': 4}, path).json()
    best = post(app, body | {'n': 3, 'best_of': 4}, path).json()
    all_of_them = post(app, body | {'n': 4, 'best_of': 4}, path).json()
  assert [one['reward'] for one in all_of_them['choices']] == [0.9, 0.4, 0.2, None]
  assert [one['index'] for one in best['choices']] == [0, 1, 2]
  name = 'message' if chat else 'text'
  wanted = [every['choices'][number][name] for number in (2, 3, 0, 1)]
  assert [one[name] for one in all_of_them['choices']] == wanted
  assert [one[name] for one in best['choices']] == wanted[:3]
  assert best['usage'] == every['usage'] and 'reward' not in every['choices'][0]
  assert len(asked) == 2 and asked[0][0] == ((('user', 'the sea'),) if chat else 'the sea')
  if chat:
    assert asked[0][1] == [expected(number) for number in range(4)]


def test_a_length_is_kept_and_said():
  with served.server() as (app, *_):
    body = post(app, ASKED | {'max_tokens': 4}).json()
  assert body['choices'][0]['finish_reason'] == 'length'
  assert body['usage']['completion_tokens'] == 4


def test_a_seed_that_is_not_given_is_said_and_can_be_given():
  with served.server() as (app, *_):
    asked = {'messages': ASKED['messages']}
    first, second = (post(app, asked).json() for _ in range(2))
    assert first['seed'] != second['seed']
    again = post(app, asked | {'seed': second['seed']}).json()
  assert again['choices'] == second['choices'] != first['choices']


def test_one_message_of_the_system_stands_in_the_request():
  told = [{'role': 'system', 'content': 'the bridge'}, ASKED['messages'][0]]
  with served.server() as (app, *_):
    body = post(app, ASKED | {'messages': told}).json()
  found = body['choices'][0]['message']
  assert found['content'] == parts(expected(request='the bridge\n\nthe sea'))[1]


@pytest.mark.parametrize(
  'roles',
  [
    ('user', 'assistant', 'user'),
    ('user', 'user'),
    ('system',),
    ('assistant',),
    ('user', 'system'),
  ],
)
def test_messages_that_the_policy_was_not_trained_on_are_refused(roles):
  with served.server() as (app, *_):
    answer = post(app, {'messages': [{'role': role, 'content': 'x'} for role in roles]})
  assert answer.status_code == 400
  assert 'was trained on single requests' in answer.json()['error']['message']


def test_a_prompt_without_room_is_refused():
  with served.server() as (app, *_):
    answer = post(app, {'messages': [{'role': 'user', 'content': 'sea ' * 300}]})
    empty = post(app, {'prompt': ''}, 'completions')
    strange = post(app, {'prompt': [10**6]}, 'completions')
  assert answer.json()['error']['code'] == 'context_length_exceeded'
  params = [one.json()['error']['param'] for one in (answer, empty, strange)]
  assert params == ['messages', 'prompt', 'prompt']
  assert {one.status_code for one in (answer, empty, strange)} == {400}


def test_nothing_is_served_to_a_wrong_key():
  with served.server(key='sesame') as (app, *_):
    for path, headers in (
      ('/v1/models', {}),
      ('/v1/models', {'authorization': 'Bearer wrong'}),
      ('/v1/models/policy', {'authorization': 'sesame'}),
      ('/metrics', {'authorization': 'Basic sesame'}),
    ):
      answer = client(app).get(path, headers=headers)
      assert answer.status_code == 401 and answer.json()['error']['code'] == 'invalid_api_key'
    for path in ('chat/completions', 'completions'):
      answer = post(app, ASKED, path, headers={'authorization': 'Bearer Sesame'})
      assert answer.status_code == 401
    headers = {'authorization': 'Bearer sesame'}
    assert client(app).get('/v1/models', headers=headers).status_code == 200
    assert post(app, ASKED, headers=headers | {'host': 'example.org'}).status_code == 200
    assert client(app).get('/health').status_code == 200


def test_without_a_key_no_other_name_is_answered_to():
  with served.server() as (app, *_):
    for host, status in (
      ('localhost:8000', 200),
      ('[::1]:8000', 200),
      ('127.0.0.2', 200),
      ('evil.example', 403),
      ('127.0.0.1.evil.example', 403),
      ('localhost@evil', 403),
    ):
      answer = client(app).get('/v1/models', headers={'host': host})
      assert answer.status_code == status, host


def test_a_page_of_another_site_cannot_ask():
  with served.server() as (app, *_):
    answer = client(app).post(
      '/v1/chat/completions', content=json.dumps(ASKED), headers={'content-type': 'text/plain'}
    )
  assert answer.status_code == 415 and 'access-control-allow-origin' not in answer.headers


def malformed(rng):
  """A body that is no request: of the wrong form, type or size, or cut somewhere."""
  values = [None, True, -1, 0, 1e9, 'x', '', [], {}, [[]], {'a': {}}, [None], '\u0000', 2**70]
  body = {'messages': ASKED['messages'], 'max_tokens': 3}
  kind = rng.randrange(5)
  if kind == 0:
    whole = json.dumps(ASKED).encode()
    return whole[: rng.randrange(1, len(whole) - 1)]
  if kind == 1:
    name = rng.choice(['n', 'seed', 'messages', 'stop', 'stream', 'max_tokens', 'logprobs'])
    value = rng.choice([[None], {'a': 1}, 'x' if name != 'stop' else 7, -(2**70), [{}]])
    return json.dumps(body | {name: value}).encode()
  if kind == 2:
    message = {'role': rng.choice(values), 'content': rng.choice(values)}
    return json.dumps(body | {'messages': [message | {'role': 'nobody'}]}).encode()
  if kind == 3:
    return bytes(rng.randrange(128, 256) for _ in range(rng.randrange(1, 50)))
  return json.dumps(rng.choice([*values, body | {'unknown': 1}, {'messages': 'x'}])).encode()


def test_no_malformed_body_harms_the_server():
  rng = random.Random(0)
  headers = {'content-type': 'application/json'}
  with served.server() as (app, *_):
    asked = client(app, raise_server_exceptions=False)
    for _ in range(200):
      path = rng.choice(['/v1/chat/completions', '/v1/completions'])
      body = malformed(rng)
      answer = asked.post(path, content=body, headers=headers)
      assert 400 <= answer.status_code < 500, body
      assert answer.json()['error']['message']
    large = asked.post('/v1/completions', content=b'"' + b'x' * 20_000 + b'"', headers=headers)
    assert large.status_code == 413
    assert asked.post('/v1/chat/completions', json=ASKED).status_code == 200
    told = asked.get('/metrics').text
  assert 'lwz_requests_total{status="400"}' in told


def test_other_routes_are_errors_of_the_same_form():
  with served.server() as (app, *_):
    asked = client(app)
    assert asked.get('/v1/embeddings').status_code == 404
    assert asked.get('/v1/chat/completions').status_code == 405
    assert asked.get('/v1/models/gpt').json()['error']['code'] == 'model_not_found'
    assert asked.get('/v1/models/policy').json()['style'] == 'think'


def test_a_full_queue_says_when_to_ask_again():
  gate = threading.Event()
  with served.server(num_slots=1, queue=1, gate=gate) as (app, written_by, _):
    for seed in (0, 1):
      written_by.submit(
        [3], keys_B2=writer.keys(seed, 1), max_tokens=3, stops=(), notify=lambda piece: None
      )
      while written_by.num_active < 1:
        pass
    answer = post(app, ASKED)
    assert answer.status_code == 429 and int(answer.headers['retry-after']) >= 1
    assert answer.json()['error']['code'] == 'queue_full'


def test_it_says_that_it_stops():
  with served.server() as (app, written_by, _):
    assert client(app).get('/health').json() == {'status': 'ok'}
    written_by.close(1)
    assert client(app).get('/health').status_code == 503
    assert post(app, ASKED).status_code == 503


def test_metrics_are_prometheus_own():
  from prometheus_client import parser

  with served.server() as (app, *_):
    post(app, ASKED | {'n': 2})
    text = client(app).get('/metrics').text
  found = {s.name: s.value for f in parser.text_string_to_metric_families(text) for s in f.samples}
  assert found['lwz_first_token_seconds_count'] == 2 and found['lwz_tokens_total'] > 20
  assert (found['lwz_slots'], found['lwz_waiting'], found['lwz_active']) == (2, 0, 0)


def test_the_page_needs_nothing_from_elsewhere():
  with served.server(key='sesame') as (app, *_):
    answer = client(app).get('/')
  text = answer.text
  assert (
    answer.status_code == 200 and "default-src 'none'" in answer.headers['content-security-policy']
  )
  assert 'http://' not in text and 'https://' not in text and 'innerHTML' not in text
