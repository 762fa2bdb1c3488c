"""The client of an OpenAI-compatible endpoint, against a scripted server on loopback."""

import itertools
import json
import threading
import time

import pytest

from lwz.judge import client, reply_cache
from lwz.judge import http as http_lib
from tests.rollout import scripted

KEY = 'sk-0123456789-secret'


def to(server, **changes):
  return client.Endpoint(server.url, 'judge', **{'backoff': 0.001, **changes})


def ask(text, sample=0, **sampling):
  return client.Request([{'role': 'user', 'content': text}], sampling, sample)


def echo(number, payload):
  return payload['messages'][-1]['content'].upper()


def texts(replies):
  return [reply.text for reply in sorted(replies, key=lambda r: r.index)]


def counted(replies, price_in=0.0, price_out=0.0):
  usage = client.Usage()
  for reply in replies:
    usage.add(reply, price_in, price_out)
  return usage


def test_every_request_is_answered_under_its_index():
  with scripted.serve(echo) as server:
    replies = list(client.write(to(server), [ask(f'a{i}') for i in range(20)]))
  assert texts(replies) == [f'A{i}' for i in range(20)]
  assert all((r.tokens_in, r.tokens_out, r.finished, r.tries) == (10, 5, True, 1) for r in replies)


def test_the_payload_is_the_protocols():
  with scripted.serve(echo) as server:
    list(client.write(to(server), [ask('你好 \ud800', temperature=0.5, max_tokens=7)]))
  path, payload, headers = server.seen[0]
  assert path == '/v1/chat/completions'
  assert payload == {
    'model': 'judge',
    'messages': [{'role': 'user', 'content': '你好 \ud800'}],
    'temperature': 0.5,
    'max_tokens': 7,
  }
  assert headers['Content-Type'] == 'application/json' and 'Authorization' not in headers


def test_a_text_goes_to_completions():
  answer = {'choices': [{'text': 'on', 'finish_reason': 'length'}]}
  with scripted.serve(lambda number, payload: answer) as server:
    (reply,) = client.write(to(server), [client.Request('Once', {'stop': ['</answer>']})])
  assert server.seen[0][:2] == (
    '/v1/completions',
    {'model': 'judge', 'prompt': 'Once', 'stop': ['</answer>']},
  )
  assert (reply.text, reply.finished, reply.tokens_in) == ('on', False, 0)


FAULTS = {
  'nothing': scripted.hang_up,
  'half an answer': scripted.half,
  'not JSON': scripted.status(200, b'<html>busy</html>'),
  'no UTF-8': scripted.status(200, b'\xff\xfe'),
  'no choices': {'choices': []},
  'a list': [1, 2],
  'a message that is none': {'choices': [{'message': 'hm'}]},
  'null': scripted.status(200, b'null'),
  'an error with 200': {'error': {'message': 'overloaded'}},
  'an empty text': scripted.completion('  ', None),
  'an error as the reason': scripted.completion('half', 'error'),
  'no content': scripted.completion(None),
  '429': scripted.status(429, retry_after='0.01'),
  '429 with a date': scripted.status(429, retry_after='Wed, 21 Oct 2015 07:28:00 GMT'),
  '429 with garbage': scripted.status(429, retry_after='soon'),
  '500': scripted.status(500),
  '503': scripted.status(503, b'\x00\xff'),
}


@pytest.mark.parametrize('fault', FAULTS.values(), ids=FAULTS)
def test_a_fault_that_passes_is_tried_again(fault):
  with scripted.serve(lambda n, p: fault if n < 2 else 'at last') as server:
    (reply,) = client.write(to(server, tries=3), [ask('a')])
  assert (reply.text, reply.fault, reply.tries) == ('at last', '', 3)


@pytest.mark.parametrize('fault', FAULTS.values(), ids=FAULTS)
def test_a_fault_that_stays_masks_its_own_reply(fault):
  def behave(number, payload):
    return fault if payload['messages'][0]['content'] == 'bad' else 'good'

  with scripted.serve(behave) as server:
    asked = [ask('a'), ask('bad'), ask('b')]
    replies = list(client.write(to(server, tries=2), asked))
  failed = next(r for r in replies if r.index == 1)
  assert texts(replies) == ['good', '', 'good'] and failed.fault and failed.tries == 2
  usage = counted(replies)
  assert (usage.replies, usage.failed, usage.retries) == (3, 1, 1)
  assert sum(usage.faults.values()) == 1


