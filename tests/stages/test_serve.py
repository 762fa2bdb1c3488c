"""A served policy writes what `generate` writes, whatever else it writes meanwhile."""

import concurrent.futures
import contextlib
import dataclasses
import math

import jax
import pytest
from etils import epath

pytest.importorskip('starlette')
from starlette import testclient

from experiments import export as export_experiment
from experiments import generate as generate_experiment
from experiments import grpo_think
from experiments import serve as experiment
from lwz.data import tokenizer
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.rl import best_of, registry
from lwz.runtime import tokenizers
from lwz.serving import http
from lwz.serving import text as text_lib
from lwz.stages import export, generate, serve
from lwz.store import checkpoint, model_source
from lwz.store.hf import checkpoint as hf
from tests import fakes

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


def serving(c, monkeypatch, use):
  """Returns what `use` makes of the application while it is served."""
  found = []

  def serve_at(server, bound):
    bound.close()
    found.append(use(server.config.app))
    server._writer.close(0)
    assert server._writer.join(10)

  monkeypatch.setattr(http.Http, 'serve_at', serve_at)
  c.serve.port = 0
  serve.check(c)
  serve.run(c)
  return found[0]


def test_the_tokens_of_a_seed_are_those_of_generate_while_others_are_written(
  folder, monkeypatch, capsys
):
  found = {}

  def use(app):
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

  serving(config_of(folder), monkeypatch, use)
  assert found['model'] == 'policy' and 'policy: the page' in capsys.readouterr().out
  (written,) = generate.write(config_of(folder, generate_experiment, seed=SEED), [REQUEST])
  thought, content = text_lib.parts(written.text, last=True)
  assert found['alone'] == found['together']
  assert found['alone']['content'] == content
  assert (found['alone']['reasoning_content'] or '') == thought
  assert [one['logprob'] for one in found['logp']] == pytest.approx(written.logp, abs=1e-5)


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
  """The same policy in each form: a run, and what its export writes."""
  path = tmp_path_factory.mktemp('sources')
  run, package = path / 'policy', path / 'lwz_test_models'
  tok = tokenizer.train(['the sea is wide, and rivers run to the sea'] * 9, 384)
  tokenizer.save(tok, run / 'tokenizer')
  config = dataclasses.replace(config_lib.preset('micro'), vocab_size=len(tok))
  model_source.keep(run, config)
  with contextlib.closing(checkpoint.Checkpoints(run)) as saved:
    saved.save(2, {'params': qwen.init(jax.random.key(0), config)}, {})
  fakes.keep_config(run, grpo_think.get_config('micro').to_dict())
  (run / 'metrics.jsonl').write_text('{"step": 0}\n')
  c = export_experiment.get_config('micro')
  c.init, c.export.folder = str(run), str(package)
  c.export.format, c.export.type = 'gguf', 'F32'
  export.check(c)
  export.run(c)
  (package / '__init__.py').write_text('')
  file = package / 'policy-F32.gguf'
  return {'run': str(run), 'file': str(file), 'package': f'gguf:{package.name}/{file.name}'}


@pytest.mark.parametrize('form', ['run', 'file', pytest.param('package', marks=pytest.mark.slow)])
def test_every_form_of_a_policy_is_served_with_its_own_greedy_tokens(
  form, sources, monkeypatch, tmp_path
):
  pytest.importorskip('gguf')
  monkeypatch.syspath_prepend(str(epath.Path(sources['run']).parent))
  greedy = {'temperature': 0.0, 'max_tokens': 20}

  def use(app):
    asked = {'messages': [{'role': 'user', 'content': REQUEST}], 'logprobs': True}
    return ask(app, 'chat/completions', asked)

  reply = serving(config_of(sources[form], rollout=greedy), monkeypatch, use)
  assert reply['model'] == ('policy' if form == 'run' else 'policy-F32')
  source = sources['file' if form == 'run' else form]  # one policy, whatever holds it
  (written,) = generate.write(config_of(source, generate_experiment, rollout=greedy), [REQUEST])
  decode = tokenizer.decoder(tokenizers.load(source))
  (choice,) = reply['choices']
  found = choice['logprobs']['content']
  assert [one['token'] for one in found] == [decode([token]) for token in written.ids]
  assert [one['logprob'] for one in found] == pytest.approx(written.logp, abs=1e-5)
  assert choice['message']['content'] == text_lib.parts(written.text, last=True).content


