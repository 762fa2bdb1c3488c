"""A jitted step of a run, as an object that a stage runs and a preflight lowers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Program:
  """`fn` with the shapes it will be called with.

  Attributes:
    name: for logs, profiles and tables.
    fn: a pure function of arrays (everything static is bound already).
    abstract_args: `jax.ShapeDtypeStruct`s in the structure of its arguments; on a mesh each says
      how it lies, and what comes from the host is laid out so.
    donate: indices of arguments whose buffers the result may take over.
    out_shardings: how the results lie, or a prefix of their structure; None leaves it to XLA.
  """

  name: str
  fn: Callable
  abstract_args: tuple[Any, ...]
  donate: tuple[int, ...] = ()
  out_shardings: Any = None

  def jit(self) -> jax.stages.Wrapped:
    """The function a stage calls; compiled at its first call."""
    placed = jax.tree.map(lambda arg: getattr(arg, 'sharding', None), self.abstract_args)
    return jax.jit(
      self.fn,
      donate_argnums=self.donate,
      in_shardings=placed,
      out_shardings=self.out_shardings,
    )

  def lower(self) -> jax.stages.Lowered:
    """Traced and lowered for the abstract arguments, without any data."""
    return self.jit().lower(*self.abstract_args)