def test_an_empty_text_that_the_model_ended_is_its_answer():
  with scripted.serve(lambda n, p: '') as server:
    (reply,) = client.write(to(server), [ask('a')])
  assert (reply.text, reply.fault, reply.finished, len(server.seen)) == ('', '', True, 1)


@pytest.mark.parametrize('reason', ['end_turn', 'eos_token'])
def test_servers_that_name_the_end_otherwise_end_too(reason):
  with scripted.serve(lambda n, p: scripted.completion('', reason)) as server:
    (reply,) = client.write(to(server), [ask('a')])
  assert (reply.text, reply.fault, len(server.seen)) == ('', '', 1)


def test_a_count_of_tokens_that_is_none_is_zero(tmp_path):
  answer = scripted.completion('yes', 'stop')
  answer['usage'] = {'prompt_tokens': 10**400, 'completion_tokens': 2**63}
  with scripted.serve(lambda n, p: answer) as server:
    (reply,) = client.write(to(server), [ask('a')], cache=tmp_path / 'r.sqlite')
  assert (reply.text, reply.tokens_in, reply.tokens_out) == ('yes', 0, 0)


def said(reason, **message):
  answer = scripted.completion(None, reason)
  answer['choices'][0]['message'] |= message
  return answer


@pytest.mark.parametrize(
  'answer, cause',
  [
    (said('length', reasoning_content='hm'), 'nothing but reasoning'),
    (said('stop', reasoning='hm'), 'nothing but reasoning'),
    (
      {'choices': [{'message': {'reasoning': 'hm'}, 'finish_reason': 'length'}]},
      'nothing but reasoning',
    ),
    (said('length', content='', reasoning_content='hm'), 'nothing but reasoning'),
    (said('length'), 'nothing at the limit'),
    (said('length', content=''), 'nothing at the limit'),
    (said('stop', refusal='No.'), 'withheld'),
    (said('content_filter', content=''), 'withheld'),
  ],
)
def test_no_answer_is_named_and_not_tried_again(answer, cause):
  with scripted.serve(lambda n, p: answer) as server:
    (reply,) = client.write(to(server), [ask('a')])
  assert reply.fault.startswith(cause) and len(server.seen) == 1
  assert counted([reply]).faults == {cause: 1}


def test_a_server_that_drips_ends_at_the_deadline():
  def drip(handler):
    handler.send_response(200)
    handler.send_header('Content-Length', '1000')
    handler.end_headers()
    for _ in range(100):
      handler.wfile.write(b' ')
      time.sleep(0.02)

  began = time.monotonic()
  with scripted.serve(lambda n, p: drip) as server:
    (reply,) = client.write(to(server, timeout=1, deadline=0.3, tries=6), [ask('a')])
    assert time.monotonic() - began < 1.5
  assert reply.fault == 'deadline: no whole answer in 0.3 seconds'


def test_parameters_that_a_server_does_not_know_are_left_out():
  sends = ('max_completion_tokens', 'stop')
  with scripted.serve(echo) as server:
    list(
      client.write(to(server, sends=sends), [ask('a', temperature=0.5, top_p=1.0, max_tokens=7)])
    )
    list(client.write(to(server, sends=()), [ask('a', temperature=0.5)]))
    list(client.write(to(server), [ask('a', temperature=None, top_p=None)]))
  assert [sorted(payload) for payload in server.payloads] == [
    ['max_completion_tokens', 'messages', 'model'],
    ['messages', 'model'],
    ['messages', 'model'],
  ]
  assert server.payloads[0]['max_completion_tokens'] == 7


