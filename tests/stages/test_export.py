"""An export goes into a folder of its own."""

import jax
import pytest

from experiments import export as experiment
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.stages import export
from lwz.store.hf import checkpoint as hf


@pytest.fixture
def c(tmp_path):
  """The config of an export of a model in `model/` to `out/`."""
  config = config_lib.preset('micro')
  hf.save(tmp_path / 'model', config, qwen.init(jax.random.key(0), config))
  c = experiment.get_config('micro')
  c.init, c.export.folder = str(tmp_path / 'model'), str(tmp_path / 'out')
  return c


@pytest.mark.parametrize('name', ['notes.txt', 'checkpoints/1', 'model.bin', 'metrics.jsonl'])
def test_a_folder_with_files_of_something_else_is_refused(name, c, tmp_path):
  path = tmp_path / 'out' / name
  path.parent.mkdir(parents=True)
  path.write_text('mine')
  with pytest.raises(
    ValueError, match=rf'export\.folder=.*/out: holds {name.split("/")[0]}, which'
  ):
    export.check(c)


def test_a_folder_that_is_new_or_empty_or_holds_an_export_is_taken(c, tmp_path):
  export.check(c)
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / '.gitattributes').write_text('')
  export.check(c)
  config = config_lib.preset('micro')
  hf.save(tmp_path / 'out', config, qwen.init(jax.random.key(0), config))
  (tmp_path / 'out' / 'README.md').write_text('A card.')
  export.check(c)


def test_a_model_of_somebody_else_is_refused(c, tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'config.json').write_text('{"transformers_version": "4.43.1"}')
  with pytest.raises(ValueError, match='holds a model that was not exported here'):
    export.check(c)


def test_a_file_and_the_model_itself_are_refused(c, tmp_path):
  (tmp_path / 'file').write_text('')
  c.export.folder = str(tmp_path / 'file')
  with pytest.raises(ValueError, match='is a file; name a folder'):
    export.check(c)
  (tmp_path / 'link').symlink_to(tmp_path / 'model')
  c.export.folder = str(tmp_path / 'link')
  with pytest.raises(ValueError, match='the model of init itself'):
    export.check(c)
