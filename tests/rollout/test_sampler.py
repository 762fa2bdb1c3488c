"""Samples follow the softmax, with randomness by (seed, step, prompt, sample, position) alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lwz.rollout import sampler

LOGITS = np.array([2.0, 0.0, -1.0, 1.0, 0.5, -2.0], np.float32)


def keys(seed=0, step=0, prompts=(0,), samples=(0,)):
  return sampler.trajectory_keys(seed, step, jnp.array(prompts), jnp.array(samples))


def sample_at(keys_B2, position, logits_BV, temperature, **limits):
  """Samples with the keys of trajectories, each at its position."""
  positions_B = jnp.broadcast_to(position, len(logits_BV))
  return sampler.sample_from(
    sampler.uniforms(keys_B2, positions_B), logits_BV, temperature, **limits
  )


def softmax(logits):
  weights = np.exp(logits.astype(np.float64))
  return weights / weights.sum()


def p_value(sampled, probabilities):
  counts = np.bincount(sampled, minlength=len(probabilities))
  return scipy.stats.chisquare(counts, len(sampled) * probabilities).pvalue


@pytest.mark.parametrize('temperature', [0.5, 1.0, 1.7])
def test_frequencies_are_the_softmax_at_this_temperature_and_at_no_other(temperature):
  num = 20_000
  rows = jnp.tile(LOGITS[None], (num, 1))
  sampled, _ = sample_at(keys(0, 0, [0] * num, range(num)), 3, rows, temperature)
  assert p_value(sampled, softmax(LOGITS / temperature)) > 1e-3
  assert p_value(sampled, softmax(LOGITS / (temperature * 1.1))) < 1e-3


def test_positions_of_one_trajectory_are_independent():
  num = 2_000
  key, rows = keys(), jnp.asarray(LOGITS)[None]
  sample = jax.jit(jax.vmap(lambda t: sample_at(key, t, rows, 1.0)[0][0]))
  sampled = np.asarray(sample(jnp.arange(num)))
  assert p_value(sampled, softmax(LOGITS)) > 1e-3
  pairs = sampled[::2] * len(LOGITS) + sampled[1::2]
  assert p_value(pairs, np.outer(softmax(LOGITS), softmax(LOGITS)).reshape(-1)) > 1e-3


def test_a_key_depends_on_every_counter():
  found = set()
  for seed, step in itertools.product(range(3), range(3)):
    prompts, samples = np.indices((4, 5)).reshape(2, -1)
    found |= {tuple(k) for k in np.asarray(keys(seed, step, prompts, samples)).tolist()}
  assert len(found) == 3 * 3 * 4 * 5


def test_a_sample_depends_on_every_counter():
  flat = jnp.zeros((1, 50_000))
  sampled = [
    int(sample_at(keys(seed, step, [prompt], [sample]), position, flat, 1.0)[0][0])
    for seed, step, prompt, sample, position in [(7,) * 5, *(np.eye(5, dtype=int) + 7).tolist()]
  ]
  assert len(set(sampled)) == 6


def test_a_key_depends_on_no_row():
  prompts, samples = np.indices((3, 4)).reshape(2, -1)
  order = np.random.default_rng(0).permutation(12)
  all_keys = keys(1, 2, prompts, samples)
  np.testing.assert_array_equal(keys(1, 2, prompts[order], samples[order]), all_keys[order])
  np.testing.assert_array_equal(keys(1, 2, [2], [1]), all_keys[9:10])


def test_a_sample_depends_on_no_row():
  logits = jnp.asarray(np.random.default_rng(0).standard_normal((12, 40), np.float32))
  prompts, samples = np.indices((3, 4)).reshape(2, -1)
  all_keys = keys(1, 2, prompts, samples)
  ids, logp = sample_at(all_keys, 5, logits, 0.8)
  order = np.random.default_rng(1).permutation(12)
  again, logp_again = sample_at(all_keys[order], 5, logits[order], 0.8)
  np.testing.assert_array_equal(again, ids[order])
  np.testing.assert_allclose(logp_again, logp[order], atol=1e-6)


@pytest.mark.parametrize('temperature', [0.3, 1.0, 2.5])
def test_the_log_probability_is_of_the_distribution_sampled_from(temperature):
  logits = jnp.asarray(4 * np.random.default_rng(0).standard_normal((50, 9), np.float32))
  ids, logp = sample_at(keys(0, 0, [0] * 50, range(50)), 0, logits, temperature)
  table = jax.nn.log_softmax(logits / temperature, axis=-1)
  np.testing.assert_allclose(logp, table[jnp.arange(50), ids], atol=1e-5)
  assert (ids.dtype, logp.dtype) == (jnp.int32, jnp.float32)


def test_logits_of_bfloat16_are_divided_and_summed_in_float32():
  logits = jnp.asarray(np.random.default_rng(0).standard_normal((4, 4_000)), jnp.bfloat16)
  many = keys(0, 0, [0] * 4, range(4))
  half, full = (sample_at(many, 0, x, 0.7) for x in (logits, logits.astype(jnp.float32)))
  np.testing.assert_array_equal(half[0], full[0])
  np.testing.assert_array_equal(half[1], full[1])


def test_temperature_0_takes_the_most_likely_token_with_certainty():
  logits = jnp.array([[0.0, 3.0, 2.0], [5.0, 4.0, 4.9]])
  ids, logp = sample_at(keys(0, 0, [0, 1], [0, 0]), 0, logits, 0.0)
  assert ids.tolist() == [1, 0] and logp.tolist() == [0, 0]
  assert (ids.dtype, logp.dtype) == (jnp.int32, jnp.float32)


def test_greedy_rows_take_the_most_likely_token_and_others_do_not_change():
  logits = jax.random.normal(jax.random.key(1), (64, 50)).at[3].set(0.0)  # a tie of all
  uniforms = sampler.uniforms(keys(0, 0, [0] * 64, range(64)), jnp.zeros(64, jnp.int32))
  greedy = jnp.arange(64) % 2 == 1
  ids, logp = sampler.sample_from(uniforms, logits, 0.8, greedy_B=greedy)
  sampled, sampled_logp = sampler.sample_from(uniforms, logits, 0.8)
  np.testing.assert_array_equal(ids[1::2], jnp.argmax(logits, -1)[1::2])
  np.testing.assert_array_equal(ids[::2], sampled[::2])
  np.testing.assert_allclose(logp[::2], sampled_logp[::2], rtol=1e-6)
  assert (sampled[1::2] != ids[1::2]).any() and (logp[5::2] == 0).all()


def truncated(probabilities, *, top_p=1.0, top_k=0):
  """The slow, obvious way: sort, and take from the top."""
  kept, best = np.zeros_like(probabilities), np.argsort(-probabilities)
  if top_k:
    best = best[:top_k]
  share = probabilities[best] / probabilities[best].sum()
  num = 1 + np.searchsorted(np.cumsum(share), top_p - 1e-9)
  kept[best[:num]] = probabilities[best[:num]]
  return kept / kept.sum()


@pytest.mark.parametrize(
  'settings',
  [{'top_p': 0.7}, {'top_p': 0.05}, {'top_k': 3}, {'top_k': 1}, {'top_k': 4, 'top_p': 0.8}],
  ids=str,
)
def test_truncation_keeps_the_most_likely_and_tells_their_log_probability(settings):
  num = 4_000
  rows = jnp.tile(LOGITS[None], (num, 1))
  sampled, logp = sample_at(keys(0, 0, [0] * num, range(num)), 3, rows, 0.9, **settings)
  expected = truncated(softmax(LOGITS / 0.9), **settings)
  kept = np.flatnonzero(expected)
  assert set(np.unique(sampled)) == set(kept)
  np.testing.assert_allclose(logp, np.log(expected[sampled]), atol=1e-5)
  if len(kept) > 1:
    ranks = np.searchsorted(kept, sampled)
    assert p_value(ranks, expected[kept]) > 1e-3


@pytest.mark.parametrize('size', [5, 64, 300])
def test_every_token_of_any_vocabulary_is_sampled_as_often_as_it_should(size):
  num = 20_000
  logits = np.random.default_rng(0).standard_normal(size).astype(np.float32)
  rows = jnp.tile(logits[None], (num, 1))
  sampled, _ = sample_at(keys(0, 0, [0] * num, range(num)), 0, rows, 1.0)
  assert p_value(sampled, softmax(logits)) > 1e-3


def test_what_has_no_chance_is_never_sampled():
  rows = jnp.tile(jnp.array([-jnp.inf, 1.0, -jnp.inf, -30.0, -jnp.inf])[None], (2_000, 1))
  sampled, logp = sample_at(keys(0, 0, [0] * 2_000, range(2_000)), 0, rows, 1.0)
  assert set(np.unique(sampled)) <= {1, 3} and np.isfinite(logp).all()


def test_rows_may_be_at_positions_of_their_own():
  rows = jnp.asarray(np.random.default_rng(0).standard_normal((4, 9)), jnp.float32)
  many = keys(0, 0, [0] * 4, range(4))
  positions = jnp.array([3, 0, 5, 3])
  together, _ = sample_at(many, positions, rows, 1.0)
  for b, t in enumerate(positions):
    alone, _ = sample_at(many[b : b + 1], t, rows[b : b + 1], 1.0)
    assert alone[0] == together[b]


@pytest.mark.parametrize(
  'wrong', [{'temperature': -1.0}, {'top_p': 0.0}, {'top_p': 1.5}, {'top_k': -1}], ids=str
)
def test_a_setting_that_means_nothing_is_refused(wrong):
  with pytest.raises(ValueError, match=next(iter(wrong))):
    sampler.Sampling(**wrong)
