"""What fits is what is needed, against what is there; and what is needed counts all residents."""

import dataclasses
import math
import types

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lwz.learn import optimizer
from lwz.model import config, sharding
from lwz.programs import language_model, program
from lwz.programs.cost import fit, hardware, memory_plan, topology

MIB = 2**20


def array(shape, mesh=None, *spec):
  where = None if mesh is None else NamedSharding(mesh, PartitionSpec(*spec))
  return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where)


def test_bytes_of_a_device_are_those_of_its_part():
  mesh = sharding.make_mesh((1, 4, 2))
  tree = {
    'cut': array((64, 16), mesh, 'fsdp', 'tensor'),
    'copied': array((64, 16), mesh),
    'nowhere': array((3,)),
  }
  assert fit.bytes_per_device(tree) == 64 * 16 * 4 / 8 + 64 * 16 * 4 + 12


def test_a_product_is_measured_whole():
  mesh = sharding.make_mesh((1, 4, 2))
  x, y = array((64, 32), mesh, 'fsdp', None), array((32, 16), mesh)
  out = NamedSharding(mesh, PartitionSpec('fsdp'))
  found = fit.measure(program.Program('product', jnp.matmul, (x, y), out_shardings=out))
  assert found.compiled and found.mesh == {'fsdp': 4, 'tensor': 2} and found.num_devices == 8
  assert found.arguments == (64 * 32 / 4 + 32 * 16) * 4
  assert found.outputs == 64 * 16 / 4 * 4
  assert found.peak == found.arguments + found.outputs + found.temporaries
  assert found.flops == 2 * 64 * 32 * 16
  assert found.collectives == ()


def test_what_is_donated_is_not_counted_twice():
  double = program.Program('double', lambda x: x * 2.0, (array((256, 256)),), donate=(0,))
  found = fit.measure(double)
  assert found.aliased == found.arguments == found.outputs == 256 * 256 * 4
  assert found.peak == found.arguments + found.temporaries


def test_the_residents_of_a_program_count():
  x = array((256, 1024))  # 1 MiB
  one = program.Program('copy', lambda x: x + 1.0, (x,))
  entry = fit.Entry('learn', one, {'reward model': array((2048, 1024))})
  large = hardware.Chip('small', 1e12, 10 * MIB, 1e9, 1e9)
  estimate = fit.estimate(entry, large)
  assert estimate.fits and estimate.residents == {'reward model': 8 * MIB}
  assert estimate.needed == 10 * MIB
  tight = dataclasses.replace(large, capacity=10 * MIB - 1)
  assert not fit.estimate(entry, tight).fits
  assert fit.check([entry], large)[0].residents == estimate.residents
  with pytest.raises(ValueError, match=r'does not fit its small devices:\n.*learn: copy needs'):
    fit.check([entry], tight)


def test_what_the_compiler_refuses_does_not_fit():
  refused = fit.Fit('grpo', {}, 1, compiled=False, asked=17.0, arguments=5.0)
  estimate = fit.Estimate('learn', refused, {'reward model': 2.0}, capacity=16.0)
  assert estimate.needed == 19 and not estimate.fits
  assert not dataclasses.replace(estimate, capacity=100.0).fits
  assert fit.seconds(refused, hardware.CHIPS['v5e']) == {}


@pytest.mark.parametrize(
  'message, size',
  [
    (
      'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. '
      'Used 16.87G of 15.75G hbm. Exceeded hbm capacity by 1.12G.',
      16.87 * 2**30,
    ),
    ('RESOURCE_EXHAUSTED: Used 512.0M of 100M hbm', 512 * MIB),
    ('RESOURCE_EXHAUSTED: too much', math.inf),
    ('INTERNAL: RET_CHECK failure', None),
  ],
)
def test_what_a_refusal_asked_for(message, size):
  assert fit.refused_bytes(message) == size


def test_seconds_are_the_largest_of_three_shares():
  v5p = hardware.CHIPS['v5p']
  times = hardware.seconds(v5p, flops=459e12, moved=2.765e12, sent=200e9)
  assert times == pytest.approx({'compute': 2.0, 'memory': 1.25, 'network': 1.25})
  h100 = hardware.CHIPS['h100']
  far = hardware.seconds(h100, flops=0, moved=0, sent=450e9, sent_far=50e9)['network']
  assert far == pytest.approx(2.5)


def test_a_training_step_knows_what_stays_beside_it():
  c = config.preset('micro')
  mesh = sharding.make_mesh((1, 2, 2))
  rule = optimizer.adamw(
    optimizer.schedule(1e-3, warmup_steps=1, decay_steps=0, final_share=0.1),
    **{'b1': 0.9, 'b2': 0.95, 'weight_decay': 0.0, 'decay_mask': None, 'max_norm': 1.0},
  )
  shape, options = language_model.RowShape(2, row_length=64), {'chunk': 64, 'mesh': mesh}
  train = language_model.train_step(c, rule, shape, micro_rows=2, remat='full', **options)
  programs = {'pretrain': train, 'evaluate': language_model.evaluate(c, shape, **options)}
  learn, measure = memory_plan.plan(programs, {'pretrain': 3})
  assert (learn.part, learn.calls, learn.residents) == ('learn', 3, {})
  state = train.abstract_args[0]
  assert measure.residents == {'optimiser': state.opt_state}
  masters, adam = (fit.bytes_per_device(x) for x in (state.params, state.opt_state))
  assert adam == pytest.approx(2 * masters, rel=1e-3)
  assert fit.bytes_per_device(measure.program.abstract_args[0]) == masters


