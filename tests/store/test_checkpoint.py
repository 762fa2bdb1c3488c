"""A state comes back bit for bit, or not at all."""

import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lwz import types
from lwz.store import checkpoint

EXTRA = {'data': {'next': 7, 'epochs': [1, 2.5]}, 'tokens': 2**40}


def make(seed=0, width=8):
  """A state of mixed dtypes whose bits are random, NaNs and subnormals included."""
  bits = np.random.default_rng(seed).integers(0, 2**16, (width, 4), dtype=np.uint16)
  params = {
    'half': jnp.asarray(bits.view(jnp.bfloat16)),
    'layers': {
      'w': jnp.asarray(np.random.default_rng(seed).standard_normal((width, 2), np.float32))
    },
  }
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
  return types.TrainState(jnp.int32(seed), params, optimizer.init(params))


def abstract(tree, sharding=None):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def assert_same_bits(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert (x.shape, x.dtype) == (y.shape, y.dtype)
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture
def checkpoints(tmp_path):
  opened = checkpoint.Checkpoints(tmp_path)
  yield opened
  opened.close()


def test_state_and_extra_come_back_bit_for_bit(checkpoints):
  state = make(3)
  checkpoints.save(3, state, EXTRA)
  checkpoints.wait()
  restored, extra = checkpoints.restore(abstract(state))
  assert_same_bits(restored, state)
  assert extra == EXTRA
  assert restored.step.dtype == jnp.int32 and restored.params['half'].dtype == jnp.bfloat16


def test_a_relative_folder_is_as_good(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  opened = checkpoint.Checkpoints('runs/one')
  opened.save(1, make(), EXTRA)
  opened.close()
  wanted = abstract(make()).params
  assert_same_bits(checkpoint.load_params('runs/one', wanted), make().params)


def test_buffers_may_be_donated_as_soon_as_save_returns(checkpoints):
  state = make(1, width=1024)
  kept = jax.tree.map(lambda x: np.array(x), state)
  checkpoints.save(1, state, {})
  state = jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)(state)
  jax.block_until_ready(state)
  checkpoints.wait()
  assert_same_bits(checkpoints.restore(abstract(kept))[0], kept)


def test_it_comes_back_in_the_sharding_that_is_asked_for(checkpoints):
  mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ('data', 'fsdp'))
  rows = NamedSharding(mesh, PartitionSpec('fsdp'))
  cells = NamedSharding(mesh, PartitionSpec('data', None))
  state = make(2)
  spread = state.replace(params=jax.device_put(state.params, rows))
  checkpoints.save(2, spread, {})
  wanted = abstract(state).replace(params=abstract(state.params, cells))
  restored, _ = checkpoints.restore(wanted)
  assert_same_bits(restored, state)
  assert all(leaf.sharding == cells for leaf in jax.tree.leaves(restored.params))


def test_the_newest_are_kept_and_any_of_them_restored(tmp_path):
  saved = checkpoint.Checkpoints(tmp_path, keep=2)
  assert saved.latest() is None
  for step in (1, 2, 3):
    saved.save(step, make(step), {'step': step})
  assert saved.latest() == 3
  saved.close()
  again = checkpoint.Checkpoints(tmp_path, keep=2)
  assert sorted(int(p.name) for p in (tmp_path / 'checkpoints').iterdir()) == [2, 3]
  assert again.restore(abstract(make()), 2)[1] == {'step': 2}
  assert again.restore(abstract(make()))[1] == {'step': 3}
  with pytest.raises(FileNotFoundError, match=r'no checkpoint of step 1; there are \[2, 3\]'):
    again.restore(abstract(make()), 1)
  again.close()


def test_no_checkpoint_is_an_error(tmp_path, checkpoints):
  with pytest.raises(FileNotFoundError, match='no complete checkpoint'):
    checkpoints.restore(abstract(make()))
  with pytest.raises(FileNotFoundError, match='no complete checkpoint'):
    checkpoint.load_params(tmp_path, abstract(make().params))
  with pytest.raises(FileNotFoundError, match='no checkpoints here'):
    checkpoint.load_params(tmp_path / 'nowhere', abstract(make().params))


def test_a_leaf_that_differs_is_named(checkpoints):
  checkpoints.save(1, make(), {})
  with pytest.raises(ValueError, match=r'params\.layers\.w: \[8, 2\] float32 saved, \[9, 2\]'):
    checkpoints.restore(abstract(make(width=9)))
  other = abstract(make()).replace(step=jax.ShapeDtypeStruct((), jnp.uint32))
  with pytest.raises(ValueError, match=r'step: \[\] int32 saved, \[\] uint32 wanted'):
    checkpoints.restore(other)
  more = abstract(make())
  more.params['bias'] = jax.ShapeDtypeStruct((2,), jnp.float32)
  with pytest.raises(ValueError, match=r'params\.bias: absent saved, \[2\] float32 wanted'):
    checkpoints.restore(more)


def test_a_step_is_saved_once(checkpoints):
  checkpoints.save(2, make(), {})
  for step in (1, 2):
    with pytest.raises(ValueError, match=f'cannot save step {step}, step 2 is saved already'):
      checkpoints.save(step, make(), {})


