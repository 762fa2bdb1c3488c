"""Bodies of requests: what is asked for is done, or refused in a sentence."""

import dataclasses
import json

import pytest

from lwz.serving import protocol

LIMITS = protocol.Limits(
  model='policy',
  temperature=0.8,
  top_p=1.0,
  top_k=0,
  max_tokens=100,
  max_prompt_tokens=50,
  max_choices=4,
  max_messages=6,
)
USER = {'role': 'user', 'content': 'Write.'}
IMAGE = {'type': 'image_url', 'image_url': {'url': 'http://a/b.png'}}


def chat(**body):
  return protocol.chat({'messages': [USER], **body}, LIMITS)


def completion(**body):
  return protocol.completion({'prompt': 'Once', **body}, LIMITS)


def test_what_is_not_said_is_as_the_server_says():
  asked = chat()
  assert asked == protocol.Asked((('user', 'Write.'),), 1, None, (), 100, False, False, False)
  assert completion().prompt == 'Once'


def test_what_is_said_is_asked_for():
  asked = chat(
    model='policy',
    n=3,
    seed=7,
    stop='END',
    max_completion_tokens=9,
    stream=True,
    stream_options={'include_usage': True},
    logprobs=True,
    temperature=0.8,
    top_p=1,
    user='me',
    metadata={'a': 'b'},
  )
  assert (asked.choices, asked.seed, asked.stops, asked.max_tokens) == (3, 7, ('END',), 9)
  assert asked.logprobs and asked.stream and asked.usage
  assert completion(max_tokens=5, logprobs=0).logprobs
  assert completion(prompt=['Once']).prompt == 'Once'
  assert completion(prompt=[1, 2]).prompt == (1, 2)
  parts = [{'type': 'text', 'text': 'Wri'}, {'type': 'text', 'text': 'te.'}]
  told = [{'role': 'developer', 'content': 'Be brief.'}, {'role': 'user', 'content': parts}]
  assert chat(messages=told).prompt == (('system', 'Be brief.'), ('user', 'Write.'))


@pytest.mark.parametrize(
  'body, param, message',
  [
    ({'messages': []}, 'messages', 'send 1 to 6, not 0'),
    ({'messages': [USER] * 7}, 'messages', 'send 1 to 6, not 7'),
    ({'messages': [{'role': 'tool', 'content': 'x'}]}, 'messages', 'messages.0.role'),
    ({'messages': [{'role': 'user', 'content': None}]}, 'messages', 'messages.0.content: Input'),
    ({'messages': [{'role': 'user', 'content': [IMAGE]}]}, 'messages', "content.0.type: .*'text'"),
    ({'messages': ['Write.']}, 'messages', 'messages.0: send an object'),
    ({'n': 5}, 'n', 'at most 4 choices'),
    ({'n': 0}, 'n', 'greater than or equal to 1'),
    ({'n': True}, 'n', 'valid integer'),
    ({'seed': -1}, 'seed', 'greater than or equal to 0'),
    ({'seed': 2**32}, 'seed', 'less than 4294967296'),
    ({'max_tokens': 101}, 'max_tokens', 'at most 100 tokens'),
    ({'max_tokens': 3, 'max_completion_tokens': 3}, 'max_tokens', 'not both'),
    ({'temperature': 0.7}, 'temperature', 'temperature=0.8'),
    ({'temperature': 0}, 'temperature', 'temperature=0.8'),
    ({'top_p': 0.9}, 'top_p', 'top_p=1'),
    ({'presence_penalty': 0.5}, 'presence_penalty', 'without penalties'),
    ({'logit_bias': {'5': -100}}, 'logit_bias', 'without biases'),
    ({'top_logprobs': 5, 'logprobs': True}, 'top_logprobs', 'sampled tokens alone'),
    ({'tools': [{'type': 'function'}]}, 'tools', 'calls no tools'),
    ({'response_format': {'type': 'json_object'}}, 'response_format', 'plain text'),
    ({'stop': ['a'] * 5}, 'stop', 'at most 4 texts'),
    ({'stop': ''}, 'stop', '1 to 256 characters'),
    ({'stream_options': {'include_usage': True}}, 'stream_options', 'stream=true'),
    ({'best': 1}, 'best', 'not permitted'),
    ({'best_of': 2}, 'best_of', 'no reward model to rank by'),
    ({'n': 2, 'best_of': 3}, 'best_of', 'no reward model to rank by'),
    ({'n': 2, 'best_of': 1}, 'best_of', 'no n=2 best'),
  ],
)
def test_what_cannot_be_done_is_refused_by_name(body, param, message):
  with pytest.raises(protocol.Refused, match=message) as refused:
    chat(**body)
  assert refused.value.status == 400
  assert refused.value.body['error']['param'] == param


