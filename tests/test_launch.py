"""The door: needs are run, finished runs are left alone, killed ones go on, bad input is named."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from absl import flags
from ml_collections import config_flags

from experiments import grpo_think, pretrain
from lwz import door
from lwz.data import corpus, preferences
from lwz.runtime import command_line, compilation, refusal, setup
from lwz.store import metrics, samples
from tests import jobs
from tests.faults import bad_days

MAIN = 'grpo_think:micro'


def done(folder):
  return json.loads((folder / 'DONE').read_text())['summary']


def test_the_main_job_runs_what_it_needs_and_a_second_start_does_nothing(micro_runs):
  jobs.launch(MAIN, micro_runs)
  for name in ('base_model', 'pretrain', 'reward_model', 'grpo_think'):
    assert (micro_runs / f'{name}-micro' / 'DONE').exists()
  before = {p: p.stat().st_mtime_ns for p in micro_runs.rglob('*') if p.is_file()}
  output = jobs.launch(MAIN, micro_runs)
  assert 'grpo_think-micro: complete, nothing to do' in output
  assert before == {p: p.stat().st_mtime_ns for p in micro_runs.rglob('*') if p.is_file()}


def test_what_the_main_job_leaves_behind(micro_runs):
  jobs.launch(MAIN, micro_runs)
  folder = micro_runs / 'grpo_think-micro'
  records = metrics.read(folder)
  # The sampler and the scorer are one model.
  assert all(r['learn/logp_gap'] < 1e-5 for r in records)
  assert all(0 <= r[f'reward/{n}'] <= 1 for r in records for n in ('length', 'writing', 'format'))
  assert set(samples.read(folder)) >= {0, 2}  # and where an alarm begins
  assert '<svg' in (folder / 'report.html').read_text()
  summary = done(micro_runs / 'reward_model-micro')
  assert {'all', 'cut', 'repeat'} <= summary['heldout_by_source'].keys()


@pytest.mark.slow
def test_needed_runs_that_share_the_cores_have_the_same_numbers(micro_runs, tmp_path):
  """Processes of their own, two at a time, each after those that it needs; SIGTERM reaches them."""
  jobs.launch(MAIN, micro_runs)
  together = ('--config.needs_parallel=2',)
  process = jobs.start(MAIN, tmp_path, *together)
  while not (tmp_path / 'pretrain-micro' / 'metrics.jsonl').exists():
    assert process.poll() is None
    time.sleep(0.1)
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 75 and 'to go on:' in output, output
  assert not (tmp_path / 'grpo_think-micro').exists()
  assert not list(tmp_path.glob('*/LOCK'))
  output = jobs.launch(MAIN, tmp_path, *together)
  for name in ('pretrain', 'reward_model'):
    assert f'{name}-micro: complete' in output
    assert (tmp_path / '.logs' / f'{name}-micro.log').exists()
    alone, beside = (metrics.read(runs / f'{name}-micro') for runs in (micro_runs, tmp_path))
    assert [r['loss'] for r in alone] == [r['loss'] for r in beside]


def test_a_needed_run_that_fails_beside_another_is_named(tmp_path, monkeypatch):
  c = grpo_think.get_config('micro')
  c.runs_dir, c.needs_parallel = str(tmp_path), 2
  experiments = jobs.ROOT / 'experiments'
  found = door.Door(experiments)
  asked = []

  def ends(states, status=2):
    def run(todo, **options):
      asked.append({job.name: job.needs for job in todo})
      assert options['parallel'] == 2 and not options['pinned']
      for job in todo:
        job.end(states.get(job.name, 'complete'), 'lwz: a reason')
        job.status = status
      return 'stopped' in states.values()

    return run

  missing = door.needs(c, experiments)[1:]  # the base model is there
  monkeypatch.setattr(door.jobs, 'run', ends({}))
  found._execute_together(missing, c)
  assert asked[0]['pretrain-micro'] == () and len(asked[0]) == len(missing)
  monkeypatch.setattr(door.jobs, 'run', ends({'pretrain-micro': 'failed'}))
  with pytest.raises(ValueError, match=r'^pretrain-micro: a reason\nits log is .*pretrain'):
    found._execute_together(missing, c)
  for state, status, code in (('stopped', 75, 75), ('failed', 1, 1), ('failed', -9, 137)):
    monkeypatch.setattr(door.jobs, 'run', ends({'pretrain-micro': state}, status))
    with pytest.raises(SystemExit) as left:
      found._execute_together(missing, c)
    assert left.value.code == code


def test_processes_of_one_job_start_none_of_their_own(monkeypatch):
  c = grpo_think.get_config('tiny')
  assert door._may_share(c)
  monkeypatch.setattr(door.jax.distributed, 'is_initialized', lambda: True)  # as under srun
  assert not door._may_share(c)


def test_a_run_that_ends_drops_what_waits_to_be_compiled(tmp_path, monkeypatch):
  def run(c):
    raise ValueError('refused')

  dropped = []
  monkeypatch.setattr(door.program, 'drop', lambda: dropped.append(True))
  monkeypatch.setattr(door.Door, '_stage', lambda self, c: door.Stage((), print, run))
  c = grpo_think.get_config('micro')
  c.runs_dir = str(tmp_path)
  with pytest.raises(ValueError, match='refused'):
    list(door.Door(jobs.ROOT / 'experiments')._execute(c))
  assert dropped


@pytest.mark.slow
def test_a_mesh_gives_the_same_curves(micro_runs, tmp_path, monkeypatch):
  """Stopped on two devices, gone on with on four; so is every run it needs."""
  jobs.launch(MAIN, micro_runs)
  monkeypatch.setenv('XLA_FLAGS', '--xla_force_host_platform_device_count=8')
  jobs.launch(MAIN, tmp_path, '--config.mesh.fsdp=2', '--config.train.num_steps=2')
  jobs.launch(MAIN, tmp_path, '--config.mesh.fsdp=2', '--config.mesh.tensor=2')
  for name in ('base_model', 'pretrain', 'reward_model', 'grpo_think'):
    alone, cut = (metrics.read(runs / f'{name}-micro') for runs in (micro_runs, tmp_path))
    assert [r['step'] for r in cut] == [r['step'] for r in alone]
    for figure in {'loss', 'grad_norm', 'learn/entropy', 'tokens/trajectory'} & alone[0].keys():
      there, here = ([r[figure] for r in records] for records in (alone, cut))
      assert here == pytest.approx(there, rel=1e-3, abs=1e-6), (name, figure)


@pytest.mark.parametrize(
  'name',
  [
    'grpo_think',
    *(
      pytest.param(name, marks=pytest.mark.slow)
      for name in ('base_model', 'pretrain', 'reward_model', 'sft')
    ),
  ],
)
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(name, micro_runs, tmp_path):
  for experiment in (MAIN, *(['sft:micro'] if name == 'sft' else [])):
    jobs.launch(experiment, micro_runs)
  for folder in micro_runs.iterdir():
    if folder.name != f'{name}-micro':
      (tmp_path / folder.name).symlink_to(folder)
  keys = ('--config.checkpoint.every=1',)
  process = jobs.start(f'{name}:micro', tmp_path, *keys)
  written = tmp_path / f'{name}-micro' / 'metrics.jsonl'
  while process.poll() is None and (not written.exists() or written.read_text().count('\n') < 2):
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert not (tmp_path / f'{name}-micro' / 'DONE').exists()
  jobs.launch(f'{name}:micro', tmp_path, *keys)
  killed, whole = (
    [{k: v for k, v in r.items() if not bad_days.CLOCKS.match(k)} for r in metrics.read(folder)]
    for folder in (tmp_path / f'{name}-micro', micro_runs / f'{name}-micro')
  )
  assert killed == whole


def test_that_nobody_reads_what_is_printed_is_said_in_a_line(micro_runs):
  jobs.launch('base_model:micro', micro_runs)
  command = [sys.executable, '-m', 'lwz.launch', '--config=experiments/base_model.py:micro']
  process = subprocess.Popen(
    [*command, f'--config.runs_dir={micro_runs}'],
    cwd=jobs.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  process.stdout.close()
  _, complaint = process.communicate(timeout=300)
  assert complaint == 'lwz: nobody reads what is printed any more\n'
  assert process.returncode == 1


def test_another_config_is_refused_by_the_keys_that_differ(micro_runs):
  jobs.launch('base_model:micro', micro_runs)
  output = jobs.launch(
    'base_model:micro', micro_runs, '--config.train.learning_rate=0.1', fails=True
  )
  assert 'train.learning_rate: 0.003 in the folder, 0.1 now' in output


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('checkpoint.best=nonsense', 'checkpoint.best=nonsense: not a metric'),
    ('mesh.fsdp=7', 'fsdp=7, tensor=1, context=1 does not fit'),
    ('checkpoint.keep=0', 'checkpoint.keep=0: choose a number from 1'),
  ],
)
def test_a_complete_run_with_a_bad_value_of_what_may_change_is_refused(
  argument, message, micro_runs
):
  jobs.launch('base_model:micro', micro_runs)
  output = jobs.launch('base_model:micro', micro_runs, f'--config.{argument}', fails=True)
  assert message in output


def test_a_complete_run_names_what_is_there(micro_runs, tmp_path):
  jobs.launch('base_model:micro', micro_runs)
  shutil.copytree(micro_runs / 'base_model-micro', tmp_path / 'base_model-micro')
  (tmp_path / 'base_model-micro' / 'report.html').unlink()
  output = jobs.launch('base_model:micro', tmp_path)
  assert f'nothing to do; see {tmp_path}/base_model-micro/DONE' in output


@pytest.mark.slow
def test_a_changed_corpus_is_another_run_and_not_a_missing_one(tmp_path):
  for i in range(60):
    path = tmp_path / 'texts' / f'{i}.txt'
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'River {i}\n\n' + f'The river {i} runs past the old mill. ' * (9 + i))
  folder = f'--config.data.folder={path.parent}'
  jobs.launch('base_model:micro', tmp_path, folder)
  assert 'nothing to do' in jobs.launch('base_model:micro', tmp_path, folder)
  path.write_text(path.read_text().replace('old', 'new'))
  for name in ('base_model', 'pretrain'):  # which needs it
    output = jobs.launch(
      f'{name}:micro', tmp_path, folder, '--config.needs_policy=stop', fails=True
    )
    assert f'data.folder="{path.parent}": 59.txt has changed' in output
    assert 'put the files back as they were, give this run another `name`' in output


@pytest.mark.slow
def test_more_steps_resume_a_finished_run(micro_runs, tmp_path):
  jobs.launch('base_model:micro', micro_runs)
  bad_days.borrow(tmp_path, micro_runs, 'base_model-micro')
  jobs.launch('base_model:micro', tmp_path)
  jobs.launch('base_model:micro', tmp_path, '--config.train.num_steps=6')
  assert [r['step'] for r in metrics.read(tmp_path / 'base_model-micro')] == list(range(6))


@pytest.mark.slow
def test_adapters_resume_bit_for_bit_in_small_checkpoints(micro_runs, tmp_path):
  jobs.launch('grpo_think:micro', micro_runs)  # and what it needs
  bad_days.borrow(tmp_path, micro_runs, 'grpo_think-micro')
  run = ('grpo_think:micro', tmp_path, '--config.lora.rank=1')
  run += ('--config.rollout.weights=int8', '--config.rl.tis_cap=2.0')
  said = jobs.launch(*run, '--config.name=whole')
  assert 'trains 1,024 parameters, adapters of rank 1 for q, k, v, o, gate, up, down' in said
  jobs.launch(*run, '--config.name=resumed', '--config.train.num_steps=1')
  jobs.launch(*run, '--config.name=resumed')
  whole, resumed = (bad_days.remains(tmp_path / name) for name in ('whole', 'resumed'))
  assert whole == resumed
  params = [name for name in whole['state'] if name.startswith('params.')]
  assert len(params) == 14 and all(name[-2:] in ('.a', '.b') for name in params)


OTHER_BAD_INPUT = [
  (['--config.rl.group_size=four'], 'config.rl.group_size'),
  (['--config.zigzag=8'], "there is no key 'zigzag'. experiments/base.py has every key"),
  (['--config.reward.model=http://me:PW@host'], 'reward.model: an address must not hold a'),
  (['--config.judge.model=m@http://me:PW@host/v1'], 'judge.model: an address must not hold a'),
  (['--config.rl.group_size=1'], 'rl.group_size=1: choose at least 2'),
  (['--config.rollout.temperature=0.0'], 'rollout.temperature=0.0: choose a value above 0'),
  (['--config.rollout.block=0'], 'rollout.block=0: choose a number from 1'),
  (
    ['--config.rollout.temperature=nan'],
    'rollout.temperature=nan: choose a number from 0 to 100',
  ),
  (['--config.rollout.temperature=inf'], 'rollout.temperature=inf: choose a number from 0'),
  (['--config.init=nowhere/run'], 'nowhere/run'),
  (['--config.log.samples_every=0'], 'log.samples_every=0: choose a number from 1'),
  (['--config.data.heldout=0.0'], 'data.heldout=0.0: choose a number from 1e-09 to 0.999999999'),
  (['--config.reward.max_words=10'], 'reward.max_words=10, where the length reward is 0'),
  (['--config.init=random'], "init='random' has no tokenizer"),
  (['--config.init='], 'the name of a model is empty (init, '),
  (["--config.needs=('rl.loss',)"], "needs: 'rl.loss' names no run; choose from init, "),
  (['--config.reward.weights.lenght=1.0'], 'reward.weights.lenght: there is no such reward; ch'),
  (['--config.reward.weights.rubric=1.0'], "reward.judge='' names no judge: choose MODEL@http"),
  (['--config.eval.systems=(3,)'], 'eval.systems=(3,): each of them must be str'),
]


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--config.rl.group_sise=4'], 'Did you mean "group_size"'),
    (['--config.data.folder=/no/such/folder'], '/no/such/folder: no such folder'),
    (['--config.rl.advantage=best'], "rl.advantage: there is no 'best'"),
    (['--config.rl.weight_cap=2.0'], '--config.rl.weight_cap is called --config.rl.tis_cap now'),
    (['--config.rollout.attention=flash'], "attention 'flash' cannot decode here"),
    (['--config.needs_policy=stop'], 'python -m lwz.launch --config='),
    (['extra'], "unexpected argument 'extra': keys are set by --config.key=value"),
    (['--config.reward.weights.rubric=-1.0'], 'reward.weights.rubric=-1.0: choose a number from 0'),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHER_BAD_INPUT),
  ],
)
def test_bad_input_is_named_at_the_start(arguments, message, tmp_path):
  output = jobs.launch(MAIN, tmp_path, *arguments, fails=True)
  assert message in output
  assert not list(tmp_path.glob('*/metrics.jsonl'))


def test_a_missing_config_file_is_a_sentence(tmp_path):
  output = jobs.launch('grpo_thin:micro', tmp_path, fails=True)
  assert output.count('\n') <= 2 and 'experiments/grpo_thin.py' in output


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('c.rl.weight_cap = 2.0', 'there is no key \'weight_cap\'. Did you mean "rl.tis_cap"?'),
    ('c.rl.group_sise = 2', 'there is no key \'group_sise\'. Did you mean "group_size"?'),
    ("c.train.num_steps = 'many'", "Could not override field 'num_steps'"),
    ("c.stage = 'gpro'", "stage: there is no 'gpro'"),
  ],
)
def test_what_is_wrong_with_an_experiment_is_a_sentence(line, message, tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(
    'from experiments import grpo_think\n\n\ndef get_config(size):\n'
    f'  c = grpo_think.get_config(size)\n  {line}\n  return c\n'
  )
  name = os.path.relpath(path.with_suffix(''), jobs.ROOT / 'experiments')
  output = jobs.launch(f'{name}:micro', tmp_path, fails=True)
  assert f'lwz: {message}' in output and len(output) < 400


def test_the_commands_of_what_is_needed_keep_what_they_inherit(tmp_path):
  arguments = (
    '--config.needs_policy=stop',
    '--config.data.heldout=0.2',
    '--config.rl.clip_low=0.1',
  )
  output = jobs.launch(MAIN, tmp_path, *arguments, fails=True)
  (line,) = [line for line in output.splitlines() if '/pretrain.py:micro' in line]
  assert '--config.data.heldout=0.2' in line and f'--config.runs_dir={tmp_path}' in line
  assert 'rl.clip_low' not in line


def test_a_run_that_needs_itself_through_others_is_refused_at_once():
  c = pretrain.get_config('micro')
  c.init = 'grpo_think:micro'
  with pytest.raises(ValueError, match='init=grpo_think:micro: the run needs itself'):
    door.needs(c, jobs.ROOT / 'experiments')


@pytest.mark.filterwarnings('ignore:the load_module')  # of ml_collections
def test_a_space_may_stand_before_the_value_of_a_flag(monkeypatch):
  argv = ['launch', '--config', 'experiments/base_model.py:micro', '--config.seed', '3']
  values = flags.FlagValues()
  monkeypatch.chdir(jobs.ROOT)
  monkeypatch.setattr(sys, 'argv', argv)
  monkeypatch.setattr(command_line.flags, 'FLAGS', values)
  config_flags.DEFINE_config_file('config', flag_values=values)
  assert command_line.parse(argv) == ['launch'] and values.config.seed == 3


def test_a_fault_of_ours_keeps_its_stack_and_a_refusal_does_not():
  def refused():
    setup.expected(grpo_think.get_config('micro'), '/no/such/model')

  def fault():
    preferences.load(3)

  def raised(work):
    try:
      work()
    except Exception as error:
      return error

  assert refusal.is_refusal(raised(refused))
  assert not refusal.is_refusal(raised(fault))
  assert not refusal.is_refusal(raised(lambda: corpus.fraction(3)))


def test_another_config_is_refused_before_what_it_needs_is_run(micro_runs, tmp_path):
  jobs.launch(MAIN, micro_runs)
  (tmp_path / 'grpo_think-micro').symlink_to(micro_runs / 'grpo_think-micro')
  output = jobs.launch(MAIN, tmp_path, '--config.rl.clip_low=0.1', fails=True)
  assert 'rl.clip_low: 0.2 in the folder, 0.1 now' in output
  assert [p.name for p in tmp_path.iterdir()] == ['grpo_think-micro']


def test_a_prompt_that_asks_for_too_much_is_named_at_the_start(tmp_path):
  path = tmp_path / 'prompts.jsonl'
  path.write_text('{"text": "Write about rivers.", "lower": 10, "upper": 400}')
  output = jobs.launch(MAIN, tmp_path, f'--config.data.prompts={path}', fails=True)
  assert f'{path} asks for up to 400 words, above reward.max_words=160' in output


@pytest.mark.parametrize(
  ('num', 'words', 'message'),
  [
    (13, 9, r'of its 13 documents leaves 13 to train on and 0 held out: add documents'),
    (60, 2, r'0 documents with an opening of 10 to 24 words; need two'),
  ],
)
def test_a_corpus_that_is_too_small_is_named_before_the_first_run(num, words, message, tmp_path):
  (tmp_path / 'texts').mkdir()
  for i in range(num):
    text = ' '.join([f'River number {i} runs past the mill.'] * words)[: 8 * words]
    (tmp_path / 'texts' / f'{i}.txt').write_text(text)
  given = f'--config.data.folder={tmp_path / "texts"}', '--config.data.heldout=0.1'
  output = jobs.launch(MAIN, tmp_path, *given, fails=True)
  assert re.search(message, output), output
  assert not (tmp_path / 'base_model-micro').exists()


def test_an_unknown_size_names_the_sizes(tmp_path):
  assert 'choose one of micro, tiny' in jobs.launch('grpo_think:33b', tmp_path, fails=True)


@pytest.mark.slow
def test_a_broken_line_is_named_or_counted(micro_runs, tmp_path):
  jobs.launch('base_model:micro', micro_runs)
  (tmp_path / 'base_model-micro').symlink_to(micro_runs / 'base_model-micro')
  pair = {'prompt': 'Write about {}.', 'chosen': 'A b c d.', 'rejected': 'A b a b.'}
  lines = [json.dumps(pair).replace('{}', str(i)) for i in range(40)]
  lines[7] = '{"prompt": '
  path = tmp_path / 'pairs.jsonl'
  path.write_text('\n'.join(lines))
  arguments = (f'--config.data.preferences={path}',)
  output = jobs.launch('reward_model:micro', tmp_path, *arguments, fails=True)
  assert f'{path}:8' in output
  output = jobs.launch('reward_model:micro', tmp_path, *arguments, '--config.data.skip_broken=True')
  assert '1 unreadable lines skipped' in output


@pytest.mark.parametrize(
  ('given', 'wanted'),
  [
    ('', '--xla_gpu_deterministic_ops=true'),
    ('--xla_dump_to=x', '--xla_dump_to=x --xla_gpu_deterministic_ops=true'),
    ('--xla_gpu_deterministic_ops=false', '--xla_gpu_deterministic_ops=false'),
  ],
)
def test_the_same_bits_are_asked_of_xla_unless_the_user_has_decided(given, wanted, monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', given)
  compilation.same_bits()
  assert os.environ['XLA_FLAGS'] == wanted


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_during_imports_leaves_with_the_status_of_a_stop(number, tmp_path):
  process = jobs.start('base_model:micro', tmp_path)
  time.sleep(2.0)  # imports take longer; what comes after them leaves in the same way
  process.send_signal(number)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 75 and 'Traceback' not in output


@pytest.mark.slow
def test_a_run_whose_output_nobody_reads_any_more_is_saved(tmp_path):
  """As by Ctrl-C beside `tee`, which ends first."""
  process = jobs.start('base_model:micro', tmp_path, '--config.train.num_steps=100000')
  folder = tmp_path / 'base_model-micro'
  while not (folder / 'metrics.jsonl').exists() or not metrics.read(folder):
    assert process.poll() is None
    time.sleep(0.1)
  process.stdout.close()
  process.send_signal(signal.SIGINT)
  assert process.wait(timeout=120) == 75
  assert [path for path in (folder / 'checkpoints').iterdir() if path.name.isdigit()]


@pytest.mark.parametrize('folder, least', [('runs', 0.0), ('gs://bucket/runs', 0.5)])
def test_a_bucket_keeps_no_small_programs(folder, least, monkeypatch):
  asked = {}
  monkeypatch.setattr(compilation.jax.config, 'update', asked.__setitem__)
  c = grpo_think.get_config('micro')
  c.runs_dir = folder
  compilation.prepare(c)
  assert asked['jax_persistent_cache_min_compile_time_secs'] == least


def test_compiled_programs_that_were_not_used_for_longest_are_removed(tmp_path):
  (tmp_path / 'programs').mkdir()
  paths = [tmp_path / 'a', tmp_path / 'programs' / 'b', tmp_path / 'c']
  for day, path in enumerate(paths):
    path.write_bytes(bytes(10))
    os.utime(path, (day, 0))  # read, written
  compilation.prune(tmp_path, 30)
  assert all(path.exists() for path in paths)
  os.utime(paths[0], (5, 0))
  compilation.prune(tmp_path, 20)
  assert [path.exists() for path in paths] == [True, False, True]
  compilation.prune(tmp_path / 'none', 0)
