"""What lwz imports is declared in setup.py, and what is declared is locked."""

import ast
import os
import re
import runpy
import subprocess
import sys

import pytest
import setuptools

from tests import tree

# Import name -> the name under which setup.py declares it, where the two differ.
DISTRIBUTION = {
  'absl': 'absl-py',
  'huggingface_hub': 'huggingface-hub',
  'ml_collections': 'ml-collections',
  'orbax': 'orbax-checkpoint',
  'prometheus_client': 'prometheus-client',
}


def declared():
  """{'CORE' or an extra: the distributions that setup.py names there}."""
  found = {}
  for node in ast.parse((tree.ROOT / 'setup.py').read_text(encoding='utf-8')).body:
    if isinstance(node, ast.Assign):
      value = ast.literal_eval(node.value)
      found |= value if isinstance(value, dict) else {node.targets[0].id: value}
  return {k: {re.match(r'[\w-]+', name)[0] for name in names} for k, names in found.items()}


def undeclared(source):
  """What a source imports that neither the core nor an extra for running declares."""
  groups = declared()
  known = set().union(*(groups[k] for k in groups.keys() - {'test', 'parity'}))
  strangers = tree.roots(source) - sys.stdlib_module_names - {'lwz', ''}
  return {name for name in strangers if DISTRIBUTION.get(name, name) not in known}


def faults(lock):
  """What keeps a lock from being installed by its hashes alone, on any machine, without torch."""
  entries = re.split(r'^(?=[a-z])', lock, flags=re.M)[1:]
  names = {re.match(r'[\w-]+', entry)[0] for entry in entries}
  groups = declared()
  wanted = {name.lower() for name in groups['CORE'] | groups['test']}
  asked = {re.match(r'[\w-]+', entry)[0] for entry in entries if 'lwz (setup.py)' in entry}
  return [
    *(f'{name} is missing' for name in sorted(wanted - names)),
    *(f'{name} does not belong' for name in sorted(names & {'torch', 'tensorflow', 'lwz'})),
    *(f'{name} is declared nowhere' for name in sorted(asked - wanted)),
    *(f'no hash: {entry}' for entry in entries if '--hash=sha256:' not in entry),
    *(f'a host or a path: {line}' for line in lock.splitlines() if '/' in line),
  ]


def locked():
  return (tree.ROOT / 'requirements.lock').read_text(encoding='utf-8')


def test_every_import_is_declared():
  found = {module: undeclared(source) for module, source in tree.modules('lwz').items()}
  assert not {module: names for module, names in found.items() if names}


@pytest.mark.parametrize('name', ['pandas', 'chex', 'torch', 'clu'])
def test_an_undeclared_import_is_found(name):
  assert undeclared(f'import jax\nimport orbax.checkpoint\nimport {name}.part') == {name}


def unused(names):
  """Distributions of extras that no module of lwz imports; what runs JAX elsewhere is no import."""
  met = set().union(*(tree.roots(source) for source in tree.modules('lwz').values()))
  met = {DISTRIBUTION.get(name, name) for name in met}
  return sorted(name for name in names if name != 'jax' and name not in met)


def test_every_extra_is_imported():
  groups = declared()
  extras = groups.keys() - {'CORE', 'test', 'parity', 'notebooks'}
  assert not {extra: unused(groups[extra]) for extra in extras if unused(groups[extra])}


def test_an_unused_extra_is_found():
  assert unused(['pyarrow', 'dask']) == ['dask']


def test_the_lock_is_whole():
  assert faults(locked()) == []


@pytest.mark.parametrize(
  'fault, spoil',
  [
    ('jax is missing', lambda lock: re.sub(r'^jax==', 'jaxx==', lock, flags=re.M)),
    ('torch does not belong', lambda lock: lock + 'torch==2.13.0 --hash=sha256:00\n'),
    ('zzz is declared nowhere', lambda lock: lock + 'zzz==1.0\n    # via lwz (setup.py)\n'),
    ('no hash: zzz', lambda lock: lock + 'zzz==1.0\n'),
    ('a host or a path: --index-url', lambda lock: '--index-url https://host/simple\n' + lock),
  ],
)
def test_a_fault_of_the_lock_is_found(fault, spoil):
  assert fault in '\n'.join(faults(spoil(locked())))


def dockerfile():
  """Instructions and arguments of launch/Dockerfile."""
  text = (tree.ROOT / 'launch/Dockerfile').read_text(encoding='utf-8')
  lines = [line for line in text.splitlines() if not line.startswith('#')]
  return [line.split(' ', 1) for line in '\n'.join(lines).replace('\\\n', '').splitlines() if line]


def test_the_image_is_made_of_what_is_here_and_of_one_base():
  steps = dockerfile()
  assert [what for name, what in steps if name == 'FROM'] == ['python:3.12-slim']
  copied = [word for name, what in steps if name == 'COPY' for word in what.split()[:-1]]
  assert not [path for path in copied if not (tree.ROOT / path).exists()]
  assert {'requirements.lock', 'setup.py', 'lwz', 'experiments'} <= {*copied}
  assert not [what for _, what in steps if '://' in what]
  assert steps[-1] == ['ENTRYPOINT', '["python", "-m", "lwz.launch"]']


@pytest.mark.parametrize('device', ['cpu', 'cuda13', 'tpu', 'cuda', ''])
def test_the_image_installs_the_lock_and_what_its_device_needs(tmp_path, device):
  """Its commands are run with a pip that only notes what it is asked for."""
  (tmp_path / 'pip').write_text('#!/bin/sh\necho "$@" >> pip.log\n')
  (tmp_path / 'python').write_text('#!/bin/sh\necho 0.0.1\n')
  for name in ('pip', 'python'):
    (tmp_path / name).chmod(0o755)
  environment = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'DEVICE': device}
  codes = [
    subprocess.run(['sh', '-c', what], cwd=tmp_path, env=environment, capture_output=True)
    for name, what in dockerfile()
    if name == 'RUN'
  ]
  log = (tmp_path / 'pip.log').read_text()
  extra = f'jax[{device}]==0.0.1'
  if device in declared() or device == 'cpu':
    assert not any(one.returncode for one in codes)
    assert '--require-hashes -r requirements.lock' in log and (extra in log) == (device != 'cpu')
  else:
    assert codes[0].returncode and b'choose cpu, cuda13 or tpu' in codes[0].stdout
    assert 'requirements.lock' not in log


def test_experiments_are_installed_beside_lwz(monkeypatch):
  """Else `lwz.load_config` finds them in a clone alone."""
  given = {}
  monkeypatch.setattr(setuptools, 'setup', lambda **options: given.update(options))
  monkeypatch.chdir(tree.ROOT)
  runpy.run_path('setup.py')
  assert {'experiments', 'experiments.sweeps', 'lwz.stages'} <= set(given['packages'])
