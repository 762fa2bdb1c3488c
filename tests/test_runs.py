"""The door to run folders: what is listed, what is needed, what is never deleted."""

import json

import pytest
from etils import epath

from experiments import base_model, eval_arena, grpo_think, pretrain, reward_model
from lwz import runs
from lwz.runtime import setup
from lwz.store import lock, metrics, run, status

EXPERIMENTS = {
  module.__name__.rpartition('.')[2]: module
  for module in (base_model, eval_arena, grpo_think, pretrain, reward_model)
}


def leave(root, experiment, *, steps=None, done=True, **changed):
  """The folder of a run that has done some of its steps; before the first, it has checkpoints/."""
  c = EXPERIMENTS[experiment].get_config('micro')
  c.runs_dir = str(root)
  c.update_from_flattened_dict({key.replace('__', '.'): v for key, v in changed.items()})
  folder = setup.run_folder(c)
  read = {'data.folder': {'a.py': epath.Path(__file__)}}
  identity = run.Identity(includes=lambda key: True, files=lambda: read)
  opened = run.open_run(folder, c.to_dict(), identity=identity, command=[])
  with metrics.Writer(folder, start_step=0) as writer:
    for step in range(c.train.num_steps if steps is None else steps):
      writer.write(step, {'loss': 1.0, 'seconds': 2.0})
  (folder / 'checkpoints').mkdir()
  if steps != 0:
    (folder / 'checkpoints' / 'x').write_bytes(b'x' * 1000)
  if done:
    opened.mark_done({})
  opened.close()
  return folder


@pytest.fixture
def root(tmp_path):
  for name in ('base_model', 'pretrain', 'reward_model'):
    leave(tmp_path, name)
  leave(tmp_path, 'grpo_think')
  leave(tmp_path, 'grpo_think', seed=1, steps=2, done=False)
  begun = leave(tmp_path, 'grpo_think', seed=2, steps=0, done=False)
  (begun / 'inputs.jsonl').write_text('')
  (begun / 'wandb').mkdir()
  (tmp_path / 'notes').mkdir()
  (tmp_path / 'notes' / 'mine.txt').write_text('no run')
  return tmp_path


def names(root):
  return sorted(path.name for path in root.iterdir())


def test_the_status_of_a_run_is_what_its_folder_shows(root):
  seen = {one.name: one.status for one in runs.find(root)}
  assert {name: one.state for name, one in seen.items()} == {
    'base_model-micro': 'complete',
    'pretrain-micro': 'complete',
    'reward_model-micro': 'complete',
    'grpo_think-micro': 'complete',
    'grpo_think-micro-s1': 'interrupted',
    'grpo_think-micro-s2': 'empty',
  }
  cut = seen['grpo_think-micro-s1']
  assert (cut.progress, cut.left, cut.last['loss']) == ('2/3', 2.0, 1.0)


def test_a_run_that_is_written_runs_and_one_whose_config_is_torn_is_unreadable(root):
  folder = epath.Path(root) / 'grpo_think-micro-s1'
  held = lock.acquire(folder / 'LOCK')
  assert status.read(folder).state == 'running'
  held.release()
  (folder / 'config.json').write_text('{"conf')
  assert status.read(folder).state == 'unreadable'
  assert status.read(root / 'nowhere').state == 'empty'


def test_a_longer_run_than_was_done_is_not_complete(root):
  path = root / 'grpo_think-micro' / 'config.json'
  record = json.loads(path.read_text())
  record['config']['train']['num_steps'] = 9
  path.write_text(json.dumps(record))
  seen = status.read(path.parent)
  assert (seen.state, seen.progress) == ('interrupted', '3/9')


