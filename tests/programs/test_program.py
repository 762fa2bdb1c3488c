"""A program is lowered from shapes alone, at any size; what it may take over, it takes over."""

import dataclasses
import re
import threading
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lwz.learn import losses
from lwz.model import config as config_lib
from lwz.model import sharding
from lwz.programs import grpo, language_model, placement, program, reward_model, rollout
from lwz.rollout import sampler
from lwz.rollout import spec as spec_lib

ROWS = language_model.RowShape(num_rows=4, row_length=32)


def programs(size):
  """One of each, with pocket batches: the parameters are what is large."""
  config = config_lib.preset(size)
  scorer = dataclasses.replace(config, scalar_head=True)
  optimizer = optax.adamw(1e-5)
  engine = spec_lib.EngineSpec(config, 1, 8, 8, sampler.Sampling(), exact=True)
  return {
    built.name: built
    for built in (
      language_model.train_step(config, optimizer, ROWS, micro_rows=2, chunk=16, remat='full'),
      language_model.evaluate(config, ROWS, chunk=16),
      reward_model.train_step(scorer, optimizer, ROWS, num_pairs=3, remat='full'),
      reward_model.score(scorer, ROWS),
      rollout.prefill(engine, batch_size=1, num_tokens=8),
      grpo.update_step(
        config,
        optimizer,
        grpo.BatchShape(6, max_tokens=16, row_length=32, micro_rows=2, chunk=16),
        grpo.Objective(0.2, 0.2, aggregate=lambda num_tokens, _: losses.budget_mean(num_tokens)),
        temperature=0.8,
        remat='full',
      ),
    )
  }


NAMES = ('pretrain', 'evaluate', 'reward_model', 'score', 'prefill', 'grpo')
TRAINING = {'pretrain', 'reward_model', 'grpo'}


@pytest.mark.parametrize('size', ['micro', '72b'])
@pytest.mark.parametrize('name', NAMES)
def test_every_program_is_lowered_from_its_abstract_arguments(size, name):
  built = programs(size)[name]
  lowered = built.lower()
  inputs = jax.tree.leaves(lowered.in_avals)
  assert [(x.shape, x.dtype) for x in inputs] == [
    (x.shape, x.dtype) for x in jax.tree.leaves(built.abstract_args)
  ]
  assert 'module' in lowered.as_text()[:200]


@pytest.mark.parametrize('name', NAMES)
def test_the_state_of_a_training_step_and_nothing_else_is_donated(name):
  (args, _) = programs('micro')[name].lower().args_info
  donated = [all(x.donated for x in jax.tree.leaves(arg)) for arg in args]
  kept = [not any(x.donated for x in jax.tree.leaves(arg)) for arg in args]
  assert donated == [name in TRAINING, *[False] * (len(args) - 1)]
  assert kept == [not d for d in donated]


@pytest.mark.parametrize('name', sorted(TRAINING))
def test_a_training_step_returns_a_state_as_it_got_it(name):
  built = programs('micro')[name]
  state, metrics = jax.eval_shape(built.fn, *built.abstract_args)
  before = built.abstract_args[0]
  assert jax.tree.structure(state) == jax.tree.structure(before)
  for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(before), strict=True):
    assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)
  assert all(x.shape == () and x.dtype == jnp.float32 for x in metrics.values())


@pytest.mark.parametrize(
  'name, scopes',
  [('pretrain', {'head', 'loss'}), ('grpo', {'head', 'loss'}), ('reward_model', {'loss'})],
)
def test_a_profile_names_head_and_loss_forward_and_backward_and_the_optimizer(name, scopes):
  text = programs('micro')[name].lower().as_text(debug_info=True)
  found = {part for path in re.findall(r'loc\("([^"]*)"', text) for part in path.split('/')}
  forward, backward = ({f'{way}({x})' for x in scopes} for way in ('jvp', 'transpose(jvp'))
  assert forward | {f'{x})' for x in backward} | {'optimizer'} <= found


@pytest.mark.parametrize('started', [False, True])
def test_a_donated_buffer_is_gone_and_the_others_remain(started):
  shape = jax.ShapeDtypeStruct((3,), jnp.float32)
  built = program.Program('add', lambda a, b: a + b, (shape, shape), donate=(0,))
  if started:
    built.start()
  add = built.jit()
  a, b = jnp.ones(3), jnp.ones(3)
  assert add(a, b).tolist() == [2, 2, 2]
  assert a.is_deleted() and not b.is_deleted()


