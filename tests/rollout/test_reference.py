"""What is written depends on prompt, parameters and key; never on neighbours, padding or batch."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz import rows as rows_lib
from lwz import types
from lwz.learn import logprob
from lwz.model import qwen
from lwz.rollout import sampler
from tests import fakes
from tests.rollout import reference

CONFIG = fakes.config()
PARAMS = fakes.params(CONFIG)
P, G, T, STOP, TEMPERATURE = 3, 4, 12, 3, 0.7
LENGTHS = [2, 6, 1]
PROMPTS = fakes.texts(LENGTHS, CONFIG)
PROMPTS[1][2] = STOP  # inside a prompt it is a token like any other
PAIRS = np.indices((P, G)).reshape(2, -1)

jitted = jax.jit(
  reference.generate,
  static_argnames=('config', 'num_samples', 'max_tokens', 'temperature', 'stop_id'),
)


def keys(prompts, samples):
  return sampler.trajectory_keys(0, 3, jnp.asarray(prompts), jnp.asarray(samples))


def write(prompts, keys_B2, *, num_samples, padded=6, pad=0, config=CONFIG, **changes):
  """The `Rollout`, as NumPy arrays."""
  prompts_PT = np.full((len(prompts), padded), pad, np.int32)
  for row, ids in zip(prompts_PT, prompts, strict=True):
    row[: len(ids)] = ids
  lengths = jnp.array([len(ids) for ids in prompts])
  settings = {'max_tokens': T, 'temperature': TEMPERATURE, 'stop_id': STOP} | changes
  return jax.device_get(
    jitted(
      PARAMS, jnp.asarray(prompts_PT), lengths, keys_B2, config, num_samples=num_samples, **settings
    )
  )


@functools.cache
def written():
  return write(PROMPTS, keys(*PAIRS), num_samples=G)


def take(rollout, rows):
  return jax.tree.map(lambda x: x[rows], rollout)


def assert_same(one, other):
  for name in ('ids', 'lengths', 'finished'):
    np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
  np.testing.assert_allclose(one.logp, other.logp, atol=1e-5)


def rescored(config, rollout):
  """The scorer's log-probability of each token: prompt and answer read at once, [B, T]."""
  rows = fakes.padded(
    [np.concatenate([PROMPTS[p], rollout.ids[b]]) for b, p in enumerate(PAIRS[0])]
  )
  scores, _ = logprob.token_logprob(
    fakes.forward(PARAMS, rows, config),
    qwen.head_weights(PARAMS, config),
    jnp.roll(rows, -1, axis=1),
    temperature=TEMPERATURE,
    chunk=64,
  )
  start = np.array(LENGTHS)[PAIRS[0]] - 1
  return np.take_along_axis(np.asarray(scores), start[:, None] + np.arange(T)[None], axis=1)


def test_the_sampler_and_the_scorer_agree():
  mask = rows_lib.length_mask(written().lengths, T)
  np.testing.assert_allclose(written().logp[mask], rescored(CONFIG, written())[mask], atol=1e-5)


def test_the_sampler_and_the_scorer_agree_in_bfloat16():
  config = dataclasses.replace(CONFIG, dtype=jnp.bfloat16)
  rollout = write(PROMPTS, keys(*PAIRS), num_samples=G, config=config)
  mask = rows_lib.length_mask(rollout.lengths, T)
  assert np.abs(rollout.logp - rescored(config, rollout))[mask].mean() < 1e-2
  assert np.abs(rollout.logp - rescored(CONFIG, rollout))[mask].mean() > 1e-4  # bfloat16 indeed


def test_a_trajectory_ends_with_its_stop_token_or_at_the_cap():
  out = written()
  assert {1, 2, T} < set(out.lengths.tolist())  # at once, later, never
  for row, length, done in zip(out.ids, out.lengths, out.finished, strict=True):
    stops = np.flatnonzero(row == STOP)
    assert (length, done) == ((stops[0] + 1, True) if stops.size else (T, False))
  inside = rows_lib.length_mask(out.lengths, T)
  assert (out.logp[inside] < 0).all() and (out.logp[~inside] == 0).all()
  assert (out.ids[~inside] == STOP).all()
  dtypes = [x.dtype for x in (out.ids, out.logp, out.lengths, out.finished)]
  assert dtypes == [np.int32, np.float32, np.int32, np.bool_]


@pytest.mark.parametrize('cap', [1, 5])
def test_a_cap_cuts_and_changes_nothing_before_it(cap):
  whole = written()
  expected = types.Rollout(
    ids=whole.ids[:, :cap],
    logp=whole.logp[:, :cap],
    lengths=np.minimum(whole.lengths, cap),
    finished=whole.finished & (whole.lengths <= cap),
  )
  assert_same(write(PROMPTS, keys(*PAIRS), num_samples=G, max_tokens=cap), expected)


@pytest.mark.parametrize('p, g', [(0, 2), (1, 0), (2, 3)])
def test_a_trajectory_alone_is_what_it_is_in_its_group(p, g):
  alone = write([PROMPTS[p]], keys([p], [g]), num_samples=1)
  assert_same(alone, take(written(), [p * G + g]))


def test_a_trajectory_is_the_same_in_another_row():
  order = np.array([2, 0, 1])
  rows = (order[:, None] * G + np.array([3, 1, 0, 2])[None]).reshape(-1)
  again = write([PROMPTS[p] for p in order], keys(*PAIRS[:, rows]), num_samples=G)
  assert_same(again, take(written(), rows))


def test_a_forked_prefill_is_g_prefills():
  assert_same(write([PROMPTS[p] for p in PAIRS[0]], keys(*PAIRS), num_samples=1), written())


@pytest.mark.parametrize('pad', [STOP, 9])
def test_the_value_of_padding_does_not_matter(pad):
  again = write(PROMPTS, keys(*PAIRS), num_samples=G, pad=pad)
  jax.tree.map(np.testing.assert_array_equal, again, written())


def test_the_amount_of_padding_does_not_matter():
  assert_same(write(PROMPTS, keys(*PAIRS), num_samples=G, padded=9, pad=9), written())


def test_greedy_takes_the_most_likely_token_of_the_full_forward():
  out = write(PROMPTS, keys(*PAIRS), num_samples=G, temperature=0.0)
  assert (out.logp == 0).all()
  whole = fakes.padded([np.concatenate([PROMPTS[p], out.ids[p * G]]) for p in range(P)])
  best = qwen.lm_head(PARAMS, fakes.forward(PARAMS, whole, CONFIG), CONFIG).argmax(axis=-1)
  for p, prompt in enumerate(PROMPTS):
    ids, num, start = out.ids[p * G], out.lengths[p * G], len(prompt) - 1
    np.testing.assert_array_equal(out.ids[p * G : p * G + G], np.tile(ids, (G, 1)))
    np.testing.assert_array_equal(ids[:num], best[p, start : start + num])
