"""A jitted step of a run, as an object that a stage runs and a preflight lowers."""

import dataclasses
import weakref
from collections.abc import Callable
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp

from lwz.model.attention import packed as packed_attention
from lwz.programs import placement

_THREADS = futures.ThreadPoolExecutor(2, 'compile')  # XLA itself uses all cores for one program
_BEGUN: weakref.WeakSet[futures.Future] = weakref.WeakSet()


@dataclasses.dataclass(frozen=True)
class Program:
  """`fn` with the shapes it will be called with.

  `abstract_args` are `jax.ShapeDtypeStruct`s in the structure of its arguments; on a mesh each says
  how it lies, and what comes from the host is laid out so.
  """

  name: str  # for logs, profiles and tables
  fn: Callable  # a pure function of arrays; everything static is bound already
  abstract_args: tuple[Any, ...]
  donate: tuple[int, ...] = ()  # indices of arguments whose buffers the result may take over
  out_shardings: Any = None  # of the results, or a prefix of their structure; None: XLA's choice
  trips: int = 1  # at most, of a loop whose end an argument decides; costs count so many
  frozen: int = 0  # of the arguments, the last ones, which are the same in every call

  started: list[futures.Future] = dataclasses.field(
    default_factory=list, init=False, compare=False, repr=False
  )  # the compilation in a thread, if any

  def start(self) -> futures.Future | None:
    """Begins to compile it in a thread; what `jit` returns waits for it when it is called.

    Returns what to wait for. None: several processes compile in their first calls, in one order,
    and so do several devices of a CPU, whose collectives wait for cores at most 40 s, and what
    takes int4, of which jax refuses arrays where a function was compiled before it was called.
    """
    mesh = self._mesh()
    waits = mesh is not None and mesh.size > 1 and self._platform() == 'cpu'
    waits |= any(x.dtype == jnp.int4 for x in jax.tree.leaves(self.abstract_args))
    if not self.started and jax.process_count() == 1 and not waits:
      self.started.append(_THREADS.submit(lambda: self.lower().compile()))
      _BEGUN.add(self.started[0])
    return self.started[0] if self.started else None

  def jit(self, *frozen: Any) -> Any:
    """Returns the function that a stage calls, a `jax.stages.Wrapped`; the first call compiles.

    With several processes it is a plain function, and host arrays, which each has whole, are put
    where `abstract_args` say. It is one, too, where the arguments that are `frozen` are given here,
    or where it is `started`: arguments of other shapes are then compiled for when they come.
    """
    jitted = self._jitted()
    if jax.process_count() > 1:
      return lambda *args: jitted(*placement.put((*args, *frozen), self.abstract_args))
    if not self.started:
      return (lambda *args: jitted(*args, *frozen)) if frozen else jitted
    known = [(x.shape, x.dtype) for x in jax.tree.leaves(self.abstract_args)]

    def call(*args):
      args = (*args, *frozen)
      given = [(x.shape, x.dtype) for x in map(jax.typeof, jax.tree.leaves(args))]
      return (self._compiled() if given == known else jitted)(*args)

    return call

  def _compiled(self) -> jax.stages.Compiled:
    if self.started[0].cancel():  # no thread has begun with it: needed now, it is not queued
      compiled: futures.Future = futures.Future()
      compiled.set_result(self.lower().compile())
      self.started[0] = compiled
    return self.started[0].result()

  def _jitted(self) -> jax.stages.Wrapped:
    placed = jax.tree.map(lambda arg: getattr(arg, 'sharding', None), self.abstract_args)
    return jax.jit(
      self.fn,
      donate_argnums=self.donate,
      in_shardings=placed,
      out_shardings=self.out_shardings,
    )

  def _platform(self) -> str:
    return packed_attention.platform_of(self._mesh())

  def _mesh(self) -> placement.AnyMesh:
    where = (getattr(arg, 'sharding', None) for arg in jax.tree.leaves(self.abstract_args))
    return getattr(next(where, None), 'mesh', None)

  def lower(self) -> jax.stages.Lowered:
    """Returns it traced and lowered for the abstract arguments, without any data."""
    return self._jitted().lower(*self.abstract_args)


def drop() -> None:
  """Drops what waits to be compiled, which would keep a process that ends; a call compiles it."""
  for begun in list(_BEGUN):
    begun.cancel()