def product(mesh=None, traced=None):
  """(x, w, n) -> x w n; `traced` gathers the threads in which it is traced."""

  def fn(x_ND, w_DF, num):
    if traced is not None:
      traced.append(threading.current_thread().name)
    return jnp.dot(x_ND, w_DF) * num.astype(jnp.float32)

  args = tuple(
    placement.array(shape, dtype, mesh)
    for shape, dtype in (((2, 3), jnp.float32), ((3, 4), jnp.float32), ((), jnp.int32))
  )
  return program.Program('product', fn, args)


def arrays(num_rows=2):
  rng = np.random.default_rng(0)
  return rng.standard_normal((num_rows, 3), np.float32), rng.standard_normal((3, 4), np.float32)


@pytest.mark.parametrize('mesh', [None, (1,)], ids=str)
def test_what_is_started_is_compiled_once_in_a_thread(mesh):
  traced: list[str] = []
  over = mesh and sharding.make_mesh(mesh, jax.devices()[: np.prod(mesh)])
  built = product(over, traced)
  assert built.start() is built.start()
  built.start().result()
  fn = built.jit()
  for num in (2, np.int32(2)):  # as a host counts
    np.testing.assert_array_equal(fn(*arrays(), num), product(over).jit()(*arrays(), 2))
  assert len(traced) == 1 and traced[0].startswith('compile')


def test_devices_of_a_cpu_compile_beside_no_collectives():
  built = product(sharding.make_mesh((2, 2), jax.devices()[:4]))
  assert built.start() is None
  np.testing.assert_array_equal(built.jit()(*arrays(), 2), product().jit()(*arrays(), 2))


@pytest.fixture
def busy(monkeypatch):
  """Threads that all compile something else, for as long as a test takes."""
  go, threads = threading.Event(), futures.ThreadPoolExecutor(1, 'compile')
  monkeypatch.setattr(program, '_THREADS', threads)
  threads.submit(go.wait, 60)
  yield
  go.set()
  threads.shutdown()


def test_what_is_needed_waits_for_nothing_that_was_started_before(busy):
  traced: list[str] = []
  built = product(traced=traced)
  built.start()
  fn = built.jit()
  assert fn(*arrays(), 2).shape == fn(*arrays(), 3).shape == (2, 4)
  assert traced == ['MainThread'] and built.start().done()


def test_what_is_dropped_keeps_no_thread_and_can_be_called(busy):
  traced: list[str] = []
  built = product(traced=traced)
  begun = built.start()
  program.drop()
  assert begun.cancelled() and not traced
  assert built.jit()(*arrays(), 2).shape == (2, 4)


def test_other_shapes_and_dtypes_are_compiled_when_they_come():
  traced: list[str] = []
  built = product(traced=traced)
  built.start()
  fn = built.jit()
  assert fn(*arrays(), 1).shape == (2, 4) and fn(*arrays(5), 1).shape == (5, 4)
  assert len(traced) == 2
  assert fn(*arrays(), np.float32(1)).shape == (2, 4) and len(traced) == 3


def test_what_takes_int4_is_compiled_when_it_is_called():
  where = jax.sharding.NamedSharding(sharding.make_mesh((1, 1, 1)), jax.sharding.PartitionSpec())
  abstract = jax.ShapeDtypeStruct((4,), jnp.int4, sharding=where)
  built = program.Program('double', lambda q: 2.0 * q.astype(jnp.float32), (abstract,))
  built.start()
  q = jax.jit(lambda: jnp.array([-8, -1, 0, 7], jnp.int4), out_shardings=where)()
  np.testing.assert_array_equal(built.jit(q)(), [-16, -2, 0, 14])


def test_frozen_arguments_stay_the_last():
  x, w = arrays()
  built = product()
  built.start()
  expected = product().jit()(x, w, 3)
  np.testing.assert_array_equal(built.jit(np.int32(3))(x, w), expected)
  np.testing.assert_array_equal(product().jit(np.int32(3))(x, w), expected)


def test_what_cannot_be_compiled_says_so_where_it_is_called():
  built = program.Program(
    'sum', lambda x: x + jnp.ones(3), (jax.ShapeDtypeStruct((2,), 'float32'),)
  )
  built.start()
  with pytest.raises(TypeError, match='incompatible shapes'):
    built.jit()(np.zeros(2, np.float32))