@pytest.mark.parametrize(
  'body, param',
  [
    ({'prompt': ['a', 'b']}, 'prompt'),
    ({'prompt': [1, 'b']}, 'prompt'),
    ({'prompt': {}}, 'prompt'),
    ({'echo': True}, 'echo'),
    ({'suffix': 'x'}, 'suffix'),
    ({'best_of': 3}, 'best_of'),
    ({'logprobs': 1}, 'logprobs'),
  ],
)
def test_a_raw_completion_refuses_what_it_cannot_do(body, param):
  with pytest.raises(protocol.Refused) as refused:
    completion(**body)
  assert refused.value.body['error']['param'] == param


def test_the_best_of_several_are_asked_for_where_a_reward_model_ranks():
  ranked = dataclasses.replace(LIMITS, ranks=True)

  def asked(**body):
    found = protocol.chat({'messages': [USER], **body}, ranked)
    return found.choices, found.best

  assert (asked(), asked(n=3), asked(best_of=1)) == ((1, 0), (3, 0), (1, 0))
  assert (asked(best_of=4), asked(n=2, best_of=3), asked(n=2, best_of=2)) == (
    (4, 1),
    (3, 2),
    (2, 2),
  )
  assert asked(n=2, best_of=2, stream=True) == (2, 0)  # all of them, as they come
  unranked = chat(n=2, best_of=2)
  assert (unranked.choices, unranked.best) == (2, 0)
  found = protocol.completion({'prompt': 'Once', 'best_of': 3}, ranked)
  assert (found.choices, found.best) == (3, 1)
  for body, message in (
    ({'best_of': 5}, 'best_of=5: ask for at most 4'),
    ({'best_of': 0}, 'best_of: Input should be greater'),
    ({'best_of': 3, 'stream': True}, 'stream: .* no best_of'),
    ({'best_of': 2, 'n': 3}, 'no n=3 best'),
  ):
    with pytest.raises(protocol.Refused, match=message) as refused:
      asked(**body)
    assert refused.value.status == 400


def test_a_model_that_is_not_here_is_not_found():
  with pytest.raises(protocol.Refused, match="no model 'gpt'") as refused:
    chat(model='gpt')
  assert (refused.value.status, refused.value.body['error']['code']) == (404, 'model_not_found')


@pytest.mark.parametrize(
  'body',
  [
    b'',
    b'{',
    b'\xff\xfe',
    b'{"a": NaN}',
    b'{"a": -Infinity}',
    b'{"a": "\\ud800"}',
    b'[' * 100_000,
    b'{"a":' * 40 + b'1' + b'}' * 40,
    b'1' * 5_000,
    b'"\\' + b'\\"' * 100_000,
  ],
  ids=range(10),
)
def test_what_is_no_json_is_refused(body):
  with pytest.raises(protocol.Refused) as refused:
    protocol.parse(body)
  assert refused.value.status == 400 and len(str(refused.value)) < 250


def test_brackets_in_a_text_are_no_depth():
  body = {'prompt': '[{' * 100 + '"\\', 'n': [[1]]}
  assert protocol.parse(json.dumps(body).encode()) == body
