"""A served policy writes what `generate` writes, whatever else it writes meanwhile."""

import concurrent.futures
import dataclasses

import jax
import pytest

pytest.importorskip('starlette')
from starlette import testclient

from experiments import generate as generate_experiment
from experiments import serve as experiment
from lwz.data import tokenizer
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.serving import http
from lwz.serving import text as text_lib
from lwz.stages import generate, serve
from lwz.store.hf import checkpoint as hf

REQUEST, SEED = 'the sea is wide', 7


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A Hugging Face model that has learnt nothing."""
  tok = tokenizer.train(['the sea is wide, and rivers run to the sea'] * 9, 384)
  config = dataclasses.replace(config_lib.preset('micro'), vocab_size=len(tok))
  path = tmp_path_factory.mktemp('models') / 'policy'
  hf.save(path, config, qwen.init(jax.random.key(0), config), tok)
  return str(path)


def config_of(folder, from_=experiment, **changes):
  c = from_.get_config('micro')
  c.init = folder
  c.rollout.max_tokens = 20
  c.update(changes)
  return c


def ask(app, path, body):
  client = testclient.TestClient(app, base_url='http://127.0.0.1')
  return client.post(f'/v1/{path}', json=body).json()


def test_the_tokens_of_a_seed_are_those_of_generate_while_others_are_written(
  folder, monkeypatch, capsys
):
  found = {}

  def serve_at(server, bound):
    bound.close()
    app = server.config.app
    messages = [{'role': 'user', 'content': REQUEST}]
    bodies = [
      *({'messages': messages, 'seed': seed, 'n': 1 + seed % 3} for seed in range(9)),
      *({'messages': [{'role': 'user', 'content': 'rivers'}], 'seed': n} for n in range(4)),
    ]
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
      replies = list(pool.map(lambda body: ask(app, 'chat/completions', body), bodies))
    found['together'] = replies[SEED]['choices'][0]['message']
    found['alone'] = ask(app, 'chat/completions', bodies[SEED])['choices'][0]['message']
    asked = {'messages': messages, 'logprobs': True, 'seed': SEED}
    found['logp'] = ask(app, 'chat/completions', asked)['choices'][0]['logprobs']['content']
    found['model'] = replies[0]['model']
    server._writer.close(0)
    assert server._writer.join(10)

  monkeypatch.setattr(http.Http, 'serve_at', serve_at)
  c = config_of(folder)
  c.serve.port = 0
  serve.check(c)
  serve.run(c)
  assert found['model'] == 'policy' and 'policy: the page' in capsys.readouterr().out
  (written,) = generate.write(config_of(folder, generate_experiment, seed=SEED), [REQUEST])
  thought, content = text_lib.parts(written.text, last=True)
  assert found['alone'] == found['together']
  assert found['alone']['content'] == content
  assert (found['alone']['reasoning_content'] or '') == thought
  assert [one['logprob'] for one in found['logp']] == pytest.approx(written.logp, abs=1e-5)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'init': 'random'}, 'has learnt nothing'),
    ({'rollout': {'max_tokens': 400}}, 'exceeds the 256 positions'),
    ({'rollout': {'slots': 0}}, 'rollout.slots=0: a server needs'),
    ({'serve': {'host': '0.0.0.0'}}, 'serve.host=0.0.0.0: others can reach it'),
    ({'serve': {'key_env': 'LWZ_NO_KEY'}}, 'serve.key_env=LWZ_NO_KEY: .* is not set'),
    ({'serve': {'host': 'nowhere.invalid'}}, r'others can reach it'),
    ({'serve': {'port': 70_000}}, 'serve.port=70000: choose a number from 0 to 65535'),
  ],
)
def test_what_cannot_be_served_is_refused_before_work(folder, changes, message):
  with pytest.raises(ValueError, match=message):
    serve.check(config_of(folder, **changes))


def test_a_server_without_its_extra_says_which(folder, monkeypatch):
  def missing(name):
    raise ModuleNotFoundError(name)

  monkeypatch.setattr(serve.importlib, 'import_module', missing)
  with pytest.raises(ValueError, match=r'pip install "lwz\[serve\]"'):
    serve.check(config_of(folder))
