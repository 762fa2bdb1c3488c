"""The frozen model of the likelihood reward: the same numbers as one text at a time, in float32."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import grpo_think
from lwz import types
from lwz.data import tokenizer
from lwz.reward import components
from lwz.reward import format as format_lib
from lwz.reward import likelihood as likelihood_lib
from lwz.rl import likelihood, registry
from lwz.runtime import setup
from lwz.store import model_source
from tests import fakes

TRUE = 'A river runs to the sea, and a mill grinds corn.'
ODE = types.Prompt('o', 'Ode.', 1, 9, references=('Bad.', TRUE))
SEA = types.Prompt('s', 'On the sea.', 1, 9, references=('The sea is wide.',))
THINK = 'Plan in <think> </think>, write in <answer> </answer>. <|user|>: {} <|assistant|>:'
DIRECT = 'Write in <answer> </answer>. <|user|>: {} <|assistant|>:'


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  """The folder of a model of random parameters with a tokenizer of its own."""
  folder = tmp_path_factory.mktemp('model')
  tok = tokenizer.train([THINK, DIRECT, TRUE], 300)
  config = fakes.config(vocab_size=301, max_position_embeddings=512)
  model_source.keep(folder, config)
  tokenizer.save(tok, folder / 'tokenizer')
  return str(folder), tok, config, fakes.params(config)


@pytest.fixture
def made(model, monkeypatch):
  folder, _, _, params = model
  c = grpo_think.get_config('micro')
  c.init = folder
  c.reward.weights.likelihood = 1.0
  monkeypatch.setattr(setup, 'load_params', lambda *_, **__: params)
  return c, registry.REWARDS['likelihood'](c, setup.mesh(c))


def slow(model, prompt, think):
  """Mean log p of the true text, one text at a time: no packing, no chunks, no padding."""
  _, tok, config, params = model
  asked = DIRECT if think is None else THINK
  opening = '<answer>' if think is None else f'<think>{think}</think>\n<answer>'
  parts = [asked.format(prompt.text), opening, prompt.references[-1]]
  ids = [tok.encode(part, add_special_tokens=False) for part in parts]
  whole = np.array([[i for part in ids for i in part]], np.int32)
  logp, _ = fakes.logprob(params, whole, config)
  return float(np.mean(np.asarray(logp)[0, -len(ids[-1]) :]))


def sample(prompt, think):
  text = f'<think>{think}</think>\n<answer>Text.</answer>'
  return components.Sample(prompt, text, format_lib.parse(text, 'think'))


def test_it_equals_a_slow_reference(model, made):
  _, reward = made
  thoughts = ['Rivers.', TRUE, 'A mill, and the sea. ' * 12, ' ']  # the third: beyond a row of 256
  samples = [sample(prompt, think) for prompt in (ODE, SEA) for think in thoughts]
  assert all(one.parsed.valid for one in samples[:3])
  expected = np.array(
    [
      slow(model, s.prompt, s.parsed.think) - slow(model, s.prompt, None) if s.parsed.valid else 0
      for s in samples
    ]
  )
  found = likelihood_lib.gain(samples, mean_logprob=reward.fn.keywords['mean_logprob'])
  valid = [s.parsed.valid for s in samples]
  np.testing.assert_allclose(found[valid], expected[valid], atol=1e-5)
  assert np.ptp(found[valid]) > 0.01  # thoughts differ
  rewards = reward.values(samples, 4)
  np.testing.assert_allclose(
    rewards, np.where(valid, 1 / (1 + np.exp(-expected)), 0.0), rtol=1e-5, atol=1e-6
  )
  alone = [reward.values([one], 1)[0] for one in samples[:3]]
  np.testing.assert_allclose(alone, rewards[:3], rtol=1e-5)


def test_what_the_positions_cannot_hold_is_masked(made):
  _, reward = made
  long = sample(ODE, 'A mill, and the sea. ' * 80)
  found = reward.values([sample(ODE, 'Rivers.'), long], 2)
  assert np.isfinite(found[0]) and np.isnan(found[1])
  assert reward.reads == 'device' and reward.deferred


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'data.style': 'direct'}, "pays for thoughts, and data.style='direct' has none"),
    ({'init': 'random'}, "init='random' has learnt nothing; name a model that writes under"),
    ({'reward.likelihood_model': 'MARKS'}, 'a reward model gives marks'),
    ({'data.prompts': 'FILE'}, r"'Write an ode.' \(id 'a'\) has no references: add them"),
  ],
)
def test_what_it_needs_is_checked(made, model, tmp_path, changes, message):
  c, _ = made
  registry.likelihood.check(c)  # the embedded prompts have the passages of their titles
  marks = dataclasses.replace(model[2], scalar_head=True)
  model_source.keep(tmp_path, marks)
  path = tmp_path / 'prompts.jsonl'
  path.write_text(json.dumps({'id': 'a', 'text': 'Write an ode.', 'lower': 1, 'upper': 2}) + '\n')
  named = {'MARKS': str(tmp_path), 'FILE': str(path)}
  c.update_from_flattened_dict({key: named.get(value, value) for key, value in changes.items()})
  with pytest.raises(ValueError, match=message):
    registry.check_rewards(c)
  del c.reward.weights['likelihood']
  likelihood.check(c)
