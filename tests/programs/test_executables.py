"""A program is found again by what it is built from, or compiled: never another one is found."""

import functools
import pathlib
import pickle
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lwz.learn import losses
from lwz.model import config as config_lib
from lwz.model import qwen, sharding
from lwz.model.attention import packed
from lwz.programs import executables, grpo, language_model, placement, program, rollout
from lwz.rollout import sampler
from lwz.rollout import spec as spec_lib

ROWS = language_model.RowShape(num_rows=2, row_length=16)
CONFIG = config_lib.preset('micro')


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.setattr(executables, '_folder', functools.partial(str, tmp_path))
  # The suite's hook wraps the functions of rooms, as nobody does in a run.
  monkeypatch.setattr(executables, '_check', functools.partial(_check, executables._check))
  return tmp_path / 'programs'


def _check(check, named):
  if not named.__module__.startswith(('jaxtyping', 'beartype')):
    check(named)


def mesh(num=1):
  return sharding.make_mesh((num,), jax.devices()[:num])


def evaluate(chunk=16, num=1):
  return language_model.evaluate(CONFIG, ROWS, chunk=chunk, mesh=mesh(num))


def path(built):
  devices = {d for x in jax.tree.leaves(built.abstract_args) for d in executables._devices(x)}
  return executables._path(built, devices)


def arguments():
  params = jax.jit(qwen.init, static_argnums=1)(jax.random.key(0), CONFIG)
  ids = np.random.default_rng(0).integers(1, 90, (2, 16), np.int32)
  rows = {'ids': ids, 'segments': np.ones_like(ids), 'positions': np.arange(16)[None] + 0 * ids}
  return jax.device_put(params, placement.shardings(evaluate().abstract_args[0])), rows


def never():
  raise AssertionError('it was compiled')


def test_what_is_found_gives_the_same_bits_and_nothing_is_compiled(folder):
  args = arguments()
  built = evaluate()
  compiled = executables.kept(built, lambda: built.lower().compile())
  found = executables.kept(evaluate(), never)
  assert found is not compiled and len(list(folder.iterdir())) == 1
  for x, y in zip(compiled(*args), found(*args), strict=True):
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_a_started_program_is_found_and_other_shapes_are_compiled(monkeypatch):
  args, built = arguments(), evaluate()
  built.start()
  expected = built.jit()(*args)
  again = evaluate()
  with monkeypatch.context() as patch:
    patch.setattr(program.Program, 'lower', lambda self: never())
    again.start()
    np.testing.assert_array_equal(again.jit()(*args)[0], expected[0])
  fewer = {name: x[:1] for name, x in args[1].items()}
  assert again.jit()(args[0], fewer)[1] == 15


def test_a_donated_state_is_donated_by_what_is_found():
  def built():
    return language_model.train_step(
      CONFIG, optax.sgd(0.1), ROWS, micro_rows=2, chunk=16, remat='none', mesh=mesh()
    )

  def state():
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), built().abstract_args[0])
    return jax.device_put(zeros, placement.shardings(built().abstract_args[0]))

  executables.kept(built(), lambda: built().lower().compile())
  given = state()
  after, _ = executables.kept(built(), never)(given, arguments()[1])
  assert all(x.is_deleted() for x in jax.tree.leaves(given.params))
  assert jax.tree.structure(after) == jax.tree.structure(state()) and int(after.step) == 1


def update(rate=1e-3, decay=0.1, clip_low=0.2, aggregate=losses.budget_mean, num=2, **changes):
  return grpo.update_step(
    CONFIG,
    optax.adamw(optax.linear_schedule(rate, 0.0, 10), weight_decay=decay),
    grpo.BatchShape(num, max_tokens=8, row_length=16, micro_rows=2, chunk=16),
    grpo.Objective(clip_low, 0.2, aggregate=functools.partial(aggregate)),
    mesh=mesh(),
    **{'temperature': 1.0, 'remat': 'none'} | changes,
  )


