"""Token embedding from a table that is sharded along vocabulary and width."""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from lwz.model import activations


@jax.named_scope('embed')
def embed(
  table_VD: Float[Array, 'V D'],
  ids_BT: Int[Array, 'B T'],
  dtype: jax.typing.DTypeLike,
  mesh: Mesh | AbstractMesh | None = None,
  *,
  width: str | None = 'fsdp',
) -> Float[Array, 'B T D']:
  """`table_VD[ids_BT]` in `dtype`, sharded as rows x residual.

  `width` is the mesh axis of D: `fsdp` in training, None in decoding, where a device has whole rows
  of the table. No device holds more than its own part of the table, forward or backward: each looks
  up, for the rows of its whole `fsdp` group, the ids and the part of the width that it has; a sum
  over `tensor` and an all-to-all over `fsdp` assemble the rows. The gradient is summed in the dtype
  of the table: in bfloat16 that of a frequent token would stop changing.
  """
  if mesh is None or mesh.size == 1:
    return table_VD[ids_BT].astype(dtype)
  rows, time = activations.spec(mesh, ids_BT.shape, ('rows', 'time'))
  out = activations.spec(mesh, (*ids_BT.shape, 1), ('rows', 'residual', None))
  exchanged = width is not None and rows is not None and width in rows
  scattered = out[1] is not None and 'tensor' in out[1]

  def lookup(table_vd, ids_bt):
    if exchanged:
      ids_bt = jax.lax.all_gather(ids_bt, width, axis=0, tiled=True)
    local_bt = ids_bt - jax.lax.axis_index('tensor') * table_vd.shape[0]
    mine_bt = (local_bt >= 0) & (local_bt < table_vd.shape[0])
    found_btd = table_vd[jnp.where(mine_bt, local_bt, 0)].astype(dtype)
    part_btd = jnp.where(mine_bt[:, :, None], found_btd, 0)
    if scattered:
      part_btd = jax.lax.psum_scatter(part_btd, 'tensor', scatter_dimension=1, tiled=True)
    else:
      part_btd = jax.lax.psum(part_btd, 'tensor')
    if exchanged:
      return jax.lax.all_to_all(part_btd, width, split_axis=0, concat_axis=2, tiled=True)
    if width is not None:
      return jax.lax.all_gather(part_btd, width, axis=2, tiled=True)
    return part_btd

  return jax.shard_map(
    lookup,
    mesh=mesh,
    in_specs=(PartitionSpec('tensor', width), PartitionSpec(rows, time)),
    out_specs=out,
    check_vma=False,
  )(table_VD, ids_BT)
