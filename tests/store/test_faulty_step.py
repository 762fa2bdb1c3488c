"""A step that went wrong can be run again, from the same bits."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.store import faulty_step

STATE = {'w': jnp.array([1.0, jnp.nan]), 'step': jnp.int32(3)}
BATCH = ({'ids': np.arange(4), 'logp': np.array([0.0, -np.inf], np.float32)}, np.int32(2))
METRICS = {'loss': np.float32(np.nan), 'skipped': 1.0}


def shapes(tree):
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype, sharding=here), tree
  )


def test_state_and_batch_come_back_with_what_was_wrong(tmp_path):
  target = faulty_step.write(tmp_path, 'step-000003-0', STATE, BATCH, METRICS)
  (state, *batch), fault = faulty_step.read(target, shapes((STATE, *BATCH)))
  jax.tree.map(np.testing.assert_array_equal, state, STATE)
  jax.tree.map(np.testing.assert_array_equal, tuple(batch), BATCH)
  assert fault == {
    'metrics': {'loss': None, 'skipped': 1.0},
    'not_finite': ['loss', 'batch 0.logp'],
  }
  assert json.loads((tmp_path / 'faults/step-000003-0/fault.json').read_text()) == fault


def test_the_file_of_an_older_run_is_read_by_its_old_name(tmp_path):
  target = faulty_step.write(tmp_path, 'one', STATE, BATCH, METRICS)
  path = target / 'fault.json'
  path.write_text(path.read_text().replace('"metrics"', '"figures"'))
  _, fault = faulty_step.read(target, shapes((STATE, *BATCH)))
  assert fault['metrics'] == {'loss': None, 'skipped': 1.0}
  path.write_text('{"not_finite": []}')
  with pytest.raises(ValueError, match=r'fault\.json: metrics = None is no object; it is damaged'):
    faulty_step.read(target, shapes((STATE, *BATCH)))


def test_a_state_that_is_lost_is_named(tmp_path):
  target = faulty_step.write(tmp_path, 'one', STATE, BATCH, METRICS)
  shutil.rmtree(target / 'state')
  with pytest.raises(ValueError, match='one/state: cannot be read, a file is broken or missing'):
    faulty_step.read(target, shapes((STATE, *BATCH)))


def test_a_write_over_an_earlier_one_that_is_cut_short_is_no_fault(tmp_path, monkeypatch):
  target = faulty_step.write(tmp_path, 'one', STATE, BATCH, METRICS)

  def die(*args, **arrays):
    raise KeyboardInterrupt

  monkeypatch.setattr(faulty_step.np, 'savez', die)
  with pytest.raises(KeyboardInterrupt):
    faulty_step.write(tmp_path, 'one', STATE | {'step': jnp.int32(4)}, BATCH, METRICS)
  with pytest.raises(FileNotFoundError, match='no fault'):  # its state is not of its batch
    faulty_step.read(target, shapes((STATE, *BATCH)))


def test_another_batch_or_folder_is_named(tmp_path):
  target = faulty_step.write(tmp_path, 'one', STATE, BATCH, METRICS)
  with pytest.raises(ValueError, match=r"batch.npz holds \['0.ids', '0.logp', '1'\], the step"):
    faulty_step.read(target, shapes((STATE, {'ids': np.arange(4)})))
  with pytest.raises(FileNotFoundError, match='no fault'):
    faulty_step.read(tmp_path, shapes((STATE, *BATCH)))
