"""Traffic of programs that are small enough to count by hand."""

import jax
import jax.numpy as jnp
import pytest

from lwz.programs.cost import hlo

LAYERS = """
%slice (stack: f32[10,1000], i: s32[]) -> f32[1000] {
  %stack = f32[10,1000]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %one = f32[1,1000]{1,0} dynamic-slice(%stack, %i, %zero), dynamic_slice_sizes={1,1000}
  ROOT %flat = f32[1000]{0} bitcast(%one)
}

%update (cache: f32[10,1000], new: f32[1,1000], i: s32[]) -> f32[10,1000] {
  %cache = f32[10,1000]{1,0} parameter(0)
  %new = f32[1,1000]{1,0} parameter(1)
  %i.1 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  ROOT %put = f32[10,1000]{1,0} dynamic-update-slice(%cache, %new, %i.1, %zero.1)
}

ENTRY %main (stack: f32[10,1000], new: f32[1,1000], i: s32[]) -> f32[10,1000] {
  %stack.2 = f32[10,1000]{1,0} parameter(0)
  %new.2 = f32[1,1000]{1,0} parameter(1)
  %i.2 = s32[] parameter(2)
  %layer = f32[1000]{0} fusion(%stack.2, %i.2), kind=kLoop, calls=%slice
  %near = f32[1000]{0:S(1)} copy(%layer)
  ROOT %out = f32[10,1000]{1,0} fusion(%stack.2, %new.2, %i.2), kind=kLoop, calls=%update
}
"""


def test_a_slice_and_an_update_in_place_count_by_their_size():
  sliced = 4_000 + 4 + 4_000  # the layer and its index read, the layer written
  updated = 4_000 + 4 + 4_000
  to_vmem = 4_000  # read; the copy lies beside the core
  assert hlo.traffic(hlo.Module(LAYERS)) == sliced + updated + to_vmem


def test_a_fixed_slice_counts_as_one_at_a_place_that_is_computed():
  fixed = LAYERS.replace(
    'dynamic-slice(%stack, %i, %zero), dynamic_slice_sizes={1,1000}',
    'slice(%stack), slice={[2:3], [0:1000]}',
  )
  assert 'dynamic-slice(' not in fixed
  moved = hlo.traffic(hlo.Module(LAYERS)) - hlo.traffic(hlo.Module(fixed))
  assert moved == 4  # the index


@pytest.mark.parametrize('nested', [False, True])
def test_what_a_fusion_lays_anew_before_it_slices_counts_by_the_slice(nested):
  """As on a TPU: the copy is of a layout, and made of the slice alone."""
  relaid = LAYERS.replace('dynamic-slice(%stack,', 'dynamic-slice(%anew,').replace(
    '  %zero = s32[] constant(0)\n',
    '  %zero = s32[] constant(0)\n'
    '  %anew = f32[10,1000]{1,0} fusion(%stack), kind=kLoop, calls=%lay\n'.replace(
      '%lay', '%around' if nested else '%lay'
    ),
    1,
  )
  relaid = (
    """
%lay (whole: f32[10,1000]) -> f32[10,1000] {
  %whole = f32[10,1000]{1,0} parameter(0)
  ROOT %copied = f32[10,1000]{1,0} copy(%whole)
}

%around (outer: f32[10,1000]) -> f32[10,1000] {
  %outer = f32[10,1000]{1,0} parameter(0)
  %inner = f32[10,1000]{1,0} fusion(%outer), kind=kLoop, calls=%lay
  ROOT %same = f32[10,1000]{1,0} bitcast(%inner)
}
"""
    + relaid
  )
  assert hlo.traffic(hlo.Module(relaid)) == hlo.traffic(hlo.Module(LAYERS))


KERNEL = """
ENTRY %main (cache: f32[10,1000]) -> f32[50] {
  %cache = f32[10,1000]{1,0} parameter(0)
  ROOT %out = f32[50]{0} custom-call(%cache), metadata={op_name="f/decode_attention/pallas_call"}
}
"""


def test_a_kernel_reads_what_it_states_where_it_states_it():
  module = hlo.Module(KERNEL)
  assert hlo.traffic(module, {'decode_attention': 600.0}) == 600 + 200
  assert hlo.traffic(module, {'another': 600.0}) == hlo.traffic(module) == 40_000 + 200


def test_a_product_reads_its_operands_and_writes_its_result():
  x = jax.ShapeDtypeStruct((128, 256), jnp.float32)
  y = jax.ShapeDtypeStruct((256, 64), jnp.float32)
  text = jax.jit(jnp.matmul).lower(x, y).compile().as_text()
  exact = 4 * (128 * 256 + 256 * 64 + 128 * 64)
  assert exact <= hlo.traffic(hlo.Module(text)) <= 2 * exact  # XLA may copy an operand first


def test_a_loop_whose_end_is_an_argument_counts_as_often_as_it_may_run():
  def loop(x, n):
    return jax.lax.fori_loop(0, n, lambda _, x: jnp.sin(x), x)

  args = jax.ShapeDtypeStruct((4096,), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
  text = jax.jit(loop).lower(*args).compile().as_text()
  once, often = (hlo.traffic(hlo.Module(text, max_trips=n)) for n in (1, 11))
  assert often - once >= 10 * 2 * 4 * 4096


@pytest.mark.parametrize(
  'shape, size',
  [
    ('bf16[2,3]{1,0:T(8,128)(2,1)}', 12),
    ('(f32[4]{0}, pred[8]{0}, s32[])', 28),
    ('s4[16]{0}', 8),
    ('token[]', 0),
    ('f8e4m3fn[10]{0}', 10),
  ],
)
def test_bytes_of_a_shape(shape, size):
  assert hlo.shape_bytes(shape) == size