@pytest.mark.parametrize('extra', [{1: 2}, {'a': (1,)}, {'a': float('nan')}, {'a': b''}])
def test_an_extra_that_json_would_not_give_back_is_refused(checkpoints, extra):
  with pytest.raises(ValueError, match='extra'):
    checkpoints.save(1, make(), extra)
  assert checkpoints.latest() is None


def test_parameters_alone_are_loaded_and_cast(tmp_path, checkpoints, caplog):
  state = make(5)
  checkpoints.save(5, state, EXTRA)
  checkpoints.wait()
  before = sorted(tmp_path.rglob('*'))
  assert_same_bits(checkpoint.load_params(tmp_path, abstract(state.params)), state.params)
  half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), state.params)
  loaded = checkpoint.load_params(tmp_path, half)
  assert_same_bits(loaded['layers'], {'w': state.params['layers']['w'].astype(jnp.bfloat16)})
  assert sorted(tmp_path.rglob('*')) == before
  assert [r.getMessage() for r in caplog.records if r.levelname == 'WARNING'] == []
  with pytest.raises(ValueError, match=r'params\.layers\.w: \[8, 2\]'):
    checkpoint.load_params(tmp_path, abstract(make(width=9).params))


def test_a_state_without_parameters_is_named(tmp_path, checkpoints):
  checkpoints.save(1, {'w': jnp.zeros(2)}, {})
  checkpoints.wait()
  with pytest.raises(ValueError, match=r'params\.w: absent saved'):
    checkpoint.load_params(tmp_path, {'w': jax.ShapeDtypeStruct((2,), jnp.float32)})


def test_parameters_are_read_without_the_optimiser(tmp_path, checkpoints, monkeypatch):
  state = make(5)
  checkpoints.save(5, state, {})
  checkpoints.wait()
  seen = []
  from orbax.checkpoint._src.serialization import jax_array_handlers

  read = jax_array_handlers.ArrayHandler.deserialize

  def watch(self, infos, args=None):
    seen.extend(info.name for info in infos)
    return read(self, infos, args)

  monkeypatch.setattr(jax_array_handlers.ArrayHandler, 'deserialize', watch)
  checkpoint.load_params(tmp_path, abstract(state.params))
  assert sorted(seen) == ['params.half', 'params.layers.w']


CHILD = """
import os, signal, sys
import jax.numpy as jnp
from lwz.store import checkpoint

saved = checkpoint.Checkpoints(sys.argv[1])
saved.save(2, {'w': jnp.full((4, 4), 2.0)}, {'step': 2})
saved.wait()
# All is written but the name: the last moment at which the step is not yet there.
os.rename = os.replace = lambda *paths, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
saved.save(4, {'w': jnp.full((4, 4), 4.0)}, {'step': 4})
saved.wait()
"""


def test_a_kill_in_the_middle_leaves_the_earlier_step(tmp_path):
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  child = subprocess.run([sys.executable, '-c', CHILD, str(tmp_path)], env=environment, timeout=60)
  assert child.returncode == -signal.SIGKILL
  folder = tmp_path / 'checkpoints'
  assert any('tmp' in p.name for p in folder.iterdir())

  wanted = {'w': jax.ShapeDtypeStruct((4, 4), jnp.float32)}
  saved = checkpoint.Checkpoints(tmp_path)
  assert saved.latest() == 2
  state, extra = saved.restore(wanted)
  assert extra == {'step': 2} and (state['w'] == 2.0).all()
  saved.save(5, state, {'step': 5})
  saved.close()
  assert sorted(p.name for p in folder.iterdir()) == ['2', '5']


def cut(files):
  for file in files:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def truncate_all(path):
  cut(p for p in (path / 'state').rglob('*') if p.is_file())


def truncate_the_numbers(path):
  files = [p for p in (path / 'state').rglob('*') if p.parent.name == 'd']
  assert files
  cut(files)


def lose_a_file(path):
  (path / 'state' / '_METADATA').unlink()


def say_other_bits_were_saved(path):
  file = path / 'sums' / 'metadata'
  sums = json.loads(file.read_text())
  sums['params.half'] ^= 1
  file.write_text(json.dumps(sums))


def say_other_extra_was_saved(path):
  file = path / 'extra' / 'metadata'
  file.write_text(file.read_text().replace('"step"', '"steps"'))


def be_of_another_step(path):
  file = path / 'extra' / 'metadata'
  file.write_text(file.read_text().replace('3', '1'))
  sums = path / 'sums' / 'metadata'  # as before extra had a checksum
  sums.write_text(
    json.dumps({k: v for k, v in json.loads(sums.read_text()).items() if k != 'extra'})
  )


def empty(path):
  shutil.rmtree(path)
  path.mkdir()


def be_of_another_program(path):
  empty(path)
  (path / 'model.bin').write_bytes(b'weights')


def be_of_another_model(path):
  shutil.rmtree(path)
  other = checkpoint.Checkpoints(path.parents[1] / 'other')
  other.save(3, make(3, width=9), {'step': 3})
  other.close()
  (path.parents[1] / 'other' / 'checkpoints' / '3').rename(path)


