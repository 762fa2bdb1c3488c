"""Reward servers in the forms that people run, on loopback."""

import collections
import time

import numpy as np
import pytest

from experiments import base
from lwz import types
from lwz.reward import components, protocols
from lwz.reward import format as format_lib
from lwz.rl import registry, scoring
from tests.rollout import scripted as server_lib

PAIRS = [('Write.', f'Text {i}.') for i in range(10)]
VALUES = {f'Write.\n\nText {i}.': i / 10 for i in range(10)}


def classify(payload):
  found = [{'index': i, 'probs': [VALUES[text]]} for i, text in enumerate(payload['input'])]
  return {'data': found[::-1]}  # the index counts, not the place


def pooled(payload):
  """Scores of all tokens of every second text, of the last one of the others."""
  found = [VALUES[text] for text in payload['input']]
  shown = [[[9.0], [x]] if i % 2 else [x] for i, x in enumerate(found)]
  return {'data': [{'index': i, 'object': 'pooling', 'data': x} for i, x in enumerate(shown)]}


ANSWERS = {
  '/classify': classify,
  '/v1/pooling/': pooled,
  '/get_reward': lambda payload: {'rewards': [VALUES[text] for text in payload['query']]},
  '/score': lambda payload: {'scores': [VALUES['\n\n'.join(p.values())] for p in payload['pairs']]},
}


def scorer(url, faults=None, tries=1, **changes):
  c = base.get_config('micro')
  c.reward.update(changes)
  return registry.scorer(c, None, url, faults, tries=tries, backoff=0.001)


@pytest.mark.parametrize('path', ANSWERS)
def test_every_protocol_gives_the_same_rewards_and_a_fault_masks_its_call(path):
  def behave(number, payload):
    return server_lib.status(500) if number else ANSWERS[path](payload)

  with server_lib.serve(behave) as server:
    url = server.url.removesuffix('/v1') + path
    rewards = scorer(f'org/model@{url}')(PAIRS)
  np.testing.assert_array_equal(rewards, [*np.arange(8) / 10, np.nan, np.nan])
  sent = server.seen[0][1]
  assert sent.get('model', 'org/model') == 'org/model' and server.seen[0][0] == path.rstrip('/')


def test_a_chat_is_of_one_pair_and_only_vllm_takes_it():
  def behave(number, payload):
    (asked, answer) = payload['messages']
    assert (asked['role'], answer['role']) == ('user', 'assistant')
    probs = [VALUES[f'{asked["content"]}\n\n{answer["content"]}']]
    return {'data': [{'index': 0, 'probs': probs}]}

  with server_lib.serve(behave) as server:
    url = server.url.removesuffix('/v1')
    rewards = scorer(f'{url}/classify', server_chat=True)(PAIRS[:3])
  np.testing.assert_array_equal(rewards, [0.0, 0.1, 0.2])
  c = base.get_config('micro')
  c.reward.model, c.reward.server_chat = f'{url}/score', True
  with pytest.raises(ValueError, match=r'reward\.server_chat: .*/score takes no messages; name'):
    registry.check_rewards(c)
  c.reward.model = ''
  with pytest.raises(ValueError, match=r'server_chat=True, and no reward model is a server'):
    registry.check_rewards(c)


@pytest.mark.parametrize(
  ('path', 'answer'),
  [
    ('/classify', {'data': [{'index': 0, 'probs': [0.2, 0.8]}]}),  # two classes have no score
    ('/classify', {'data': [{'index': 1, 'probs': [0.2]}]}),
    ('/classify', {'data': [{'index': 0, 'probs': []}]}),
    ('/classify', {'data': [{'index': 0, 'probs': 0.5}]}),
    ('/classify', {'data': [[0.5]]}),
    ('/classify', {'data': None}),
    ('/pooling', {'data': [{'index': 0, 'data': [[0.1, 0.2]]}]}),  # an embedding
    ('/pooling', {'data': [{'index': 0, 'data': 'AACAPw=='}]}),
    ('/get_reward', {'rewards': 0.5}),
    ('/get_reward', {'rewards': [[0.5]]}),
    ('/get_reward', {'rewards': [True]}),
    ('/get_reward', [0.5]),
    ('/score', {'error': 'busy'}),
  ],
)
def test_an_answer_of_another_form_is_named(path, answer):
  protocol = protocols.of(f'http://host{path}')
  with pytest.raises(ValueError, match='asked for 1 scores and gave '):
    protocols.read(answer, 1, protocol)