def test_a_torn_last_line_of_metrics_is_no_step(root):
  with open(root / 'grpo_think-micro-s1' / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 7, "lo')
  assert status.read(root / 'grpo_think-micro-s1').step == 2


def test_runs_are_needed_through_others_by_those_that_have_begun(root):
  users = runs.needed_by(runs.find(root))
  begun = ['grpo_think-micro', 'grpo_think-micro-s1']
  assert sorted(users['pretrain-micro']) == begun
  assert sorted(users['base_model-micro']) == [*begun, 'pretrain-micro', 'reward_model-micro']
  assert users['grpo_think-micro'] == []


def test_references_of_every_form_are_needs(tmp_path):
  leave(tmp_path, 'base_model', seed=4)
  leave(tmp_path, 'pretrain', needs_seed=4)
  leave(tmp_path, 'grpo_think', name='a', init=str(tmp_path / 'pretrain-micro'))
  leave(tmp_path, 'eval_arena', eval__systems=(f'mine={tmp_path}/a', 'Qwen/Qwen2.5-0.5B'))
  users = runs.needed_by(runs.find(tmp_path))
  assert sorted(users['base_model-micro-s4']) == ['a', 'eval_arena-micro', 'pretrain-micro']
  assert users['a'] == ['eval_arena-micro']


def test_runs_of_the_size_small_need_those_of_the_model_that_they_begin_with(tmp_path):
  c = grpo_think.get_config('small')
  c.runs_dir, c.base_model = str(tmp_path), 'org/Some-Model'
  identity = run.Identity(includes=lambda key: True)
  run.open_run(setup.run_folder(c), c.to_dict(), identity=identity, command=[]).close()
  (found,) = runs.find(tmp_path)
  assert {'sft-Some-Model', 'reward_model-Some-Model', 'passages-Some-Model'} <= found.needs


def test_the_size_of_a_folder_at_home_is_its_own(root, monkeypatch, capsys):
  monkeypatch.setenv('HOME', str(root.parent))
  runs.main(['size', f'--runs_dir=~/{root.name}'])
  assert f'{root}: {runs._bytes(runs.size(root))}, with caches' in capsys.readouterr().out


def test_clean_deletes_what_saved_nothing_and_keeps_the_rest(root):
  before = names(root)
  runs.main(['clean', '--yes', f'--runs_dir={root}'])
  assert set(before) - set(names(root)) == {'grpo_think-micro-s2'}
  assert (root / 'pretrain-micro' / 'checkpoints' / 'x').exists()
  assert (root / 'grpo_think-micro' / 'checkpoints' / 'x').exists()


def test_a_deletion_that_is_cut_short_leaves_a_run_that_is_listed_and_not_complete(
  root, monkeypatch
):
  folder, removed = epath.Path(root) / 'grpo_think-micro', []
  remove = runs._remove
  monkeypatch.setattr(runs, '_remove', lambda path: (removed.append(path.name), remove(path)))
  runs.delete(folder, folder)
  assert len(removed) == 5 and (removed[0], removed[-1]) == ('DONE', 'config.json')
  assert not folder.exists()


def test_clean_drops_checkpoints_that_no_run_needs_where_it_is_asked_to(root):
  runs.main(['clean', '--yes', '--checkpoints', f'--runs_dir={root}'])
  kept = {path.parent.name for path in root.glob('*/checkpoints')}
  assert kept == {'base_model-micro', 'pretrain-micro', 'reward_model-micro', 'grpo_think-micro-s1'}
  assert status.read(root / 'grpo_think-micro').state == 'complete'


def test_clean_asks_first(root, monkeypatch, capsys):
  before = names(root)
  for answer in ('', 'n', 'no'):
    monkeypatch.setattr('builtins.input', lambda question, answer=answer: answer)
    runs.main(['clean', f'--runs_dir={root}'])
  assert names(root) == before and 'nothing was deleted' in capsys.readouterr().out
  monkeypatch.setattr('builtins.input', lambda question: 'y')
  runs.main(['clean', f'--runs_dir={root}'])
  assert names(root) != before


def test_a_named_run_is_deleted_unless_another_one_needs_it(root):
  with pytest.raises(ValueError, match=r'pretrain-micro: needed by grpo_think-micro, grpo'):
    runs.main(['clean', 'pretrain-micro', '--yes', f'--runs_dir={root}'])
  runs.main(['clean', 'grpo_think-micro*', 'pretrain-micro', '--yes', f'--runs_dir={root}'])
  assert names(root) == ['base_model-micro', 'notes', 'reward_model-micro']
  with pytest.raises(FileNotFoundError, match='nothing: no such run'):
    runs.main(['clean', 'nothing', f'--runs_dir={root}'])
  with pytest.raises(FileNotFoundError, match='no folder of runs'):
    runs.main([f'--runs_dir={root}/none'])


def test_a_run_that_is_written_is_never_deleted(root):
  held = lock.acquire(epath.Path(root) / 'grpo_think-micro-s2' / 'LOCK')
  runs.main(['clean', '--yes', f'--runs_dir={root}'])
  assert 'grpo_think-micro-s2' in names(root)
  with pytest.raises(ValueError, match=r'grpo_think-micro-s2: process .* writes it'):
    runs.main(['clean', 'grpo_think-micro-s2', '--yes', f'--runs_dir={root}'])
  held.release()


def test_a_link_is_deleted_and_not_what_it_points_to(root, tmp_path_factory):
  precious = tmp_path_factory.mktemp('precious')
  (precious / 'file').write_text('x')
  (root / 'grpo_think-micro' / 'link').symlink_to(precious)
  runs.main(['clean', 'grpo_think-micro', '--yes', f'--runs_dir={root}'])
  assert (precious / 'file').exists() and 'grpo_think-micro' not in names(root)


def test_list_and_size_print_a_line_for_each_run(root, capsys):
  runs.main([f'--runs_dir={root}'])
  lines = capsys.readouterr().out.splitlines()
  (cut,) = [line for line in lines if line.startswith('grpo_think-micro-s1')]
  assert len(lines) == 7 and 'interrupted' in cut and ' 2/3 ' in cut
  runs.main(['size', 'pretrain*', f'--runs_dir={root}'])
  assert 'checkpoints 1.000 kB' in capsys.readouterr().out