FAULTS = [
  truncate_all,
  truncate_the_numbers,
  lose_a_file,
  say_other_bits_were_saved,
  say_other_extra_was_saved,
  be_of_another_step,
  empty,
  be_of_another_program,
  be_of_another_model,
]


# Where several leaves fail, orbax forgets all but the first, whose event loop is gone by then.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize('fault', FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_checkpoint_is_named_put_aside_and_the_one_before_it_used(fault, tmp_path, caplog):
  saved = checkpoint.Checkpoints(tmp_path)
  for step in (2, 3):
    saved.save(step, make(step), {'step': step})
  saved.close()
  newest = tmp_path / 'checkpoints' / '3'
  fault(newest)
  again = checkpoint.Checkpoints(tmp_path)
  state, extra = again.restore(abstract(make()))
  assert_same_bits(state, make(2))
  assert extra == {'step': 2}
  said = ' '.join(r.getMessage() for r in caplog.records)
  assert f'{newest}' in said and 'resuming from step 2' in said
  assert (tmp_path / 'refused' / '3').exists()
  again.save(3, make(3), {'step': 3})  # as a run that goes on will
  again.wait()
  assert_same_bits(again.restore(abstract(make()))[0], make(3))
  again.close()


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize('fault', [truncate_all, lose_a_file, empty, be_of_another_program])
def test_parameters_of_a_broken_checkpoint_are_an_error_that_names_it(fault, tmp_path):
  saved = checkpoint.Checkpoints(tmp_path)
  saved.save(3, make(3), {'step': 3})
  saved.close()
  fault(tmp_path / 'checkpoints' / '3')
  with pytest.raises(ValueError, match=r'checkpoints/3: (cannot be read|no training state)'):
    checkpoint.load_params(tmp_path, abstract(make().params))


def test_a_checkpoint_that_was_renamed_is_of_another_step(tmp_path):
  saved = checkpoint.Checkpoints(tmp_path)
  saved.save(3, make(3), {'step': 3})
  saved.close()
  (tmp_path / 'checkpoints' / '3').rename(tmp_path / 'checkpoints' / '5')
  again = checkpoint.Checkpoints(tmp_path)
  with pytest.raises(ValueError, match='checkpoints/5: its extra is of another step, 3'):
    again.restore(abstract(make()))
  again.close()


def test_the_only_checkpoint_stays_where_it_is_though_broken(tmp_path):
  saved = checkpoint.Checkpoints(tmp_path)
  saved.save(3, make(3), {})
  saved.close()
  truncate_all(tmp_path / 'checkpoints' / '3')
  again = checkpoint.Checkpoints(tmp_path)
  with pytest.raises(ValueError, match='checkpoints/3: cannot be read'):
    again.restore(abstract(make()))
  assert (tmp_path / 'checkpoints' / '3').exists()
  again.close()


def test_the_best_stay_beside_the_newest(tmp_path):
  saved = checkpoint.Checkpoints(tmp_path, keep=1, keep_best=1)
  for step, metric in ((1, 0.2), (2, 0.9), (3, None), (4, 0.5), (5, 0.4)):
    saved.save(step, make(step), {}, metric=metric)
  saved.close()
  assert sorted(int(p.name) for p in (tmp_path / 'checkpoints').iterdir()) == [2, 5]
  wanted = abstract(make().params)
  assert_same_bits(checkpoint.load_params(tmp_path, wanted, 2), make(2).params)


FULL = """
import resource, signal, sys
import jax.numpy as jnp
from lwz.store import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
saved = checkpoint.Checkpoints(sys.argv[1])
saved.save(1, {'w': jnp.ones(4)}, {})
saved.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, 2**18))  # no file may grow beyond this
import numpy as np
noise = np.random.default_rng(0).integers(0, 2**31, 2**20).astype('int32')
saved.save(2, {'w': jnp.asarray(noise)}, {})
"""


# `check` is called step by step, and need not wait for the next save.
CHECKED = """
import time
for _ in range(600):
  saved.check()
  time.sleep(0.1)
"""


@pytest.mark.parametrize('said', ['saved.wait()', CHECKED])
def test_a_disk_without_room_is_a_clear_error_and_the_last_good_state_stays(tmp_path, said):
  child = subprocess.run(
    [sys.executable, '-c', FULL + said, str(tmp_path)], capture_output=True, text=True, timeout=120
  )
  assert child.returncode == 1
  error = child.stderr.splitlines()
  assert any('OSError' in line and 'a checkpoint could not be written' in line for line in error)
  assert 'complete steps: [1]; make room' in child.stderr
  again = checkpoint.Checkpoints(tmp_path)
  wanted = {'w': jax.ShapeDtypeStruct((4,), jnp.float32)}
  assert again.restore(wanted)[0]['w'].tolist() == [1, 1, 1, 1]
  again.close()


def test_the_metric_of_an_older_checkpoint_is_read_under_its_old_name():
  assert checkpoint._metric({'figure': 2.0}) == checkpoint._metric({'metric': 2.0}) == 2.0