def test_best_of_returns_the_drafts_of_generate_that_the_reward_model_prefers(
  folder, monkeypatch, tmp_path
):
  config = dataclasses.replace(model_source.config(folder), scalar_head=True)
  judge = tmp_path / 'judge'
  hf.save(judge, config, qwen.init(jax.random.key(1), config), tokenizer.load(folder))
  reward = {'model': str(judge), 'mean': 0.0, 'std': 0.1}
  asked = {'messages': [{'role': 'user', 'content': REQUEST}], 'seed': SEED}

  def use(app):
    return ask(app, 'chat/completions', asked | {'n': 2, 'best_of': 3})

  scorers, made = [], registry.scorer
  monkeypatch.setattr(
    registry, 'scorer', lambda *a, **k: scorers.append(made(*a, **k)) or scorers[0]
  )
  reply = serving(config_of(folder, reward=reward), monkeypatch, use)
  c = config_of(folder, generate_experiment, seed=SEED, reward=reward)
  drafts = [one.text for one in generate.write(c, [REQUEST], num_drafts=3)]
  marks = best_of.marks(scorers[0], [(REQUEST, text) for text in drafts])
  best = sorted(range(3), key=lambda draft: -marks[draft])[:2]
  assert len({*marks}) == 3
  assert [one['reward'] for one in reply['choices']] == pytest.approx([marks[i] for i in best])
  contents = [text_lib.parts(drafts[i], last=True).content for i in best]
  assert [one['message']['content'] for one in reply['choices']] == contents


def test_no_client_waits_for_a_reward_server_for_hours(folder, monkeypatch):
  asked = []

  def post(server, payload, read):
    asked.append(server)
    raise registry.http_lib.Failed('timeout', 2)

  monkeypatch.setattr(registry.http_lib, 'post', post)
  c = config_of(folder, reward={'model': 'http://127.0.0.1:9/score'})
  marks = serve._rank(c, str, lambda job: pytest.fail('it needs no devices'))('the sea', ['a', 'b'])
  assert len(marks) == 2 and all(map(math.isnan, marks))
  (server,) = asked
  assert server.deadline <= 60 and server.timeout <= 60 and server.tries <= 2


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'init': 'random'}, 'has learnt nothing'),
    ({'rollout': {'max_tokens': 400}}, 'exceeds the 256 positions'),
    ({'rollout': {'slots': 0}}, 'rollout.slots=0: a server needs'),
    ({'serve': {'host': '0.0.0.0'}}, 'serve.host=0.0.0.0: others can reach it'),
    ({'serve': {'key_env': 'LWZ_NO_KEY'}}, 'serve.key_env=LWZ_NO_KEY: .* is not set'),
    ({'serve': {'host': 'nowhere.invalid'}}, r'others can reach it'),
    ({'reward': {'model': 'http://user:word@host/score'}}, 'reward.model'),
    ({'serve': {'port': 70_000}}, 'serve.port=70000: choose a number from 0 to 65535'),
  ],
)
def test_what_cannot_be_served_is_refused_before_work(folder, changes, message):
  with pytest.raises(ValueError, match=message):
    serve.check(config_of(folder, **changes))


def test_a_key_is_what_a_client_can_send(folder, monkeypatch):
  monkeypatch.setenv('LWZ_KEY', 'sesame\n')
  assert serve._key(config_of(folder, serve={'key_env': 'LWZ_KEY'})) == 'sesame'


def test_a_server_without_its_extra_says_which(folder, monkeypatch):
  def missing(name):
    raise ModuleNotFoundError(name)

  monkeypatch.setattr(serve.importlib, 'import_module', missing)
  with pytest.raises(ValueError, match=r'pip install "lwz\[serve\]"'):
    serve.check(config_of(folder))
