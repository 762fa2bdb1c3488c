"""The specification of a rollout engine: its limits, and the shapes its programs are compiled for.

spec = EngineSpec(config, num_slots=32, max_prompt_tokens=2_048, max_tokens=14_000, ...)
engine = programs.rollout.engine(spec)
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lwz import rows
from lwz.model import qwen
from lwz.model.attention import decode as decode_attention
from lwz.model.attention import packed as packed_attention
from lwz.rollout import sampler, shapes

Mesh = jax.sharding.Mesh | jax.sharding.AbstractMesh | None

PREFILL_TOKENS = 1_024  # tokens of short prompts in one prefill: products then run at full rate
TILE = 128  # elements of a vector register of a TPU along one axis
LEAST_READ = 128  # a block that reads half of it takes 0.9 of the time, and a program of its own
MAX_SEGMENTS = 8  # of a GPU's cache, which reads as many as are filled
# Parameters from which on a CPU has few programs: layers are unrolled there, and a program of 135M
# takes 11 to 14 s to compile beside other work, more than fitting batches and reads save.
LARGE_ON_CPU = 30_000_000
ROWS_ON_CPU = 16  # of a tile of its matrix unit: fewer tokens take as long


class CacheLayout(NamedTuple):
  """Positions of the KV cache in one slot."""

  max_read: int  # cached tokens that a block may read
  capacity: int  # positions, a multiple of `num_segments`
  num_segments: int


@dataclasses.dataclass(frozen=True)
class EngineSpec:
  """Specification of a rollout engine.

  An `exact` one has one batch shape regardless of which slots are active, so that no bit of a
  trajectory depends on the others; otherwise the batch shrinks as the tail thins out, and only the
  filled part of the cache is read. With `int8` or quantised `weights`, log-probabilities are
  those of what is rounded, and differ from the scorer's. `unstack` makes `layers` a tuple with one
  tree per layer, so that a CPU or GPU reads a layer's weights in place and copies none out of a
  stack.
  """

  config: qwen.QwenConfig
  num_slots: int  # trajectories that are decoded at a time
  max_prompt_tokens: int
  max_tokens: int  # of one trajectory
  sampling: sampler.Sampling
  exact: bool
  num_steps: int = 32  # maximum of a block
  int8: bool = False  # keys and values in int8, with a scale per token and head
  weights: str = 'float'  # of the layers' matrices, one of `quantised.KINDS`
  attention: str = 'auto'  # or a backend of `decode_attention`
  mesh: Mesh = None  # None is one device
  unstack: bool | None = None  # None decides by platform, see `unstacked`

  @property
  def backend(self) -> str:
    """The decode attention backend. Raises ValueError if the one that is named cannot run."""
    return decode_attention.choose(self.attention, self.mesh, self.config.head_dim, int8=self.int8)

  @property
  def platform(self) -> str:
    return packed_attention.platform_of(self.mesh)

  @property
  def unstacked(self) -> bool:
    """Whether layers are unstacked; by default where XLA would copy weights out of a stack.

    XLA for TPUs does not. XLA for GPUs would hold the int8 cache of all layers converted at once.
    """
    if self.unstack is not None:
      return self.unstack
    on_gpu = self.platform in packed_attention.GPUS
    return self.platform == 'cpu' or self.backend == 'triton' or (on_gpu and not self.int8)

  @property
  def transposed(self) -> bool:
    """Whether matrices are `transposed`: in bfloat16 or int8 on one CPU."""
    one = self.mesh is None or self.mesh.size == 1
    kind = self.config.dtype if self.weights == 'float' else self.weights
    return self.unstacked and one and self.platform == 'cpu' and kind in (jnp.bfloat16, 'int8')

  @property
  def cache_layout(self) -> CacheLayout:
    """Room for the longest trajectory and the steps of a block.

    Off CPUs, and for kernels, sizes are multiples of `TILE`: with another size, a TPU would keep
    keys with the head dimension along memory, and copy all of them into the order in which they are
    read at the beginning of every block. On segments see `kv_cache`; only with unstacked layers
    does a GPU read them in place.
    """
    num_tokens = self.max_prompt_tokens + self.max_tokens
    num_written, tile = num_tokens + self.num_steps, self._tile
    if self.backend != 'xla' or self.platform not in packed_attention.GPUS or self.int8:
      return CacheLayout(rows.bucket(num_tokens, tile), rows.bucket(num_written, tile), 1)
    size = rows.bucket(max(self.num_steps, -(-num_written // MAX_SEGMENTS)), tile)
    num = -(-num_written // size)
    return CacheLayout(num * size, num * size, num)

  @property
  def batch_sizes(self) -> tuple[int, ...]:
    """Batch sizes of decoding, rising; the last is the number of slots.

    Slots that are sharded over devices stay so: a smaller batch would have to be laid out anew.
    """
    if self.exact or self._shards > 1:
      return (self.num_slots,)
    smallest = min(ROWS_ON_CPU, self.num_slots) if self._few else 1
    return shapes.buckets(self.num_slots, smallest=smallest, per_octave=self._per_octave)

  @property
  def read_lengths(self) -> tuple[int, ...]:
    """Numbers of cached tokens that a block may read, rising.

    A kernel reads no more of a slot than is filled, so one is enough.
    """
    max_read, capacity, num_segments = self.cache_layout
    if self.exact or self.backend != 'xla':
      return (max_read,)
    if num_segments > 1:
      size = capacity // num_segments
      return tuple(range(size, capacity + 1, size))
    shortest = max(self._shortest, LEAST_READ)
    lengths = shapes.buckets(max_read, smallest=shortest, per_octave=self._per_octave)
    return tuple(sorted({rows.bucket(length, self._tile) for length in lengths}))

  @property
  def prompt_lengths(self) -> tuple[int, ...]:
    """Lengths that prompts are padded to, rising."""
    return shapes.buckets(self.max_prompt_tokens, smallest=self._shortest)

  @property
  def prompt_batch_sizes(self) -> tuple[int, ...]:
    """Batch size of a prefill for each of `prompt_lengths`."""
    if self.exact or self._shards > 1:
      return (1,) * len(self.prompt_lengths)
    sizes = (min(self.num_slots, PREFILL_TOKENS // length) for length in self.prompt_lengths)
    return tuple(max(1, size) for size in sizes)

  @property
  def _per_octave(self) -> int:
    """Bucket sizes per doubling: twice as many on CPUs as on TPUs, where compiling takes longer."""
    return 2 if self.unstacked and self.platform == 'cpu' and not self._few else 1

  @property
  def _few(self) -> bool:
    """Whether compiling a program takes longer than a fitting one saves."""
    large = qwen.num_params(self.config) >= LARGE_ON_CPU
    return self.platform == 'cpu' and large and not self.exact

  @property
  def _shortest(self) -> int:
    """The least number of tokens that a prompt is padded to, or that a block reads."""
    return 512 if self._few else 64

  @property
  def _tile(self) -> int:
    return 1 if self.backend == 'xla' and self.platform == 'cpu' else TILE

  @property
  def _shards(self) -> int:
    """Number of parts that the slots are sharded into."""
    return 1 if self.mesh is None else self.mesh.shape['data'] * self.mesh.shape['fsdp']
