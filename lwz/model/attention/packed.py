"""Causal self-attention over packed rows, by the backend that suits the hardware and the rows.

On a mesh every backend runs on the local part of each device: its rows, its query heads with the
key-value heads that they read, its part of time against the keys of the whole row.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array, Float, Int

from lwz.model import activations
from lwz.model.attention import chunked as chunked_attention
from lwz.model.attention import gpu as gpu_attention
from lwz.model.attention import reference as reference_attention
from lwz.model.attention import splash as splash_attention

BACKENDS = ('xla', 'chunked', 'splash', 'triton', 'cudnn')
GPUS = ('gpu', 'cuda', 'rocm')
SHORT = 1024  # tokens of a row whose scores are all held at once
SHORT_ON_CPU = 128  # longer rows have scores that do not stay in the CPU cache
KERNEL_TOKENS = 128  # shorter rows do not fill one block of a kernel


def attend_packed(
  q_BTHC: Float[Array, 'B T H C'],
  k_BKTC: Float[Array, 'B K T C'],
  v_BKTC: Float[Array, 'B K T C'],
  segments_BT: Int[Array, 'B T'] | None,
  *,
  backend: str = 'auto',
  mesh: Mesh | AbstractMesh | None = None,
) -> Float[Array, 'B T H C']:
  """softmax(q k^T / sqrt(C)) v, where query t sees key s iff s <= t and their segments are equal.

  Query head h reads key-value head h // (H / K). Segment 0, padding, is a segment like any other;
  None means that every row is one document. `backend` is one of `BACKENDS`, or 'auto' for `choose`:

    xla      the reference: holds all scores, B x H x T x T
    chunked  the same, a block of queries at a time; on all hardware
    splash   TPU (Pallas)
    triton   GPU (Pallas); rows unsharded
    cudnn    GPU; holds a mask B x T x T if rows are packed

  Kernels named on a CPU run interpreted, for tests. Raises ValueError with the reason if the
  backend cannot run on this hardware or these shapes.
  """
  platform = platform_of(mesh)
  num_tokens, head_dim = q_BTHC.shape[1], q_BTHC.shape[3]
  context = 1 if mesh is None else mesh.shape['context']
  facts = (platform, num_tokens, head_dim, q_BTHC.dtype)
  packed = segments_BT is not None
  if backend == 'auto':
    backend = choose(*facts, packed=packed, context=context)
  if fault := refusal(backend, *facts, packed=packed, context=context):
    raise ValueError(f'attention backend {backend!r}: {fault}')
  if not packed and (backend in ('xla', 'chunked') or context > 1):
    segments_BT = jnp.zeros(q_BTHC.shape[:2], jnp.int32)
  local = _local(backend, interpret=platform == 'cpu')
  if mesh is None:
    return local(q_BTHC, k_BKTC, v_BKTC, segments_BT, segments_BT, 0)
  return _sharded(local, mesh, q_BTHC, k_BKTC, v_BKTC, segments_BT)


def platform_of(mesh: Mesh | AbstractMesh | None) -> str:
  """'cpu', 'gpu' or 'tpu': of the mesh's devices, which may be those of a topology."""
  return mesh.devices.flat[0].platform if isinstance(mesh, Mesh) else jax.default_backend()


def choose(
  platform: str,
  num_tokens: int,
  head_dim: int,
  dtype: jax.typing.DTypeLike,
  *,
  packed: bool = True,
  context: int = 1,
) -> str:
  """Returns the backend for rows of `num_tokens`, whose time is sharded `context` ways.

  >>> choose('tpu', 16_384, 128, jnp.bfloat16), choose('cpu', 512, 32, jnp.float32)
  ('splash', 'chunked')
  """
  facts = (platform, num_tokens, head_dim, dtype)
  wanted = []
  if num_tokens >= KERNEL_TOKENS:
    if platform == 'tpu':
      wanted = ['splash']
    elif platform in GPUS:
      wanted = ['triton'] if packed else ['cudnn', 'triton']
  for backend in wanted:
    if refusal(backend, *facts, packed=packed, context=context) is None:
      return backend
  return 'xla' if num_tokens <= (SHORT_ON_CPU if platform == 'cpu' else SHORT) else 'chunked'


