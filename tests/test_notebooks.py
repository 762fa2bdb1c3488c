"""The notebooks run, in fresh kernels, at `micro`; what is committed is made of their texts."""

import importlib.util

import pytest

from tests import tree

pytest.importorskip('jupytext')
pytest.importorskip('nbclient')
pytest.importorskip('ipykernel')
import nbformat

_SPEC = importlib.util.spec_from_file_location('build', tree.ROOT / 'notebooks/build.py')
build = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(build)

SOURCES = build.sources()
each = pytest.mark.parametrize('source', SOURCES, ids=[source.stem for source in SOURCES])


@pytest.fixture(scope='module')
def folder(tmp_path_factory, micro_runs):
  """Somewhere else than in the clone; runs that several notebooks need are made once."""
  found = tmp_path_factory.mktemp('notebooks')
  (found / 'runs').symlink_to(micro_runs)
  return found


@pytest.mark.slow
@pytest.mark.parametrize('source', [pytest.param(s, id=s.stem) for s in SOURCES])
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of zmq and tornado, by Python's version
def test_a_notebook_runs_in_a_fresh_kernel(source, folder):
  found = build.notebook(source)
  build.execute(found, folder, 'micro')
  shown = [one.output_type for cell in found.cells for one in cell.get('outputs', [])]
  assert 'display_data' in shown or 'execute_result' in shown


@each
def test_what_is_committed_is_made_of_the_text_and_light(source):
  path = source.with_suffix('.ipynb')
  committed, made = nbformat.read(path, as_version=4), build.notebook(source)
  assert [(c.id, c.source) for c in committed.cells] == [(c.id, c.source) for c in made.cells]
  assert path.stat().st_size < build.LARGEST
  nbformat.validate(committed)
  errors = [o for c in committed.cells for o in c.get('outputs', []) if o.output_type == 'error']
  assert not errors and any(c.get('outputs') for c in committed.cells)


def test_paths_of_a_machine_are_not_kept(tmp_path):
  found = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('import os; os.getcwd()')])
  with pytest.raises(ValueError, match=r'an output names .*: print paths relative'):
    build.execute(found, tmp_path, 'micro')


def test_readme_has_their_table():
  text = (tree.ROOT / 'README.md').read_text('utf-8')
  assert build.readme(text) == text and build.table() in text
  assert all(f'(notebooks/{source.stem}.ipynb)' in build.table() for source in SOURCES)


def test_badges_and_install_cells_come_with_the_address():
  address = 'https://example.org/someone/lwz'
  assert 'open in Colab' not in build.table('')
  assert "REPOSITORY = ''" in build.notebook(SOURCES[0], '').cells[1].source
  assert build.table(address).count('/github/someone/lwz/blob/main/notebooks/0') == len(SOURCES)
  assert f'REPOSITORY = {address!r}' in build.notebook(SOURCES[0], address).cells[1].source
