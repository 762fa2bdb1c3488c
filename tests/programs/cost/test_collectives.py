"""Bytes that devices send each other, read from programs whose traffic is known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lwz.model import sharding
from lwz.programs.cost import collectives, hlo


def compiled(fn, mesh, *specs_and_shapes, out):
  args = [
    jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))
    for spec, shape in specs_and_shapes
  ]
  placed = NamedSharding(mesh, PartitionSpec(*out))
  return jax.jit(fn, out_shardings=placed).lower(*args).compile().as_text()


def read(text, mesh, **options):
  return collectives.read(hlo.Module(text), dict(mesh.shape), **options)


@pytest.fixture(scope='module')
def mesh():
  return sharding.make_mesh((1, 4, 2))


def test_a_gather_sends_its_part_to_each_other_device(mesh):
  text = compiled(lambda x: x * 2.0, mesh, (('fsdp',), (64, 16)), out=())
  (found,) = read(text, mesh)
  assert (found.kind, found.axes, found.group, found.count) == ('all-gather', ('fsdp',), 4, 1)
  assert found.bytes == 3 * (64 * 16 * 4 / 4)


def test_a_sum_sends_twice_what_a_scatter_does(mesh):
  def product(x, y):
    return x @ y

  args = (('fsdp', 'tensor'), (16, 32)), (('tensor', None), (32, 8))
  (found,) = read(compiled(product, mesh, *args, out=('fsdp',)), mesh)
  assert (found.kind, found.axes, found.group) == ('all-reduce', ('tensor',), 2)
  assert found.bytes == 2 * (1 / 2) * (16 / 4) * 8 * 4


def test_a_loop_counts_as_often_as_it_runs(mesh):
  def loop(x):
    return jax.lax.scan(lambda x, _: (jnp.tanh(jax.lax.psum(x, 'tensor')), None), x, length=5)[0]

  cut = PartitionSpec('fsdp')
  sharded = jax.shard_map(loop, mesh=mesh, in_specs=cut, out_specs=cut, check_vma=False)
  (found,) = read(compiled(sharded, mesh, (('fsdp',), (64, 16)), out=('fsdp',)), mesh)
  assert (found.kind, found.count) == ('all-reduce', 5)
  assert found.bytes == 5 * 16 * 16 * 4


def test_without_another_device_nothing_is_sent():
  mesh = sharding.make_mesh((1, 1, 1))
  text = compiled(lambda x: x @ x, mesh, (('fsdp',), (16, 16)), out=())
  assert read(text, mesh) == ()


AXES = {'data': 1, 'fsdp': 4, 'tensor': 2, 'context': 1}
GROUPS = [
  ('replica_groups={{0,2,4,6},{1,3,5,7}}', ('fsdp',), 4),
  ('replica_groups=[4,2]<=[8]', ('tensor',), 2),
  ('replica_groups=[2,4]<=[4,2]T(1,0)', ('fsdp',), 4),
  ("replica_groups=mesh['a'=4,'b'=1,'c'=2] {'c'}", ('tensor',), 2),
  ("replica_groups=mesh['a'=4,'c'=2] {'a':(1)2}", ('fsdp',), 2),
  ("replica_groups=mesh['a'=4,'c'=2] {'a','c'}", ('fsdp', 'tensor'), 8),
  ('source_target_pairs={{0,2},{2,4},{4,6},{6,0}}', ('fsdp',), 2),
  ('replica_groups={}', ('fsdp', 'tensor'), 8),
]


@pytest.mark.parametrize('written, axes, size', GROUPS)
def test_every_way_to_write_groups(written, axes, size):
  text = f"""
ENTRY %main (p: bf16[8,4]) -> bf16[8,4] {{
  %p = bf16[8,4]{{1,0}} parameter(0)
  ROOT %c = bf16[8,4]{{1,0}} all-reduce(%p), channel_id=1, {written}, to_apply=%add
}}
"""
  (found,) = collectives.read(hlo.Module(text), AXES)
  assert (found.axes, found.group) == (axes, size)
  assert found.bytes == pytest.approx(2 * (size - 1) / size * 64)


# A TPU begins a gather in one fusion and goes on with it in others, in the loop that hides it.
STEPS = """
%begin (p: bf16[8]) -> bf16[16] {
  %p = bf16[8]{0} parameter(0)
  %g = bf16[16]{0} all-gather(%p), channel_id=3, replica_groups=[4,2]<=[8], dimensions={0}
  ROOT %s = bf16[16]{0} custom-call(%g), custom_call_target="AsyncCollectiveStart"
}

%go_on (p: bf16[8]) -> bf16[16] {
  %p.1 = bf16[8]{0} parameter(0)
  ROOT %g.1 = bf16[16]{0} all-gather(%p.1), channel_id=3, replica_groups=[4,2]<=[8], dimensions={0}
}

%end (p: s32[]) -> pred[] {
  %i = s32[] parameter(0)
  %n = s32[] constant(24)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body (p: s32[]) -> s32[] {
  %i.1 = s32[] parameter(0)
  %step = bf16[16]{0} fusion(%i.1), kind=kCustom, calls=%go_on
}

ENTRY %main (p: bf16[8]) -> s32[] {
  %p.2 = bf16[8]{0} parameter(0)
  %start = bf16[16]{0} fusion(%p.2), kind=kCustom, calls=%begin
  ROOT %w = s32[] while(%start), condition=%end, body=%body
}
"""


def test_a_gather_in_steps_is_one_gather():
  (found,) = collectives.read(hlo.Module(STEPS), AXES)
  assert (found.count, found.bytes) == (1, 16)


def test_hosts_are_crossed_where_a_group_spans_them(mesh):
  text = compiled(lambda x: x * 2.0, mesh, (('fsdp',), (64, 16)), out=())
  assert read(text, mesh, per_host=2)[0].crosses
  assert not read(text, mesh, per_host=8)[0].crosses