@pytest.mark.parametrize('name', ['v5p', 'v7:2x2', 'gpu:h900:1x8', 'gpu:h100', 'v5p-130', ''])
def test_an_unknown_topology_is_answered_with_those_that_exist(name):
  with pytest.raises(ValueError, match=r'v5e:1x1\|2x2.*gpu:t4\|.*\|h200:HOSTSxGPUS'):
    topology.load(name)


@pytest.mark.parametrize(
  ('name', 'shape', 'hosts'),
  [
    ('v5litepod-8', 'v5e:2x4', None),
    ('v5e-1', 'v5e:1x1', (1, 1, 1)),
    ('v5p-16', 'v5p:2x2x2', None),
    ('v5p-64', 'v5p:2x4x4', None),
    ('v6e:1x1', 'v6e:1x1', (1, 1, 1)),
  ],
)
def test_the_names_of_the_cloud_have_shapes(monkeypatch, name, shape, hosts):
  """Those of v5p count cores, two in a chip; a single chip is a host of its own."""
  asked = {}

  def described(**options):
    asked.update(options)
    return types.SimpleNamespace(devices=[None])

  monkeypatch.setattr(topology.topologies, 'get_topology_desc', described)
  assert topology.load(name).name == asked['topology_name'] == shape
  assert asked.get('chips_per_host_bounds') == hosts


def test_the_devices_at_hand_are_a_topology():
  found = topology.load('local')
  assert found.is_local and len(found.devices) == 8 and found.chip.capacity > 2**28


def test_a_run_may_use_what_the_allocator_of_a_gpu_has(monkeypatch):
  monkeypatch.delenv('XLA_PYTHON_CLIENT_MEM_FRACTION', raising=False)
  limit = int(0.75 * 140 * hardware.GIB)
  gpu = types.SimpleNamespace(device_kind='NVIDIA H200', platform='gpu')
  gpu.memory_stats = lambda: {'bytes_limit': limit}
  chip = hardware.local(gpu)
  assert hardware.usable(chip) == limit and chip.flops == hardware.CHIPS['h200'].flops


BOARDS = {
  'NVIDIA H100 80GB HBM3': ('h100', 989e12, 3.352e12),
  'NVIDIA H100 PCIe': ('h100', 756e12, 2.04e12),
  'NVIDIA A100-SXM4-80GB': ('a100', 312e12, 2.039e12),
  'NVIDIA A100-SXM4-40GB': ('a100', 312e12, 1.555e12),
  'TPU v5 lite': ('v5e', 197e12, 0.819e12),
  'TPU v5e': ('v5e', 197e12, 0.819e12),
  'TPU v5p': ('v5p', 459e12, 2.765e12),
  'TPU v5': ('v5p', 459e12, 2.765e12),
}


@pytest.mark.parametrize('kind', BOARDS)
def test_a_board_has_its_own_rates(kind):
  device = types.SimpleNamespace(device_kind=kind, platform='gpu', memory_stats=lambda: None)
  chip = hardware.local(device)
  assert (chip.name, chip.flops, chip.bandwidth) == BOARDS[kind]
  assert hardware.CHIPS[chip.name].capacity >= chip.capacity


def test_gpus_are_asked_for_by_their_shape(monkeypatch):
  asked = {}

  def described(**options):
    asked.update(options)
    return types.SimpleNamespace(devices=[None] * 16)

  monkeypatch.setattr(topology.topologies, 'get_topology_desc', described)
  found = topology.load('gpu:h100:2x8')
  assert len(found.devices) == 16 and found.chip.name == 'h100'
  # Twice: without `topology`, only a plugin that finds a GPU knows the shape.
  assert asked['topology_name'] == asked['topology'] == '1x2x8' and asked['platform'] == 'cuda'
  assert 'core_count: 132' in asked['target_config']
  topology.load('gpu:rtx4090:1x1')
  assert 'major: 8 minor: 9' in asked['target_config']


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, size', [('v5e:2x2', 4), ('v5p:2x2x1', 4), ('v6e:2x4', 8), ('v5e:1x1', 1)]
)
def test_tpus_need_not_be_there(name, size):
  pytest.importorskip('libtpu')
  found = topology.load(name)
  assert len(found.devices) == size and found.devices[0].platform == 'tpu'
  mesh = sharding.make_mesh((1, size, 1), found.devices)
  cut = NamedSharding(mesh, PartitionSpec('fsdp'))
  x = jax.ShapeDtypeStruct((size, 2**16, 2**11), jnp.float32, sharding=cut)
  small = program.Program('double', lambda x: x * 2.0, (x,), out_shardings=cut)
  assert fit.measure(small).compiled
  x = jax.ShapeDtypeStruct((size, 2**20, 2**15), jnp.float32, sharding=cut)
  large = fit.measure(program.Program('double', lambda x: x * 2.0, (x,), out_shardings=cut))
  assert not large.compiled and large.asked > 100 * 2**30
