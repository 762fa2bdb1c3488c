"""Abstract arguments of programs: shapes with their shardings."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from lwz import types
from lwz.learn import optimizer as optimizer_lib
from lwz.learn import update
from lwz.model import activations, parameters, quantised, qwen, sharding
from lwz.model import lora as lora_lib

AnyMesh = Mesh | AbstractMesh | None


def replicated(mesh: AnyMesh) -> NamedSharding | None:
  """Returns the sharding of what is whole on every device."""
  return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def array(
  shape: tuple[int, ...], dtype: Any, mesh: AnyMesh, *logical: str | None
) -> jax.ShapeDtypeStruct:
  """Returns an abstract array, sharded by the names of its dimensions (`activations.LAYOUT`)."""
  if mesh is None:
    return jax.ShapeDtypeStruct(shape, dtype)
  spec = activations.spec(mesh, shape, logical or (None,) * len(shape))
  return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))


def state(
  config: qwen.QwenConfig,
  optimizer: optax.GradientTransformation,
  mesh: AnyMesh,
  *,
  offload: bool = False,
  lora: lora_lib.LoRA | None = None,
) -> types.TrainState:
  """Returns an abstract training state by TRAIN; moments are sharded as their parameters.

  With `offload`, and a mesh, it waits in the memory of the host (`optimizer.on_host`). With `lora`
  it is of the adapters alone.
  """
  masters = trained(config, mesh, lora)
  abstract = jax.eval_shape(lambda p: update.init(p, optimizer), masters)
  if mesh is None:
    return abstract
  everywhere = replicated(mesh)
  # A moment's path ends in that of its parameter, whatever lies before and whichever have none.
  shardings_of = {path: master.sharding for path, master in jax.tree.leaves_with_path(masters)}

  def placed(path, kept):
    ends = (path[i:] for i in range(len(path)))
    return _place(
      kept, next((shardings_of[end] for end in ends if end in shardings_of), everywhere)
    )

  opt_state = jax.tree.map_with_path(placed, abstract.opt_state)
  if offload:
    opt_state = optimizer_lib.on_host(opt_state)
  return types.TrainState(
    step=_place(abstract.step, everywhere), params=masters, opt_state=opt_state
  )


def trained(
  config: qwen.QwenConfig, mesh: AnyMesh, lora: lora_lib.LoRA | None, dtype: Any = jnp.float32
) -> qwen.Params:
  """Returns what is trained as shapes: the adapters, or without any, all parameters."""
  return sharding.abstract_of(lora_lib.describe(config, lora), mesh, sharding.TRAIN, dtype)


def frozen(
  config: qwen.QwenConfig, mesh: AnyMesh, lora: lora_lib.LoRA | None
) -> tuple[qwen.Params, ...]:
  """Returns the base of adapters as shapes, in the compute dtype or quantised; () without any."""
  if not lora:
    return ()
  described = quantised.describe(parameters.describe(config), lora.frozen, config.dtype)
  return (sharding.abstract_of(described, mesh, sharding.TRAIN),)


def _place(abstract, where):
  return jax.ShapeDtypeStruct(abstract.shape, abstract.dtype, sharding=where)


def results(state: types.TrainState, mesh: AnyMesh) -> Any:
  """Returns the shardings of (state, metrics): the state as it came, metrics replicated."""
  return None if mesh is None else (shardings(state), replicated(mesh))


def shardings(abstract: Any) -> Any:
  """Returns the shardings of an abstract tree, as `jax.device_put` and `jax.jit` take them."""
  return jax.tree.map(lambda x: x.sharding, abstract)


def put(tree: Any, abstract: Any) -> Any:
  """Returns host arrays as global ones, for several processes.

  Every process has the whole of such an array, and copies the parts of its own devices. What is on
  the mesh already stays as it is. `abstract` has the same structure, and says where leaves lie.
  """

  def one(x, wanted):
    where = getattr(wanted, 'sharding', None)
    if where is None or (isinstance(x, jax.Array) and not x.is_fully_addressable):
      return x
    host = np.asarray(x, wanted.dtype)
    return jax.make_array_from_callback(host.shape, where, lambda index: host[index])

  return jax.tree.map(one, tree, abstract)
