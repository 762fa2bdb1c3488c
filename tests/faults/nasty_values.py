"""Values of config keys that nobody means, through the same door as a command line's."""

import contextlib
import io
import json
import pathlib
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

from absl import flags
from ml_collections import config_flags

from lwz import door
from lwz.runtime import command_line, keys

ROOT = pathlib.Path(__file__).parent.parent.parent
EXPERIMENTS = (
  *('base_model', 'pretrain', 'reward_model', 'grpo_think', 'grpo_nothink', 'eval_arena'),
  *('eval_writingbench', 'generate', 'export', 'prompts', 'people', 'report'),
  *('preflight:grpo_think', 'preflight:pretrain', 'preflight:reward_model'),
)
DIGITS = '7' * 400
NUMBERS = (
  *('nan', 'inf', '-inf', '1e999', '-1', '-1e-9', '1e30', '1' + '0' * 30, DIGITS, '-' + DIGITS),
  *('', ' ', 'abc', 'None', '[1]', '(1,)', '{}', '"1"', '1,5', '1 2', '0x1F', '1e', '--1', '½'),
)
FLAGS = ('2', '', 'maybe', 'None', '[]', '1.5', DIGITS)
TUPLES = ('(1,)', '(None,)', '(("a",),)', '("a", 1)', '[1, 2]', '{"a": 1}', '1.5', '("a",' * 99)
TEXTS = (
  *(
    'no such thing',
    '/no/such/folder',
    '../no/such',
    '/dev/zero',
    '/dev/null',
    'a' * 300,
    '\udcff',
  ),
  *(
    '%s%n',
    'no/such',
    'no:micro',
    'pretrain:no',
    'a:b:c',
    ':',
    '::',
    'http://',
    'http://[::1',
    '.',
  ),
  *(
    'm@http://',
    'm@https://host:99999/v1',
    'x\ny',
    '{}',
    "'",
    '\\',
    '🙂',
    'file:///etc',
    '1',
    '~/no/such',
  ),
  *('grpo_think:micro', 'pretrain:micro', 'reward_model:micro', 'prompts:micro', 'report:micro'),
  *('evaluate', 'report', 'preflight', '__init__', 'a.b', 'os', 'http://me:PW@host/v1'),
)
# Texts that must be one of a few, or name what is there; where a stage reads them at its start.
CHOSEN = (
  *('checkpoint.best', 'eval.benchmark', 'export.dtype', 'preflight.stage', 'preflight.topology'),
  *('rl.advantage', 'rl.aggregate', 'rl.loss', 'rl.overlong', 'stage'),
  *('data.prompts', 'init', 'reward.model', 'judge.model', 'report.runs', 'report.metrics'),
  *('data.folder', 'data.tokenizer', 'data.preferences', 'eval.file', 'eval.annotations'),
  *('eval.systems', 'reward.ensemble', 'reward.heldout', 'prompts.sources', 'prompts.benchmarks'),
)


# Of a value that is a folder, a list or the address of an endpoint.
CLEAR = (
  'config.json: missing',
  'eval.systems is empty',
  'a: no such',
  "url='http",
  "Is a directory: '.'",
  '.jsonl:1: no',
)


class Case(NamedTuple):
  """An input, and what may become of it."""

  kind: str
  name: str
  act: Callable[[pathlib.Path], Any]  # in an empty folder
  named: tuple[str, ...]  # a refusal must have one of these in it
  refused: bool  # to accept the input is a failure


def dry(c, rewards=None, *, stage_of=door.stage_of) -> door.Stage:
  """`door.stage_of`, but the stage ends where its work would begin."""
  return stage_of(c, rewards)._replace(run=lambda c: None)


class Refused(Exception):
  """What the door says to a command line that it cannot parse."""


def parse(*arguments: str):
  """Returns the config of a command line; raises `Refused`."""
  for name in [name for name in flags.FLAGS if name.startswith('config.')]:
    delattr(flags.FLAGS, name)
  flags.FLAGS.unparse_flags()
  if 'config' not in flags.FLAGS:
    config_flags.DEFINE_config_file('config', lock_config=True)
  said = io.StringIO()
  sys.argv = ['lwz', *arguments]
  try:
    with contextlib.redirect_stderr(said):
      command_line.parse(sys.argv)
  except SystemExit as left:
    raise Refused(said.getvalue()) from (None if left.code == 2 else left)
  return flags.FLAGS.config


