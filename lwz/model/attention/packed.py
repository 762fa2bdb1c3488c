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
BLOCK = 1024  # of pairs in plain XLA, off CPUs: few steps, each of which fills the device
KERNEL_TOKENS = 128  # shorter rows do not fill one block of a kernel


def attend_packed(
  q_BTHC: Float[Array, 'B T H C'],
  k_BKSC: Float[Array, 'B K S C'],
  v_BKSC: Float[Array, 'B K S C'],
  segments_BS: Int[Array, 'B S'] | None,
  *,
  offset: Int[Array, ''] | int = 0,
  backend: str = 'auto',
  mesh: Mesh | AbstractMesh | None = None,
) -> Float[Array, 'B T H C']:
  """softmax(q k^T / sqrt(C)) v, where query t sees key s iff s <= t and their segments are equal.

  Query head h reads key-value head h // (H / K). Segment 0, padding, is a segment like any other;
  None means that every row is one document. Queries of a chunk of the rows begin at `offset` of the
  S keys; a traced one is a multiple of T. `backend` is one of `BACKENDS`, or 'auto' for `choose`:

    xla      the reference: holds all scores, B x H x T x S
    chunked  the same, a block of queries and of keys at a time; on all hardware
    splash   TPU (Pallas)
    triton   GPU (Pallas); rows whole and unsharded
    cudnn    GPU; holds a mask B x T x S if rows are packed or in chunks

  Kernels named on a CPU run interpreted, for tests. Raises ValueError with the reason if the
  backend cannot run on this hardware or these shapes.
  """
  platform = platform_of(mesh)
  (B, T), S, head_dim = q_BTHC.shape[:2], k_BKSC.shape[2], q_BTHC.shape[3]
  context = -(-S // T) * (1 if mesh is None else mesh.shape['context'])
  facts = (platform, S, head_dim, q_BTHC.dtype)
  packed = segments_BS is not None
  if backend == 'auto':
    backend = choose(*facts, packed=packed, context=context)
  if fault := refusal(backend, *facts, packed=packed, context=context):
    raise ValueError(f'attention backend {backend!r}: {fault}')
  if not packed and (backend in ('xla', 'chunked') or context > 1):
    segments_BS = jnp.zeros((B, S), jnp.int32)
  q_segments = segments_BS
  if segments_BS is not None and T < S:
    q_segments = jax.lax.dynamic_slice_in_dim(segments_BS, offset, T, axis=1)
  local = _local(backend, platform, offset)
  if mesh is None:
    return local(q_BTHC, k_BKSC, v_BKSC, q_segments, segments_BS, offset)
  return _sharded(local, mesh, q_BTHC, k_BKSC, v_BKSC, q_segments, segments_BS, offset)


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
  """Returns the backend for rows of `num_tokens`, whose time is cut `context` ways: by a mesh axis,
  or into chunks that are read one after another.

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
        return f'for whole rows, and time is cut {context} ways, by a mesh axis or into chunks'
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


def _local(backend: str, platform: str, offset: Int[Array, ''] | int) -> Callable:
  """(q, k, v, segments of queries, of keys, position of the first query) -> mixed values."""
  interpret = platform == 'cpu'
  first = offset if isinstance(offset, int) else 0

  def reference(q, k, v, q_segments, kv_segments, offset):
    return reference_attention.attend(
      q, k, v, reference_attention.causal_mask(q_segments, kv_segments, offset)
    )

  def triton(q, k, v, q_segments, kv_segments, offset):
    return gpu_attention.triton(q, k, v, q_segments, interpret=interpret)

  backends: dict[str, Callable] = {
    'xla': reference,
    'chunked': functools.partial(
      chunked_attention.attend, block=chunked_attention.BLOCK if interpret else BLOCK
    ),
    'splash': functools.partial(splash_attention.attend, first=first, interpret=interpret),
    'triton': triton,
    'cudnn': gpu_attention.cudnn,
  }
  return backends[backend]


def _sharded(local, mesh, q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments, offset):
  """`local` on the part of every device."""
  q_spec = activations.spec(mesh, q_BTHC.shape, ('rows', 'time', 'heads', None))
  kv_spec = activations.spec(mesh, k_BKSC.shape, ('rows', 'kv_heads', 'time', None))
  num_groups = q_BTHC.shape[2] // k_BKSC.shape[1]
  (time, heads), (kv_heads, kv_time) = q_spec[1:3], kv_spec[1:3]

  def on_device(q, k, v, q_segments, kv_segments):
    start = offset
    if time is not None:
      start += jax.lax.axis_index(time) * q.shape[1]
    if kv_time is not None:
      k, v = (jax.lax.all_gather(x, kv_time, axis=2, tiled=True) for x in (k, v))
      if kv_segments is not None:
        kv_segments = jax.lax.all_gather(kv_segments, kv_time, axis=1, tiled=True)
    if heads is not None and kv_heads is None:
      # Every device holds all key-value heads: `same` neighbouring query heads read one of them.
      same = math.gcd(num_groups, q.shape[2])
      read = jax.lax.axis_index(heads) * q.shape[2] + jnp.arange(0, q.shape[2], same)
      k, v = (jnp.take(x, read // num_groups, axis=1) for x in (k, v))
    return local(q, k, v, q_segments, kv_segments, start)

  # check_vma: a Pallas kernel says nothing about the axes along which its results vary.
  spec = jax.sharding.PartitionSpec
  return jax.shard_map(
    on_device,
    mesh=mesh,
    in_specs=(q_spec, kv_spec, kv_spec, spec(*q_spec[:2]), spec(kv_spec[0], kv_time)),
    out_specs=q_spec,
    check_vma=False,
  )(q_BTHC, k_BKSC, v_BKSC, q_segments, kv_segments)