def test_a_wrong_number_of_scores_is_told():
  protocol = protocols.of('http://host/get_reward')
  with pytest.raises(ValueError, match='asked for 1 scores and gave 2, '):
    protocols.read({'rewards': [0.5, 0.1]}, 1, protocol)


def test_a_score_that_is_not_finite_is_none():
  faults = collections.Counter()
  with server_lib.serve(lambda n, p: server_lib.status(200, b'{"rewards": [NaN, 0.5]}')) as server:
    rewards = scorer(server.url.removesuffix('/v1') + '/get_reward', faults)(PAIRS[:2])
  np.testing.assert_array_equal(rewards, [np.nan, 0.5])
  assert faults == {'garbage': 1}


MALFORMED = {
  'truncated': server_lib.status(200, b'{"scores": [0.1, 0.'),
  'a page': server_lib.status(200, b'<html>Bad Gateway</html>'),
  'one too few': {'scores': [0.5]},
  'an error': {'error': 'busy'},
}


@pytest.mark.parametrize('kind', MALFORMED)
def test_a_malformed_reply_is_asked_for_again_and_then_masks_its_call(kind):
  """Of the calls of 8 and of 2 pairs the second meets it `bad` times, of 3 tries."""

  def behave(number, payload):
    return MALFORMED[kind] if 0 < number <= bad else ANSWERS['/score'](payload)

  for bad in (2, 3):
    faults = collections.Counter()
    with server_lib.serve(behave) as server:
      rewards = scorer(server.url.removesuffix('/v1') + '/score', faults, tries=3)(PAIRS)
    last = [0.8, 0.9] if bad == 2 else [np.nan] * 2
    np.testing.assert_array_equal(rewards, [*np.arange(8) / 10, *last])
    assert +faults == ({} if bad == 2 else {'garbage': 1}) and len(server.seen) == 4


@pytest.mark.parametrize('kind', MALFORMED)
def test_an_address_that_never_gave_scores_ends_the_run(kind):
  with server_lib.serve(lambda number, payload: MALFORMED[kind]) as server:
    said = r'reward server http.*/score: garbage: .*; name an address that gives \{"scores": \[0\.7'
    with pytest.raises(ValueError, match=said):
      scorer(server.url.removesuffix('/v1') + '/score', tries=2)(PAIRS)
  assert len(server.seen) == 2


def test_what_servers_fail_by_is_counted_once():
  def behave(number, payload):
    return MALFORMED['a page'] if number == 1 else ANSWERS['/score'](payload)

  c = base.get_config('micro')
  c.judge.tries = 1
  with server_lib.serve(behave) as server:
    url = server.url.removesuffix('/v1') + '/score'
    rewards = {'writing': registry.writing_by(c, None, [url])}
    parsed = format_lib.parse('<think>So.</think><answer>Text 1.</answer>', 'think')
    sample = components.Sample(types.Prompt('p', 'Write.', 1, 2), '', parsed)
    for last in (0.1, np.nan, 0.1):
      np.testing.assert_array_equal(rewards['writing'].values([sample], 1), [last])
  assert scoring.failures(rewards) == {'judge/server_failed/garbage': 1.0}
  assert scoring.failures(rewards) == {}


def test_a_server_that_drips_is_not_waited_for():
  def drip(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
      handler.wfile.write(b' ')
      time.sleep(0.05)

  c = base.get_config('micro')
  with server_lib.serve(lambda number, payload: drip) as server:
    url = server.url.removesuffix('/v1') + '/classify'
    began = time.monotonic()
    c.judge.tries, c.judge.deadline = 1, 1
    rewards = registry.scorer(c, None, url)(PAIRS[:1])
  assert np.isnan(rewards).all() and time.monotonic() - began < 4