def test_milliseconds_of_retry_after_come_first():
  fault = scripted.status(429, retry_after='60', retry_after_ms='300')
  with scripted.serve(lambda n, p: fault if n == 0 else 'ok') as server:
    began = time.monotonic()
    (reply,) = client.write(to(server), [ask('a')])
  assert reply.text == 'ok' and 0.3 <= time.monotonic() - began < 10


def test_what_another_try_cannot_mend_is_not_tried_again():
  with scripted.serve(lambda n, p: scripted.status(400, b'context length exceeded')) as server:
    (reply,) = client.write(to(server), [ask('a')])
  assert (reply.fault, len(server.seen)) == (
    'request too long: context length exceeded',
    1,
  )


def test_a_server_that_is_not_there_and_one_that_hangs():
  with scripted.serve(echo) as server:
    pass
  (reply,) = client.write(to(server, tries=2), [ask('a')])
  assert reply.fault.startswith('connection')
  done = threading.Event()
  with scripted.serve(lambda n, p: str(done.wait(5))) as server:
    (reply,) = client.write(to(server, tries=1, timeout=0.1), [ask('a')])
    done.set()
  assert reply.fault.startswith('timeout')


def test_a_request_that_is_no_json_masks_itself():
  asked = [ask('a', temperature=float('nan')), ask('b', stop={1, 2}), ask('c')]
  with scripted.serve(echo) as server:
    replies = list(client.write(to(server), asked))
  assert texts(replies) == ['', '', 'C'] and len(server.seen) == 1
  assert {r.fault.split(':')[0] for r in replies if r.fault} == {'request'}


def test_retry_after_is_waited_for():
  behave = lambda n, p: scripted.status(429, retry_after='0.3') if n == 0 else 'ok'  # noqa: E731
  with scripted.serve(behave) as server:
    began = time.monotonic()
    (reply,) = client.write(to(server), [ask('a')])
  assert reply.text == 'ok' and time.monotonic() - began >= 0.3


def test_no_more_than_concurrency_are_in_flight():
  def behave(number, payload):
    time.sleep(0.02)
    return 'ok'

  with scripted.serve(behave) as server:
    assert (
      len(list(client.write(to(server, concurrency=3), [ask(str(i)) for i in range(12)]))) == 12
    )
  assert server.most_in_flight == 3


def test_requests_may_be_endless_and_reading_may_stop():
  taken = []
  endless = (taken.append(i) or ask(str(i)) for i in itertools.count())
  with scripted.serve(echo) as server:
    some = list(itertools.islice(client.write(to(server, concurrency=2), endless), 5))
  assert len(some) == 5 and len(taken) <= 5 + 4
  assert not [t for t in threading.enumerate() if 'run_forever' in t.name]


def test_what_the_cache_holds_is_not_asked_again(tmp_path):
  asked = [ask('a'), ask('b'), ask('b'), ask('b', sample=1), ask('b', temperature=1.0)]
  cache = tmp_path / 'deep' / 'cache.sqlite'
  with scripted.serve(echo) as server:
    first = list(client.write(to(server), asked, cache=cache))
    assert len(server.seen) == 4  # 'b' twice, with the same everything, is one question
    again = list(client.write(to(server), asked, cache=cache))
    assert len(server.seen) == 4 and all(r.cached for r in again)
    assert texts(first) == texts(again) == ['A', 'B', 'B', 'B', 'B']
    list(client.write(client.Endpoint(server.url, 'other'), asked[:1], cache=cache))
    assert len(server.seen) == 5


def test_failures_are_not_kept(tmp_path):
  behave = lambda n, p: scripted.status(500) if n == 0 else 'ok'  # noqa: E731
  with scripted.serve(behave) as server:
    replies = [
      next(client.write(to(server, tries=1), [ask('a')], cache=tmp_path / 'c')) for _ in range(2)
    ]
  assert [bool(r.fault) for r in replies] == [True, False]


def test_a_file_that_is_no_cache_is_named(tmp_path):
  (tmp_path / 'c').write_text('not a database, but long enough to be taken for one' * 30)
  with scripted.serve(echo) as server, pytest.raises(ValueError, match=r'c: no cache of replies'):
    list(client.write(to(server), [ask('a')], cache=tmp_path / 'c'))
  with pytest.raises(ValueError, match='no cache of replies'):
    reply_cache.ReplyCache(tmp_path)  # a folder


