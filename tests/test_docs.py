"""What documents and comments say of the repository holds: cited files exist, examples run."""

import ast
import doctest
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tokenize

import jax
import pytest

from lwz import door
from lwz.judge import systems
from lwz.model import config as config_lib
from lwz.model import sharding
from lwz.programs import rollout
from lwz.rollout import sampler
from lwz.runtime import engine_spec, keys, policy
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import config as hf_config
from lwz.store.hf import peft
from tests import tree
from tests.faults import nasty_values

TOP = r'(?:lwz|tests|benchmarks|experiments|launch|results|notebooks|docs|\.ci)'
# A path from the root, a file of ours by the end of its path, a document by its name.
PATH = re.compile(
  rf'(?<![\w/.$-])({TOP}/[\w./-]+|(?:[\w-]+/)*\w+\.(?:py|sh|sbatch)\b(?!\.)|[A-Z_]{{3,}}\.md\b)'
)
MODULE = re.compile(r'(?<![\w/.-])lwz(?:\.\w+)+')
PLACEHOLDER = re.compile(r'/?[A-Z]+(\.py)?$')  # benchmarks/NAME.py
FOREIGN = {
  'prompt.py': "WritingBench's own prompt",
  'calculate_scores.py': "WritingBench's own aggregation",
  'eval_length.py': "LongWriter's own length score",
  'eval_quality.py': "LongWriter's own quality score",
}
EXTENDING, WRITING = 'docs/extending.md', 'docs/writing.md'
HISTORY = ('LOG.md', 'CHANGELOG.md')  # may say what a file was called when it was written


def files():
  """Every file of the repository, as a path from its root."""
  paths = [path for path in tree.ROOT.iterdir() if path.is_file()]
  paths += (tree.ROOT / 'notebooks').glob('*.*')
  for top in ('lwz', 'tests', 'benchmarks', 'experiments', 'launch', 'results', 'docs', '.ci'):
    paths += [path for path in (tree.ROOT / top).rglob('*') if '__pycache__' not in path.parts]
  return {path.relative_to(tree.ROOT).as_posix() for path in paths}


def prose(name, text):
  """What a file says to its readers: of Python, the docstrings and the comments."""
  if not name.endswith('.py'):
    return text
  comments = [
    token.string
    for token in tokenize.generate_tokens(io.StringIO(text).readline)
    if token.type == tokenize.COMMENT
  ]
  documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
  nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
  return '\n'.join(comments + [ast.get_docstring(node) or '' for node in nodes])


def missing(text, known):
  """Paths that a text cites and the repository does not hold."""
  cited = {found.rstrip('./') for found in PATH.findall(text)}
  cited = {path for path in cited if path not in FOREIGN and not PLACEHOLDER.search(path)}
  return sorted(p for p in cited if not any(k == p or k.endswith(f'/{p}') for k in known))


def unknown(prose):
  """Dotted names of lwz in a text that are neither a module nor a name that one defines."""
  wrong = []
  for dotted in sorted(set(MODULE.findall(prose))):
    parts = dotted.split('.')
    path = tree.ROOT / parts[0]
    while len(parts) > 1 and path.is_dir():
      parts = parts[1:]
      path = path / parts[0]
    source = path if path.is_dir() else path.with_suffix('.py')
    rest = parts[1:]
    if not source.is_file() and not source.is_dir():  # a name that a package offers
      source, rest = path.parent / '__init__.py', parts
    text = source.read_text(encoding='utf-8') if source.is_file() else ''
    if rest and not re.search(rf'^((def|class) )?{rest[0]}\b|import .*\b{rest[0]}\b', text, re.M):
      wrong.append(dotted)
  return wrong


def renamed():
  """Old paths that CHANGELOG.md maps to new ones."""
  path = tree.ROOT / 'CHANGELOG.md'
  rows = re.findall(r'^\| `([^`]+)` \|', path.read_text(encoding='utf-8'), re.M)
  return set(rows)


