"""Programs that train adapters: the base is an argument, and nothing of it changes or is kept."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lwz import rows as rows_lib
from lwz.learn import losses, optimizer, update
from lwz.model import lora as lora_lib
from lwz.model import parameters, sharding, transposed
from lwz.programs import grpo, language_model, placement, rollout
from lwz.programs.cost import fit, memory_plan
from lwz.rollout import sampler
from lwz.rollout import spec as spec_lib
from lwz.store import adapters as adapters_lib
from tests import fakes

CONFIG = fakes.config(vocab_size=16)
LORA = lora_lib.LoRA(rank=3, alpha=6.0)
RULES = {
  'sgd': optax.sgd(0.1),
  'muon': optimizer.muon(
    optax.constant_schedule(0.01),
    matrices=parameters.matrices(lora_lib.describe(CONFIG, LORA)),
    **{'b1': 0.9, 'b2': 0.95, 'weight_decay': 0.1, 'max_norm': 1.0},
  ),
}
SHAPE = grpo.BatchShape(2, 5, 12, 2, chunk=16)
OBJECTIVE = grpo.Objective(0.2, 0.3, lambda num_tokens, num: losses.budget_mean(num_tokens))


def adapters():
  return fakes.adapters(CONFIG, LORA)


def grpo_program(rule=RULES['sgd'], lora=LORA, mesh=None):
  numbers = {'temperature': 0.8, 'remat': 'none', 'lora': lora, 'mesh': mesh}
  return grpo.update_step(CONFIG, rule, SHAPE, OBJECTIVE, **numbers)


def minibatch():
  prompts, answers = fakes.texts([2, 5], CONFIG), fakes.texts([5, 3], CONFIG, seed=2)
  logp = np.full((2, 5), -2.5, np.float32)
  return grpo.minibatch(prompts, answers, logp, np.array([1.0, -0.5]), np.ones(2, bool), SHAPE)


@pytest.mark.parametrize('rule', RULES)
def test_an_update_moves_adapters_and_no_bit_of_the_base(rule):
  built, base = grpo_program(RULES[rule]), fakes.params(CONFIG)
  before = jax.tree.map(np.array, base)
  state, metrics = built.jit(base)(update.init(adapters(), RULES[rule]), *minibatch())
  jax.tree.map(np.testing.assert_array_equal, base, before)
  assert fakes.shapes(state) == fakes.shapes(built.abstract_args[0])
  assert set(state.params) == {'layers'} and metrics['skipped'] == 0
  moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), state.params, adapters())
  assert min(jax.tree.leaves(moved)) > 1e-6


def test_an_update_of_adapters_is_that_of_the_merged_model():
  """One step of SGD on A and B is the step of dW through them."""
  base, own = fakes.params(CONFIG), adapters()
  state, metrics = grpo_program().jit(base)(update.init(adapters(), RULES['sgd']), *minibatch())
  merged = lora_lib.merged(lora_lib.join(own, base, lora=LORA), jnp.float32)
  begin = jax.tree.map(jnp.array, merged)
  whole, expected = grpo_program(lora=None).jit()(update.init(begin, RULES['sgd']), *minibatch())
  np.testing.assert_allclose(metrics['loss'], expected['loss'], atol=1e-6)
  dw = (merged['layers']['w_up'] - whole.params['layers']['w_up']) / 0.1
  da = (own['layers']['w_up']['a'] - state.params['layers']['w_up']['a']) / 0.1
  wanted = 2.0 * jnp.einsum('lio,lro->lir', dw, own['layers']['w_up']['b'])
  np.testing.assert_allclose(da, wanted, atol=1e-4)


def test_the_state_has_adapters_and_their_moments_alone():
  mesh = sharding.make_mesh((1, 2, 2))
  rule = optimizer.adamw(
    optax.constant_schedule(0.01),
    decay_mask=None,
    **{'b1': 0.9, 'b2': 0.95, 'weight_decay': 0.0, 'max_norm': 1.0},
  )
  state = placement.state(CONFIG, rule, mesh, lora=LORA)
  num = len(LORA.leaves) * 2
  assert len(jax.tree.leaves(state.params)) == num
  moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
  assert len(moments) == 2 * num
  a, b = (state.params['layers']['w_up'][name].sharding.spec for name in 'ab')
  assert (tuple(a), tuple(b)) == ((None, 'fsdp', None), (None, None, 'tensor'))
  assert [m.sharding for m in moments[:num]] == [p.sharding for p in jax.tree.leaves(state.params)]


def test_no_gradient_of_the_base_is_computed():
  """No product of the compiled update has the shape of a matrix, or of the head."""
  config = fakes.config(vocab_size=34, hidden_size=18)
  shape = dataclasses.replace(SHAPE, row_length=14)
  numbers = {'temperature': 0.8, 'remat': 'none'}
  found = {}
  for lora in (None, LORA):
    built = grpo.update_step(config, RULES['sgd'], shape, OBJECTIVE, lora=lora, **numbers)
    text = built.lower().compile().as_text()
    found[lora] = set(re.findall(r'= f32\[([\d,]*)\]\S* dot\(', text))
  matrices = {'18,24', '18,12', '24,18', '18,20', '20,18', '18,34'}
  assert found[None] >= matrices and not found[LORA] & matrices
  assert found[LORA] >= {'18,3', '3,20', '20,3', '3,18'}


@pytest.mark.parametrize('unstack', [False, True])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_decoding_gets_the_base_and_s_a_b(dtype, unstack):
  config = dataclasses.replace(CONFIG, dtype=dtype)
  base = jax.tree.map(lambda x: x.astype(dtype), fakes.params(config))
  spec = spec_lib.EngineSpec(
    config,
    num_slots=2,
    max_prompt_tokens=4,
    max_tokens=4,
    sampling=sampler.Sampling(1.0, stop_ids=(0,)),
    exact=True,
    unstack=unstack,
  )
  engine = rollout.engine(spec, LORA, base)
  merged = lora_lib.merged(lora_lib.join(adapters(), base, lora=LORA), jnp.dtype(dtype))
  found = engine.reshard(adapters())
  assert fakes.shapes(found) == fakes.shapes(rollout.decode_params(spec))
  expected = parameters.unstack(merged) if unstack else merged
  if spec.transposed:
    expected = transposed.of(expected, config)
  atol = 1e-6 if dtype == 'float32' else 1e-2
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(np.float32(a), np.float32(b), atol=atol),
    found,
    expected,
  )
  plain = rollout.engine(spec).reshard(fakes.params(config))
  new = engine.reshard(lora_lib.init(jax.random.key(0), config, LORA))
  jax.tree.map(np.testing.assert_array_equal, new, plain)


def test_log_probabilities_before_an_update_are_those_of_the_adapters():
  base, (batch, num_micro) = fakes.params(CONFIG), minibatch()
  of = functools.partial(grpo.logprob_step, CONFIG, SHAPE, temperature=0.8, dtype=jnp.float32)
  merged = lora_lib.merged(lora_lib.join(adapters(), base, lora=LORA), jnp.float32)
  found = of(lora=LORA).jit(base)(adapters(), batch, num_micro)
  np.testing.assert_allclose(found, of().jit()(merged, batch, num_micro), atol=1e-5)


def test_next_tokens_are_learnt_and_measured_with_the_same_adapters():
  shape = language_model.RowShape(num_rows=2, row_length=8)
  built = language_model.train_step(
    CONFIG, RULES['sgd'], shape, micro_rows=2, chunk=8, remat='none', lora=LORA
  )
  measure = language_model.evaluate(CONFIG, shape, chunk=8, lora=LORA)
  rows = rows_lib.lay(fakes.texts([5, 7], CONFIG), row_length=8, num_rows=2).arrays()
  base, state = fakes.params(CONFIG), update.init(adapters(), RULES['sgd'])
  total, num = measure.jit(base)(state.params, rows)
  state, metrics = built.jit(base)(state, rows)
  np.testing.assert_allclose(metrics['loss'], float(total) / int(num), rtol=1e-5)
  assert measure.jit(base)(state.params, rows)[0] < total


def test_the_base_stays_beside_every_program_that_does_not_take_it():
  reference = dataclasses.replace(
    grpo.logprob_step(CONFIG, SHAPE, temperature=0.8), name='reference'
  )
  programs = {'reference': reference, 'grpo': grpo_program(), 'score': reference}
  plan = {entry.program.name: set(entry.residents) for entry in memory_plan.plan(programs)}
  assert 'base' not in plan['grpo'] and 'reference' not in plan['grpo']
  whole = memory_plan.plan({**programs, 'grpo': grpo_program(lora=None)})
  assert 'reference' in {entry.program.name: entry.residents for entry in whole}['grpo']


WIDE = fakes.config(vocab_size=16, num_hidden_layers=5, hidden_size=128, intermediate_size=192)


def quantised_lora(kind):
  return dataclasses.replace(LORA, frozen=kind)


def frozen(kind):
  return adapters_lib.freeze(fakes.params(WIDE), WIDE, quantised_lora(kind), None)


@pytest.mark.parametrize('remat', ['none', 'full'])
@pytest.mark.slow
def test_an_update_over_a_quantised_base_holds_no_other_copy_of_it(remat):
  """No stack of float32 matrices; arguments are the bytes that a memory plan counts."""
  sizes = {}
  for kind in ('float', 'int8', 'int4'):
    built = grpo.update_step(
      WIDE, RULES['sgd'], SHAPE, OBJECTIVE, temperature=0.8, remat=remat, lora=quantised_lora(kind)
    )
    compiled = built.lower().compile()
    said = compiled.memory_analysis()
    counted = fit.bytes_per_device(built.abstract_args)
    assert said.argument_size_in_bytes == pytest.approx(counted, rel=0.05)
    sizes[kind] = counted, said.temp_size_in_bytes
    stacks = ('5,128,192', '5,192,128', '5,128,4,6')
    found = [s for s in stacks if f'f32[{s}]' in compiled.as_text()]
    assert found == ([] if kind != 'float' else list(stacks)), kind
  num = sum(x.size for n, x in fakes.params(WIDE)['layers'].items() if n in LORA.leaves)
  for kind, per_weight in (('int8', 1 + 4 / 128), ('int4', 0.5625)):
    saved = sizes['float'][0] - sizes[kind][0]
    assert saved == pytest.approx(num * (4 - per_weight), rel=0.05)
    assert sizes[kind][1] < sizes['float'][1] + 2 * 4 * num / 5  # what one layer makes


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['int8', 'int4'])
def test_programs_take_a_quantised_base(kind):
  """Update, policy, reference: each the number of the weights that are stood for."""
  lora, shape, base = quantised_lora(kind), SHAPE, frozen(kind)
  whole = lora_lib.merged(base, jnp.float32)
  batch, num_micro = minibatch()
  of = functools.partial(grpo.logprob_step, WIDE, shape, temperature=0.8)
  reference = of(base_of=lora)
  assert fakes.shapes(reference.abstract_args[0]) == fakes.shapes(base)
  wanted = of().jit()(whole, batch, num_micro)
  np.testing.assert_allclose(reference.jit()(base, batch, num_micro), wanted, atol=1e-5)
  new = lora_lib.init(jax.random.key(0), WIDE, lora)
  found = of(dtype=jnp.float32, lora=lora).jit(base)(new, batch, num_micro)
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  spec = spec_lib.EngineSpec(
    *(WIDE, 2, 4, 4), sampling=sampler.Sampling(1.0, stop_ids=(0,)), exact=True, unstack=False
  )
  jax.tree.map(np.testing.assert_array_equal, rollout.engine(spec, lora, base).reshard(new), whole)
