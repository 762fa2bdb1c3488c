"""A folder is pushed to the hub whole, to whom it may be shown, or not at all."""

import pathlib
import types

import huggingface_hub.utils
import pytest

from lwz.store.hf import hub


class Hub:
  """The hub, as `huggingface_hub.HfApi` speaks to it; `faults` are what its calls raise."""

  def __init__(self, public=(), **faults):
    self.private, self.faults, self.pushed = dict.fromkeys(public, False), faults, {}

  def _may_fail(self, name):
    if name in self.faults:
      raise self.faults[name]

  def create_repo(self, name, *, private, exist_ok):
    self._may_fail('create_repo')
    assert exist_ok
    self.private.setdefault(name, private)
    return f'https://hub/{name}'

  def model_info(self, name):
    self._may_fail('model_info')
    return types.SimpleNamespace(private=self.private[name])

  def upload_folder(
    self, *, repo_id, folder_path, commit_message, ignore_patterns, delete_patterns
  ):
    self._may_fail('upload_folder')
    assert commit_message
    names = [p.relative_to(folder_path).as_posix() for p in pathlib.Path(folder_path).rglob('*')]
    chosen = huggingface_hub.utils.filter_repo_objects
    new, held = chosen(names, ignore_patterns=ignore_patterns), self.pushed.get(repo_id, [])
    gone = {*chosen(held, allow_patterns=delete_patterns)}
    self.pushed[repo_id] = sorted(({*held} - gone) | {*new})


@pytest.fixture
def folder(tmp_path):
  for name in ('config.json', 'model.safetensors', '.env', 'policy-F16.gguf.partial'):
    (tmp_path / name).write_text(name)
  return tmp_path


@pytest.mark.parametrize('private', [True, False])
def test_a_folder_is_pushed_to_a_repository_that_is_made(folder, private):
  api = Hub()
  assert hub.push(folder, 'me/policy', private=private, api=api) == private
  assert api.private == {'me/policy': private}
  assert api.pushed == {'me/policy': ['config.json', 'model.safetensors']}


def test_what_everybody_can_read_gets_nothing_that_is_to_be_private(folder):
  api = Hub(public=['me/policy'])
  with pytest.raises(ValueError, match=r'me/policy: everybody can read it; make it private'):
    hub.push(folder, 'me/policy', private=True, api=api)
  assert not api.pushed
  assert not hub.push(folder, 'me/policy', private=False, api=api) and api.pushed


def test_what_is_private_already_stays_so(folder):
  api = Hub()
  hub.push(folder, 'me/policy', private=True, api=api)
  assert hub.push(folder, 'me/policy', private=False, api=api)


def test_weights_of_an_earlier_push_do_not_stay_beside_new_ones(folder):
  api = Hub()
  stale = ['chat_template.jinja', 'Modelfile.zh', 'old-F16.gguf', 'generation_config.json']
  api.pushed = {'me/policy': ['NOTES.md', 'model.safetensors', 'adapter_config.json', *stale]}
  (folder / 'model.safetensors').unlink()
  new = ['model-00001-of-00001.safetensors', 'model.safetensors.index.json', 'config.json']
  for name in new:
    (folder / name).write_text('new')
  for _ in range(2):
    hub.push(folder, 'me/policy', private=True, api=api)
    assert api.pushed == {'me/policy': sorted(['NOTES.md', *new])}


@pytest.mark.parametrize('call', ['create_repo', 'model_info', 'upload_folder'])
@pytest.mark.parametrize(
  'fault', [OSError('403 Forbidden\n\nmore'), RuntimeError('403 Forbidden'), KeyError()], ids=str
)
def test_a_fault_of_the_hub_is_one_sentence_with_the_way_on(folder, call, fault):
  api = Hub(**{call: fault})
  with pytest.raises(ValueError, match=r'me/policy: the hub has not taken it: ') as refused:
    hub.push(folder, 'me/policy', private=True, api=api)
  said = str(refused.value)
  assert ('403 Forbidden; ' in said or 'KeyError; ' in said) and '\n' not in said
  assert said.endswith(f'start again, or run `hf upload me/policy {folder}`') and not api.pushed


def test_what_cannot_be_pushed_is_said_beforehand(tmp_path, monkeypatch):
  monkeypatch.setattr(hub.huggingface_hub, 'get_token', lambda: 'token')
  hub.check('me/policy', tmp_path)
  for name in ('policy', 'me/my/policy', 'https://hub/me', ''):
    with pytest.raises(ValueError, match=r'no hub id of the form USER/NAME'):
      hub.check(name, tmp_path)
  with pytest.raises(ValueError, match=r'gs://bucket/out is a bucket'):
    hub.check('me/policy', 'gs://bucket/out')
  monkeypatch.setattr(hub.huggingface_hub, 'get_token', lambda: None)
  with pytest.raises(ValueError, match=r'set HF_TOKEN'):
    hub.check('me/policy', tmp_path)
