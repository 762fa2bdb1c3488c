"""A jitted step of a run, as an object that a stage runs and a preflight lowers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from lwz.programs import placement


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

  def jit(self, *frozen: Any) -> Any:
    """Returns the function that a stage calls, a `jax.stages.Wrapped`; the first call compiles.

    With several processes it is a plain function, and host arrays, which each has whole, are put
    where `abstract_args` say. It is one, too, where the arguments that are `frozen` are given here.
    """
    jitted = self._jitted()
    if jax.process_count() == 1:
      return (lambda *args: jitted(*args, *frozen)) if frozen else jitted
    return lambda *args: jitted(*placement.put((*args, *frozen), self.abstract_args))

  def _jitted(self) -> jax.stages.Wrapped:
    placed = jax.tree.map(lambda arg: getattr(arg, 'sharding', None), self.abstract_args)
    return jax.jit(
      self.fn,
      donate_argnums=self.donate,
      in_shardings=placed,
      out_shardings=self.out_shardings,
    )

  def lower(self) -> jax.stages.Lowered:
    """Returns it traced and lowered for the abstract arguments, without any data."""
    return self._jitted().lower(*self.abstract_args)