def test_cost_and_tokens_are_counted_once(tmp_path):
  with scripted.serve(echo) as server:
    tallies = [
      counted(client.write(to(server), [ask('a')], cache=tmp_path / 'c'), 3.0, 12.0)
      for _ in range(2)
    ]
  assert (tallies[0].tokens_in, tallies[0].tokens_out) == (10, 5)
  assert tallies[0].cost == pytest.approx((10 * 3 + 5 * 12) / 1e6)
  assert (tallies[1].cached, tallies[1].cost, tallies[1].tokens_in) == (1, 0.0, 0)


def test_the_key_travels_and_stays_secret(tmp_path, monkeypatch, caplog):
  monkeypatch.setenv('JUDGE_KEY', KEY)

  def behave(number, payload):
    text = payload['messages'][0]['content']
    return scripted.status(401, f'no such key {KEY}'.encode()) if text == 'bad' else 'ok'

  with scripted.serve(behave) as server:
    judge = to(server, key_env='JUDGE_KEY')
    replies = list(client.write(judge, [ask('bad'), ask('a')], cache=tmp_path / 'c'))
  assert server.seen[0][2]['Authorization'] == f'Bearer {KEY}'
  assert KEY not in repr(replies) + repr(judge) + caplog.text
  assert not [p for p in tmp_path.iterdir() if KEY.encode() in p.read_bytes()]
  assert 'no such key ***' in repr(replies)


@pytest.mark.parametrize('value', ['', 'sk-\nX-Evil: 1', 'sk-ключ'])
def test_a_key_that_is_none_is_refused_unshown(value, monkeypatch):
  monkeypatch.setenv('JUDGE_KEY', value)
  with pytest.raises(ValueError, match='JUDGE_KEY holds no API key') as caught:
    list(client.write(client.Endpoint('http://127.0.0.1:1/v1', 'm', 'JUDGE_KEY'), [ask('a')]))
  assert not value or value not in str(caught.value)


@pytest.mark.parametrize(
  'changes, complaint',
  [
    ({'url': 'http://me:pw@host/v1'}, 'no password'),
    ({'url': 'http://host/v1?key=pw'}, 'no password'),
    ({'url': 'localhost:8000'}, 'should read'),
    ({'tries': 0}, 'tries=0'),
    ({'tokens_per_minute': 0}, 'tokens_per_minute'),
  ],
)
def test_an_endpoint_that_cannot_be_is_refused(changes, complaint):
  with pytest.raises(ValueError, match=complaint) as caught:
    client.Endpoint(**{'url': 'http://host/v1', **changes})
  assert 'pw@' not in str(caught.value) and 'key=pw' not in str(caught.value)


def test_post_takes_any_json_with_the_same_patience():
  def behave(number, payload):
    if number == 0:
      return scripted.status(503)
    return {'scores': [len(pair['answer']) for pair in payload['pairs']]}

  pairs = [{'prompt': 'p', 'answer': 'ab'}, {'prompt': 'p', 'answer': 'abc'}]
  with scripted.serve(behave) as server:
    scorer = client.Endpoint(f'{server.url}/score', backoff=0.001)
    assert http_lib.post(scorer, {'pairs': pairs}) == {'scores': [2, 3]}
    assert server.seen[-1][0] == '/v1/score'
  with pytest.raises(http_lib.Failed, match='connection'):
    http_lib.post(client.Endpoint(server.url, backoff=0.001, tries=2), {})


def test_the_cache_is_plain_json_for_whoever_looks(tmp_path):
  with scripted.serve(echo) as server:
    list(client.write(to(server), [ask('a')], cache=tmp_path / 'c'))
    name = reply_cache.key(
      [
        server.url,
        '/chat/completions',
        {'model': 'judge', 'messages': [{'role': 'user', 'content': 'a'}]},
        0,
      ]
    )
  cache = reply_cache.ReplyCache(tmp_path / 'c')
  assert json.loads(json.dumps(cache.get(name)))['text'] == 'A'
  cache.close()