def blocks(section, page='README.md'):
  """(language, text) of every fenced block of a section of a document, '' for all, in order."""
  part = (tree.ROOT / page).read_text(encoding='utf-8')
  if section:
    part = re.search(rf'^## {section}$(.*?)(?=^## |\Z)', part, re.M | re.S)[1]
  return re.findall(r'^```(\w*)\n(.*?)^```$', part, re.M | re.S)


def recipes():
  """{path: text} of the files that a guide says how to add."""
  added = [text for language, text in blocks('', EXTENDING) if language == 'python']
  return {re.match('# (.+)', text)[1]: text for text in added}


def readable():
  """The files that speak to readers: documents, Python, the launchers."""
  for name in sorted(files()):
    path = tree.ROOT / name
    if path.is_file() and (name.endswith(('.md', '.py', '.cff')) or name.startswith('launch/')):
      yield name, path.read_text(encoding='utf-8')


def test_every_path_that_is_cited_exists():
  known, old = files() | recipes().keys(), renamed()
  found = {
    name: missing(prose(name, text), known | (old if name in HISTORY else set()))
    for name, text in readable()
  }
  assert not {name: paths for name, paths in found.items() if paths}


def test_every_name_of_lwz_that_is_cited_exists():
  found = {name: unknown(prose(name, text)) for name, text in readable() if name not in HISTORY}
  assert not {name: names for name, names in found.items() if names}


@pytest.mark.parametrize(
  'text, path',
  [
    ('# as NOTES.md has it', 'NOTES.md'),
    ('"""See lwz/reward/none.py."""', 'lwz/reward/none.py'),
    ('def f():\n  """As docs/plan.md says."""', 'docs/plan.md'),
    ('x = 1  # see stages/none.py', 'stages/none.py'),
  ],
)
def test_a_missing_path_is_found(text, path):
  assert missing(prose('a.py', text), files()) == [path]


def test_what_is_no_path_of_ours_is_let_through():
  text = (
    'benchmarks/NAME.py, https://host/lwz/none.py, prompt.py, runs/x/report.html, stages/grpo.py'
  )
  assert missing(text, files()) == []


@pytest.mark.parametrize('name', ['lwz.nowhere', 'lwz.learn.nowhere', 'lwz.learn.losses.nowhere'])
def test_a_missing_name_is_found(name):
  assert unknown(f'see {name}, lwz.launch and lwz.learn.losses.grpo') == [name]


def test_lab_notes_fit_a_screen():
  lines = (tree.ROOT / 'LOG.md').read_text(encoding='utf-8').splitlines()
  assert [line for line in lines if len(line) > 100] == []


def examples():
  """Modules of lwz whose docstrings hold examples."""
  return [name for name, text in tree.modules('lwz').items() if re.search(r'^\s*>>> ', text, re.M)]


def run(module):
  """What the examples of a module print otherwise than they say."""
  options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
  said = io.StringIO()
  runner = doctest.DocTestRunner(verbose=False, optionflags=options)
  for test in doctest.DocTestFinder().find(module):
    runner.run(test, out=said.write)
  assert runner.tries, 'no example was found'
  return said.getvalue()


@pytest.mark.parametrize('module', examples())
def test_examples_run(module):
  assert not run(importlib.import_module(module))


def test_an_example_that_lies_is_found():
  def liar():
    """
    >>> 1 + 1
    3
    """

  assert 'Expected:\n    3\nGot:\n    2' in run(liar)


def test_readmes_ten_lines_run(capsys):
  for language, text in blocks('Ten lines of Python'):
    assert language == 'python'
    exec(compile(text, 'README.md', 'exec'), {})
  assert 'ratio' in capsys.readouterr().out


@pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')  # of ml_collections
def test_commands_for_the_released_model_pass_their_checks(tmp_path, monkeypatch):
  """As far as they can without its weights: arguments, prompt, sampling, shapes."""
  hub, config = 'THU-KEG/LongWriter-Zero-32B', config_lib.preset('32b')
  (tmp_path / 'config.json').write_text(hf_config.text(config, config.dtype))
  local = hf.local
  monkeypatch.setattr(hf, 'local', lambda name: tmp_path if name == hub else local(name))
  monkeypatch.setattr(peft, '_on_hub', lambda name: False)
  monkeypatch.setattr(sys, 'argv', [])
  monkeypatch.chdir(tmp_path)
  mine = next(text for _, text in blocks('', EXTENDING) if 'my_arena.jsonl' in text)
  (tmp_path / 'arena_write.jsonl').write_text(re.search(r'^{.*}$', mine, re.M)[0])
  lines = [
    line
    for _, text in blocks('The released model', WRITING)
    for line in text.splitlines()
    if hub in line
  ]
  stages = []
  for line in lines:
    python, m, launch, first, *more = shlex.split(line)
    assert (python, m, launch) == ('python', '-m', 'lwz.launch')
    first = first.replace('experiments/', f'{tree.ROOT}/experiments/')
    c = nasty_values.parse(first, *more)
    stages.append(c.stage)
    c.serve.port = 0
    keys.check(c)
    assert not door.needs(c, tree.ROOT / 'experiments')
    door.stage_of(c).check(c)
    sampling = c.rollout.temperature, c.rollout.top_p, c.rollout.max_tokens
    assert sampling == (0.6, 0.95, 15_500)
    if c.stage == 'evaluate':
      (system,) = (systems.describe(c, source) for source in c.eval.systems)
      assert (system.style, system.template) == ('think', 'paper')
    else:
      assert policy.prompt_style(c, c.init) == ('think', 'paper')
  assert stages == ['generate', 'evaluate', 'serve']
  told = re.sub(r'\s+', ' ', (tree.ROOT / WRITING).read_text(encoding='utf-8'))

  def gib(tree_of_shapes):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree_of_shapes)) / 2**30

  assert f'weights are {gib(sharding.abstract(config, None, {}, config.dtype)):.0f} GiB' in told
  for num_slots, said in ((1, 'has {:.1f} GiB of cache'), (8, '(8 slots at a time: {:.0f} GiB)')):
    how = sampler.Sampling(0.6, 0.95, 0, (0,), config.vocab_size)
    spec = engine_spec.from_config(c, config, None, how, num_slots=num_slots)
    assert said.format(gib(rollout.abstract_slots(spec).cache)) in told, num_slots


@pytest.mark.slow
def test_readmes_notebook_runs_twice(tmp_path):
  """As a program in a folder of its own; the second start finds everything done."""
  ((language, text),) = blocks('From Python')
  assert language == 'python'
  (tmp_path / 'mine.py').write_text(text, encoding='utf-8')
  command, environment = [sys.executable, 'mine.py'], os.environ | {'PYTHONPATH': str(tree.ROOT)}
  first, second = (
    subprocess.run(
      command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    for _ in range(2)
  )
  lines = first.stdout.splitlines()
  assert '2 0.0' in lines and '3 0.0' not in lines  # the run is stopped, and goes on unseen
  assert 'complete, nothing to do' in second.stdout
  assert first.stdout.splitlines()[-1] == second.stdout.splitlines()[-1]


@pytest.mark.slow
def test_recipes_of_the_guide_work(tmp_path):
  """In a copy of the repository: save each file, run each command."""
  root, left_out = tmp_path / 'lwz', shutil.ignore_patterns('.*', 'runs', '__pycache__', 'results')
  shutil.copytree(tree.ROOT, root, ignore=left_out)
  path = f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'
  for language, text in blocks('', EXTENDING):
    if language == 'python':
      new = root / re.match('# (.+)', text)[1]
      assert not new.exists()
      new.write_text(text, encoding='utf-8')
    else:
      # The copy itself is imported, wherever the package is installed.
      environment = os.environ | {'PATH': path, 'PYTHONPATH': str(root)}
      subprocess.run(
        ['bash', '-euo', 'pipefail', '-c', text], cwd=root, env=environment, check=True
      )