def config_of(experiment: str, runs: pathlib.Path, *arguments: str):
  name, _, other = experiment.partition(':')
  path = ROOT / 'experiments' / f'{name}.py'
  size = f'{other}:micro' if other else 'micro'
  return parse(f'--config={path}:{size}', f'--config.runs_dir={runs}', *arguments)


def enter(experiment: str, runs: pathlib.Path, *arguments: str) -> None:
  """Does what `launch.main` does with a command line, until the first run would begin."""
  runs.mkdir(exist_ok=True)
  if experiment in ('report', 'people'):
    prepare(runs, experiment)
  c = config_of(experiment, runs, *arguments)
  with contextlib.redirect_stdout(io.StringIO()), mock.patch.object(door, 'stage_of', dry):
    keys.check(c)
    keys.expand_paths(c)
    door.Door(ROOT / 'experiments').launch(c)


def prepare(runs: pathlib.Path, experiment: str) -> None:
  """Writes what `report` or `people` reads."""
  metrics = ('valid_format', 'reward/length', 'reward/writing', 'redundancy', 'words/answer')
  record = {'step': 0, 'seconds': 1.0, 'learn/entropy': 1.0} | dict.fromkeys(metrics, 0.5)
  for name in ('grpo_think-micro', 'grpo_nothink-micro') if experiment == 'report' else ():
    (runs / name).mkdir(exist_ok=True)
    (runs / name / 'metrics.jsonl').write_text(json.dumps(record) + '\n')
  judged = runs / 'eval_arena-micro'
  (judged / 'annotations').mkdir(parents=True, exist_ok=True)
  (judged / 'people-key.json').write_text(json.dumps({'page': 'p', 'items': {'1': {}}}))
  (judged / 'annotations' / 'a.json').write_text(
    json.dumps({'page': 'p', 'annotator': 'a', 'judgements': []})
  )


def must_be_refused(key: str, default: Any, text: str, reads: tuple[str, ...]) -> bool:
  """Whether a value cannot work; `reads` are the keys of the stage."""
  facts = keys.of(key)
  if facts.optional and text == 'None':
    return False
  if isinstance(default, bool):
    return True
  if isinstance(default, int | float):
    try:
      value = float(text) if isinstance(default, float) else int(text, 0 if 'x' in text else 10)
    except (ValueError, OverflowError):
      return True
    assert facts.low is not None and facts.high is not None
    return not facts.low <= value <= facts.high
  if facts.choices or 'PW@' in text:
    return True
  is_absent = text in ('no such thing', '/no/such/folder', '/dev/zero', 'no/such', 'no:micro')
  return key in CHOSEN and keys.is_under(key, reads) and is_absent


def cases(seed: int = 0, share: float = 1.0) -> Iterator[Case]:
  """Every key of `base.py` times its values, each at stages that read the key, and at others."""
  draw = random.Random(seed)
  reads = {}
  with contextlib.redirect_stdout(io.StringIO()):
    for experiment in EXPERIMENTS:
      c = config_of(experiment, pathlib.Path('runs'))
      stage = door.stage_of(c)
      other = c.preflight.stage
      if other:
        stage = door.Stage(('preflight', *door._stage('', other).READS), *stage[1:])
      reads[experiment] = stage.reads
  for key, default in keys.leaves(c):
    if isinstance(default, bool):
      values = FLAGS
    elif isinstance(default, int | float):
      facts = keys.of(key)
      beyond = (facts.low - 1, facts.high * 2 + 1)
      values = (*NUMBERS, *(str(type(default)(value)) for value in beyond))
    else:
      values = (*TUPLES, *TEXTS) if isinstance(default, tuple) else TEXTS
    if key == 'runs_dir':
      continue  # below it everything is written
    readers = [name for name in EXPERIMENTS if keys.is_under(key, reads[name])]
    for value in values:
      if draw.random() >= share:
        continue
      for experiment in (draw.choice(readers or EXPERIMENTS), draw.choice(EXPERIMENTS))[
        : 1 + (draw.random() < 0.3)
      ]:
        yield _case(experiment, key, default, value, reads[experiment])


def _case(experiment: str, key: str, default: Any, value: str, reads) -> Case:
  argument = f'--config.{key}={value}'
  text = value
  if isinstance(default, tuple) and value in TEXTS:
    argument = f'--config.{key}=({value!r},)'
  last = key.rpartition('.')[2]
  return Case(
    f'config value, {experiment.partition(":")[0]}',
    f'{experiment} {argument[:100]}',
    lambda folder: enter(experiment, folder / 'runs', argument),
    (key, last, value[:20].replace('~', '') if len(value) > 1 else f'{value}:', *CLEAR),
    must_be_refused(key, default, text, reads),
  )