def test_requests_are_spread_over_the_minute():
  with scripted.serve(echo) as server:
    began = time.monotonic()
    slow = to(server, requests_per_minute=3000)  # one in 20 ms
    list(client.write(slow, [ask(str(i)) for i in range(11)]))
    by_requests, began = time.monotonic() - began, time.monotonic()
    # 10 of 60,000 tokens a minute are asked for, 100 more allowed for: about 0.1 s each.
    slow = to(server, tokens_per_minute=60_000)
    list(client.write(slow, [ask('x' * 30, max_tokens=100) for _ in range(3)]))
    by_tokens = time.monotonic() - began
  assert by_requests >= 0.2 and by_tokens >= 0.1


def test_what_was_booked_and_not_used_is_given_back():
  with scripted.serve(echo) as server:
    began = time.monotonic()
    # A minute's budget is booked for each, and 15 tokens are used.
    careful = to(server, concurrency=1, tokens_per_minute=60_000)
    list(client.write(careful, [ask(str(i), max_tokens=60_000) for i in range(3)]))
  assert time.monotonic() - began < 30


def test_a_server_that_asks_for_time_gets_it_from_all():
  times = {}

  def behave(number, payload):
    times[number] = time.monotonic()
    if payload['messages'][0]['content'] == 'a' and number < 2:
      return scripted.status(429, retry_after='0.4')
    time.sleep(0.1)  # so that the 429 is there first
    return 'ok'

  with scripted.serve(behave) as server:
    replies = list(client.write(to(server, concurrency=2), [ask('a'), ask('b'), ask('c')]))
  assert texts(replies) == ['ok'] * 3
  assert times[2] - times[0] >= 0.35  # the third to be sent, whichever it was


def chunk(reason=None, **delta):
  choice = {'index': 0, 'delta': delta, 'finish_reason': reason}
  return json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})


def events(*parts, end='\n\n', done=True):
  """A behaviour: a stream of server-sent events, without a length, as servers send it."""

  def send(handler):
    handler.send_response(200)
    handler.send_header('Content-Type', 'text/event-stream')
    handler.send_header('Connection', 'close')
    handler.end_headers()
    for part in [*parts, '[DONE]'] if done else parts:
      handler.wfile.write((f': alive{end}data: {part}{end}').encode())
      handler.wfile.flush()
    handler.close_connection = True

  return send


USAGE = json.dumps({'choices': [], 'usage': {'prompt_tokens': 7, 'completion_tokens': 3}})


@pytest.mark.parametrize(
  'stream, text, finished',
  [
    (
      events(chunk(content='The '), chunk(content='se\u0101'), chunk('stop'), USAGE),
      'The seā',
      True,
    ),
    (events(chunk(content='cut'), chunk('max_tokens'), USAGE), 'cut', False),
    (events(chunk(content='cut'), chunk('length'), USAGE, end='\r\n\r\n'), 'cut', False),
    (events(chunk(role='assistant', content=''), chunk('stop'), USAGE), '', True),
    (events(chunk(reasoning_content='hm'), chunk(content='A'), chunk('stop'), USAGE), 'A', True),
  ],
)
def test_a_long_answer_is_streamed(stream, text, finished):
  with scripted.serve(lambda n, p: stream) as server:
    (reply,) = client.write(to(server, stream=100), [ask('a', max_tokens=100)])
  assert server.payloads[0]['stream'] is True
  assert server.payloads[0]['stream_options'] == {'include_usage': True}
  assert (reply.text, reply.finished, reply.fault) == (text, finished, '')
  assert (reply.tokens_in, reply.tokens_out) == (7, 3)


