"""The weather of all tests: 8 virtual CPU devices, strict numerics, checked shapes, no network."""

import os
import socket

# Read at import by the libraries below, so they stand before them.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['HF_HUB_OFFLINE'] = '1'
os.environ['TRANSFORMERS_OFFLINE'] = '1'
os.environ['HF_HUB_DISABLE_TELEMETRY'] = '1'
os.environ['TRANSFORMERS_VERBOSITY'] = 'error'
os.environ['TOKENIZERS_PARALLELISM'] = 'false'
os.environ['MPLBACKEND'] = 'Agg'

import jax
import jaxtyping
import pytest

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')

# Their annotations are checked in every call under test; a run pays nothing. The hook acts when a
# room is imported, so no room may be imported above this line.
CHECKED = ('lwz.model', 'lwz.rollout', 'lwz.reward', 'lwz.learn')
jaxtyping.install_import_hook(CHECKED, 'beartype.beartype')


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  """A connection that would leave this machine fails at once, with the address in the message."""
  connect = socket.socket.connect

  def connect_locally(self, address):
    local = self.family == socket.AF_UNIX or address[0] in ('127.0.0.1', '::1', 'localhost')
    if not local:
      raise ConnectionRefusedError(f'a test tried to reach {address}; tests run without a network')
    return connect(self, address)

  monkeypatch.setattr(socket.socket, 'connect', connect_locally)


@pytest.fixture(scope='session')
def micro_runs(tmp_path_factory):
  """A folder of runs at micro that tests fill and share: what one needs, another may have run."""
  return tmp_path_factory.mktemp('runs')
