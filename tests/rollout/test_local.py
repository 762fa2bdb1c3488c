"""Our engine as a stream of completions: prompts of any length in, trajectories out."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from lwz.programs import rollout as program
from lwz.rollout import local, sampler
from lwz.rollout import spec as spec_lib
from tests import fakes

CONFIG = fakes.config()
PARAMS = fakes.params(CONFIG)


@pytest.mark.parametrize(
  ('ids', 'finished', 'text'),
  [([1, 2, 9], True, '12'), ([1, 2, 3, 4], False, '1234'), ([9], True, ''), ([9], False, '9')],
)
def test_a_text_loses_the_stop_token_alone(ids, finished, text):
  assert local.text(np.array(ids), finished, lambda ids: ''.join(map(str, ids))) == text


SAMPLING = sampler.Sampling(0.9, stop_ids=(4,))
ENGINE = program.engine(spec_lib.EngineSpec(CONFIG, 4, 5, 7, SAMPLING, exact=True, num_steps=3))
LETTERS = 'abcd.fghijklm'


def spell(ids):
  return ''.join(LETTERS[i] for i in ids)


def asked(prompts, **changes):
  settings = {'num_samples': 3, 'max_tokens': 7, 'seed': 1, 'step': 2} | changes
  return local.requests(prompts, **settings)


def stream(requests, **arguments):
  completions = local.stream(ENGINE, ENGINE.reshard(PARAMS), requests, **arguments)
  return sorted(completions, key=lambda one: one.index)


def test_every_request_has_the_key_that_names_it():
  found = asked(fakes.texts([2, 5], CONFIG))
  keys = sampler.trajectory_keys(1, 2, jnp.repeat(jnp.arange(2), 3), jnp.tile(jnp.arange(3), 2))
  np.testing.assert_array_equal([r.key for r in found], keys)
  assert [len(r.prompt) for r in found] == [2] * 3 + [5] * 3


def test_seed_and_step_are_part_of_the_key():
  prompts = fakes.texts([2, 5], CONFIG)

  def ids(**changes):
    return [one.ids.tolist() for one in stream(asked(prompts, **changes))]

  first = ids()
  assert ids() == first and ids(seed=2) != first and ids(step=3) != first


def test_the_text_of_a_completion_is_that_of_its_ids():
  completions = stream(asked(fakes.texts([2, 5], CONFIG)), decode=spell)
  assert any(r.finished for r in completions)
  assert [r.text for r in completions] == [
    local.text(r.ids, r.finished, spell) for r in completions
  ]


def test_requests_carry_the_range_that_their_prompt_asks_for():
  found = asked(fakes.texts([2, 5], CONFIG), expected=[100, 300], min_tokens=2)
  assert [r.expected for r in found] == [100.0] * 3 + [300.0] * 3
  assert {r.min_tokens for r in found} == {2} and len({tuple(r.key) for r in found}) == 6


def test_a_stop_string_ends_a_trajectory_with_the_token_that_completes_it():
  prompts = fakes.texts([2, 5], CONFIG)
  whole = stream(asked(prompts), decode=spell)
  stop = next(r.text[1:3] for r in whole if len(r.text) > 4)
  cut = stream(asked(prompts), decode=spell, stops=(stop,))
  assert any(stop in r.text for r in cut)
  for before, after in zip(whole, cut, strict=True):
    end = before.text.find(stop)
    expected = before.text if end < 0 else before.text[: end + len(stop)]
    assert after.text == expected
    np.testing.assert_array_equal(after.ids, before.ids[: len(after.ids)])
    assert after.finished == (before.finished or end >= 0)
    assert len(after.logp) == len(after.ids)


def test_texts_are_shown_while_they_are_written():
  seen = {}
  completions = stream(
    asked(fakes.texts([2, 5], CONFIG)),
    decode=spell,
    on_text=lambda index, text: seen.setdefault(index, []).append(text),
  )
  for one in completions:
    texts = seen[one.index]
    assert texts == sorted(texts, key=len) and texts[-1].startswith(one.text)


def test_stop_strings_need_a_text():
  with pytest.raises(ValueError, match='`decode` must be given'):
    stream(asked(fakes.texts([2], CONFIG)), stops=('x',))


def test_embeddings_without_a_token_are_never_sampled():
  """A vocabulary is padded (Qwen2.5: 151,665 tokens, 152,064 embeddings)."""
  prompts = fakes.texts([2, 5], CONFIG)
  for temperature in (0.0, 3.0):
    sampling = sampler.Sampling(temperature, stop_ids=(4,), num_ids=6)
    spec = spec_lib.EngineSpec(CONFIG, 4, 5, 7, sampling, exact=True, num_steps=3)
    engine = program.engine(spec)
    found = list(local.stream(engine, engine.reshard(PARAMS), asked(prompts, num_samples=9)))
    assert max(max(r.ids) for r in found) < 6
    assert all(np.isfinite(r.logp).all() for r in found)
  assert max(max(r.ids) for r in stream(asked(prompts, num_samples=9))) >= 6


def test_several_tokens_end_a_trajectory():
  prompts = fakes.texts([2, 5], CONFIG)
  sampling = dataclasses.replace(SAMPLING, stop_ids=(4, 7, 9))
  engine = program.engine(spec_lib.EngineSpec(CONFIG, 4, 5, 7, sampling, exact=True, num_steps=3))
  found = list(local.stream(engine, engine.reshard(PARAMS), asked(prompts, num_samples=9)))
  assert {int(r.ids[-1]) for r in found if r.finished} == {4, 7, 9}
  assert not any({4, 7, 9} & set(r.ids[:-1].tolist()) for r in found)