@pytest.mark.parametrize(
  'stream, cause, tries',
  [
    (events(chunk(content='half'), done=False), 'garbage: a stream that breaks off', 2),
    (events('{"error": {"message": "overloaded"}}'), 'garbage: the server says', 2),
    (events(chunk(content='x'), chunk('error')), 'garbage: finish_reason is error', 2),
    (events(chunk(reasoning_content='hm'), chunk('length')), 'nothing but reasoning', 1),
    (events(chunk(content='half'), '{"choi'), 'garbage', 2),
    (events('{"choices": [{"delta": "text"}]}'), 'garbage: a delta that is str', 2),
    (events('{"choices": 3}'), 'garbage', 2),
  ],
)
def test_a_stream_without_an_answer_is_named(stream, cause, tries):
  with scripted.serve(lambda n, p: stream) as server:
    (reply,) = client.write(to(server, stream=1, tries=2), [ask('a', max_tokens=9)])
  assert reply.fault.startswith(cause) and len(server.seen) == tries


def test_a_stream_that_never_ends_is_bounded_in_time_and_bytes(monkeypatch):
  monkeypatch.setattr(http_lib, '_MAX_BYTES', 10_000)
  flood = events(*[chunk(content='x' * 1_000)] * 50)

  def drip(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(40):
      handler.wfile.write(b': alive\n\n')
      time.sleep(0.05)

  for behave, cause in ((flood, 'garbage: an answer of more than'), (drip, 'deadline')):
    with scripted.serve(lambda n, p, behave=behave: behave) as server:
      began = time.monotonic()
      (reply,) = client.write(to(server, stream=1, deadline=0.5), [ask('a', max_tokens=9)])
    assert reply.fault.startswith(cause) and time.monotonic() - began < 4


def test_only_requests_for_many_tokens_are_streamed_and_the_cache_sees_no_difference(tmp_path):
  cache = tmp_path / 'replies.sqlite'
  with scripted.serve(echo) as server:
    for stream in (0, 200, 100, 0):
      (reply,) = client.write(to(server, stream=stream), [ask('a', max_tokens=100)], cache=cache)
      assert reply.text == 'A'
    list(client.write(to(server, stream=1), [ask('a'), ask('b', max_tokens=9)]))
  assert [payload.get('stream', False) for payload in server.payloads] in (
    [False, False, True],
    [False, True, False],
  )


def complaint(message, code=400):
  return scripted.status(code, json.dumps({'error': {'message': message}}).encode())


COMPLETION = (
  "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
  "'max_completion_tokens' instead."
)


@pytest.mark.parametrize(
  'name, message',
  [
    ('max_tokens', COMPLETION),
    ('top_k', 'Unrecognized request argument supplied: top_k'),
    ('stream_options', 'body -> stream_options: extra fields not permitted'),
    ('stream', "Unsupported value: 'stream' is not supported with this model"),
  ],
)
def test_a_server_that_complains_is_asked_in_its_own_words(name, message):
  def behave(number, payload):
    return complaint(message) if name in payload else echo(number, payload)

  asked = [ask(text, max_tokens=9, top_k=20) for text in 'abcdefgh']
  with scripted.serve(behave) as server:
    replies = list(client.write(to(server, stream=5, concurrency=2, tries=1), asked))
  assert texts(replies) == list('ABCDEFGH')
  # Those that were on their way met the complaint too; nobody after them.
  assert len(server.seen) <= 8 + 2
  last = server.payloads[-1]
  assert last.get('max_tokens', last.get('max_completion_tokens')) == 9
  assert (name == 'max_tokens') == ('max_completion_tokens' in last)


def test_a_parameter_that_would_change_the_answers_is_named_and_not_left_out():
  said = "Unsupported value: 'temperature' does not support 0 with this model."
  with scripted.serve(lambda n, p: complaint(said)) as server:
    (reply,) = client.write(to(server), [ask('a', temperature=0.0, max_tokens=9)])
  assert (
    reply.fault.endswith('; leave temperature out: judge.sends or eval.sends')
    and len(server.seen) == 1
  )
  too_long = 'max_tokens or max_completion_tokens is too large: the maximum context length is 8'
  with scripted.serve(lambda n, p: complaint(too_long)) as server:
    (reply,) = client.write(to(server), [ask('a', max_tokens=9)])
  assert reply.fault.startswith('request too long') and len(server.seen) == 1


def test_names_of_parameters_are_the_protocols():
  with pytest.raises(ValueError, match="no parameter 'temprature'; choose from temperature"):
    client.Endpoint('http://h/v1', sends=('temprature',))
