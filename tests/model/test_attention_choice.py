"""Which backend attends is a table of the machine and the rows; one that cannot run says why."""

import jax
import jax.numpy as jnp
import pytest

from lwz.model import sharding
from lwz.model.attention import gpu as gpu_attention
from lwz.model.attention import packed as packed_attention

CHOICES = [
  ('splash', ('tpu', 16_384, 128, jnp.bfloat16), {}),
  ('splash', ('tpu', 16_384, 64, jnp.bfloat16), {'context': 4}),
  ('xla', ('tpu', 64, 128, jnp.bfloat16), {}),
  ('triton', ('gpu', 16_384, 128, jnp.bfloat16), {}),
  ('triton', ('cuda', 512, 64, jnp.float16), {}),
  ('cudnn', ('gpu', 16_384, 128, jnp.bfloat16), {'packed': False}),
  ('chunked', ('gpu', 16_384, 128, jnp.bfloat16), {'context': 2}),
  ('chunked', ('gpu', 16_384, 128, jnp.float32), {}),
  ('xla', ('gpu', 64, 128, jnp.bfloat16), {}),
  ('xla', ('gpu', 1_024, 128, jnp.float32), {}),
  ('xla', ('cpu', 128, 128, jnp.bfloat16), {}),
  ('chunked', ('cpu', 129, 8, jnp.float32), {}),
  ('chunked', ('gpu', 1_025, 8, jnp.float32), {}),
]


@pytest.mark.parametrize('expected, facts, more', CHOICES)
def test_the_choice_is_a_table(expected, facts, more):
  assert packed_attention.choose(*facts, **more) == expected
  assert packed_attention.refusal(expected, *facts, **more) is None


def test_without_its_kernel_a_gpu_falls_back(monkeypatch):
  monkeypatch.setattr(gpu_attention, 'has_triton', lambda: False)
  facts = ('gpu', 4_096, 128, jnp.bfloat16)
  assert packed_attention.choose(*facts) == 'chunked'
  assert 'no longer has this kernel' in packed_attention.refusal('triton', *facts)


REFUSED = [
  ('flash', ('cpu', 64, 64, jnp.float32), {}, 'unknown; choose one of auto, xla, chunked'),
  ('splash', ('gpu', 64, 64, jnp.bfloat16), {}, 'a TPU kernel, not for gpu'),
  ('triton', ('tpu', 64, 64, jnp.bfloat16), {}, 'a GPU kernel, not for tpu'),
  ('triton', ('gpu', 64, 64, jnp.float32), {}, 'for bfloat16 and float16, not float32'),
  ('triton', ('gpu', 64, 64, jnp.bfloat16), {'context': 2}, 'cut 2 ways, by a mesh axis or into'),
  ('cudnn', ('cpu', 64, 64, jnp.bfloat16), {}, 'a GPU kernel, not for cpu'),
  ('cudnn', ('gpu', 64, 64, jnp.float32), {}, 'for bfloat16 and float16, not float32'),
  ('cudnn', ('gpu', 64, 12, jnp.bfloat16), {}, 'a multiple of 8 up to 128, not 12'),
]


@pytest.mark.parametrize('backend, facts, more, reason', REFUSED)
def test_a_backend_that_cannot_run_says_why(backend, facts, more, reason):
  assert reason in packed_attention.refusal(backend, *facts, **more)


def test_the_platform_is_that_of_the_mesh(monkeypatch):
  mesh = sharding.make_mesh((1,), jax.devices()[:1])
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  assert packed_attention.platform_of(None) == 'tpu'
  assert packed_attention.platform_of(mesh) == 'cpu'