def refusal(
  backend: str,
  platform: str,
  num_tokens: int,
  head_dim: int,
  dtype: jax.typing.DTypeLike,
  *,
  packed: bool = True,
  context: int = 1,
) -> str | None:
  """Returns the reason why this backend cannot run, or None if it can."""
  half = jnp.dtype(dtype).itemsize == 2
  match backend:
    case 'xla' | 'chunked':
      return None
    case 'splash':
      if platform not in ('tpu', 'cpu'):
        return f'a TPU kernel, not for {platform}'
    case 'triton':
      if platform not in (*GPUS, 'cpu'):
        return f'a GPU kernel, not for {platform}'
      if not gpu_attention.has_triton():
        return f'jax {jax.__version__} no longer has this kernel; choose chunked or cudnn'
      if context > 1:
        return f'its rows must be whole, and time is cut {context} ways by the mesh axis context'
      if platform != 'cpu' and not half:
        return f'for bfloat16 and float16, not {jnp.dtype(dtype).name}'
    case 'cudnn':
      if platform not in GPUS:
        return f'a GPU kernel, not for {platform}'
      if not half:
        return f'for bfloat16 and float16, not {jnp.dtype(dtype).name}'
      if head_dim % 8 or head_dim > 128:
        return f'for a head_dim that is a multiple of 8 up to 128, not {head_dim}'
    case _:
      return f'unknown; choose one of auto, {", ".join(BACKENDS)}'
  return None


def _local(backend: str, interpret: bool) -> Callable:
  """(q, k, v, segments of queries, of keys, position of the first query) -> mixed values."""

  def reference(q, k, v, q_segments, kv_segments, offset):
    return reference_attention.attend(
      q, k, v, reference_attention.causal_mask(q_segments, kv_segments, offset)
    )

  def triton(q, k, v, q_segments, kv_segments, offset):
    return gpu_attention.triton(q, k, v, q_segments, interpret=interpret)

  backends: dict[str, Callable] = {
    'xla': reference,
    'chunked': chunked_attention.attend,
    'splash': functools.partial(splash_attention.attend, interpret=interpret),
    'triton': triton,
    'cudnn': gpu_attention.cudnn,
  }
  return backends[backend]


def _sharded(local: Callable, mesh: Mesh | AbstractMesh, q_BTHC, k_BKTC, v_BKTC, segments_BT):
  """`local` on the part of every device."""
  q_spec = activations.spec(mesh, q_BTHC.shape, ('rows', 'time', 'heads', None))
  kv_spec = activations.spec(mesh, k_BKTC.shape, ('rows', 'kv_heads', 'time', None))
  num_groups = q_BTHC.shape[2] // k_BKTC.shape[1]
  time, heads, kv_heads = q_spec[1], q_spec[2], kv_spec[1]

  def on_device(q, k, v, q_segments):
    offset, kv_segments = 0, q_segments
    if time is not None:
      offset = jax.lax.axis_index(time) * q.shape[1]
      k, v = (jax.lax.all_gather(x, time, axis=2, tiled=True) for x in (k, v))
      if q_segments is not None:
        kv_segments = jax.lax.all_gather(q_segments, time, axis=1, tiled=True)
    if heads is not None and kv_heads is None:
      # Every device holds all key-value heads: `same` neighbouring query heads read one of them.
      same = math.gcd(num_groups, q.shape[2])
      read = jax.lax.axis_index(heads) * q.shape[2] + jnp.arange(0, q.shape[2], same)
      k, v = (jnp.take(x, read // num_groups, axis=1) for x in (k, v))
    return local(q, k, v, q_segments, kv_segments, offset)

  # check_vma: a Pallas kernel says nothing about the axes along which its results vary.
  return jax.shard_map(
    on_device,
    mesh=mesh,
    in_specs=(q_spec, kv_spec, kv_spec, jax.sharding.PartitionSpec(*q_spec[:2])),
    out_specs=q_spec,
    check_vma=False,
  )(q_BTHC, k_BKTC, v_BKTC, segments_BT)