CHANGES = (
  {'rate': 2e-3},
  {'decay': 0.2},
  {'clip_low': 0.1},
  {'aggregate': losses.sequence_budget_mean},
  {'num': 4},
  {'temperature': 0.9},
  {'remat': 'full'},
)


def test_equal_parts_have_one_file_and_each_other_part_has_another():
  found = [path(update(**change)) for change in ({}, {}, *CHANGES)]
  assert found[0] == found[1] and None not in found and len(set(found)) == 1 + len(CHANGES)


def decode(batch_size=2, num=1, temperature=1.0):
  spec = spec_lib.EngineSpec(
    CONFIG, 2, 8, 8, sampler.Sampling(temperature), exact=False, mesh=mesh(num)
  )
  return rollout.decode(spec, batch_size=batch_size, read_length=16)


def test_programs_of_a_rollout_have_files():
  found = {path(decode()), path(decode(1)), path(decode(temperature=0.5))}
  assert None not in found and len(found) == 3


SURROUNDINGS = {
  'flag': lambda patch: patch.setenv('XLA_FLAGS', '--xla_dump_to=elsewhere'),
  'constant': lambda patch: patch.setattr(packed, 'OF_THIS_TEST', 7, raising=False),
  'source': lambda patch: patch.setattr(executables, '_process', functools.partial(tuple, 'a')),
}


@pytest.mark.parametrize('what', SURROUNDINGS)
def test_what_surrounds_a_program_is_part_of_its_key(what, monkeypatch):
  before = path(evaluate())
  SURROUNDINGS[what](monkeypatch)
  assert None not in {before, path(evaluate())} and before != path(evaluate())


def test_settings_of_jax_are_part_of_its_key():
  before = path(evaluate())
  with jax.default_matmul_precision('highest'):
    assert path(evaluate()) not in {before, None}


def test_sources_that_changed_since_the_process_began_are_not_trusted(monkeypatch):
  assert 0 < time.time() - executables._began() < 86_400
  monkeypatch.setattr(executables, '_process', executables._process.__wrapped__)
  monkeypatch.setattr(executables, '_began', functools.partial(float, 1e9))
  assert path(evaluate()) is None


def test_sources_versions_and_the_processor_are_described():
  found = executables._process.__wrapped__()
  assert jax.__version__ in ' '.join(found) and any('model name' in one for one in found)


def test_what_cannot_be_described_has_no_file(monkeypatch):
  own = program.Program('own', lambda x: x, (placement.array((2,), jnp.float32, mesh()),))
  assert path(own) is None  # a function outside of lwz
  assert path(update(rate=jnp.float32(0.1))) is None  # an array in a closure
  assert path(evaluate(num=2)) is None and path(decode(num=2)) is None  # several devices
  assert path(evaluate()) is not None
  monkeypatch.setattr(losses, 'budget_mean', lambda *args: losses.sequence_budget_mean(*args))
  assert path(evaluate()) is None  # lwz, patched
  monkeypatch.undo()
  monkeypatch.setattr(executables, '_folder', functools.partial(str, ''))
  assert path(evaluate()) is None


def damage(file: pathlib.Path, how: str) -> None:
  data = file.read_bytes()
  if how == 'open':
    file.chmod(0o666)
  else:
    changed = {'cut': data[:-9], 'empty': b'', 'foreign': pickle.dumps((1, 2, 3))}[how]
    file.write_bytes(changed)


@pytest.mark.parametrize('how', ['cut', 'empty', 'foreign', 'open'])
def test_a_damaged_file_is_compiled_anew_and_mended(how, folder):
  built = evaluate()
  compiled = built.lower().compile()
  executables.kept(built, lambda: compiled)
  (file,) = folder.iterdir()
  damage(file, how)
  assert executables.kept(built, lambda: compiled) is compiled
  assert executables.kept(built, never)(*arguments())[1] == 30
