"""One word for one thing: old words, the words that replaced them, and where an old one may stand.

A word is a pattern, met in names (`num_draws`), classes (`Draw`) and prose alike. It is put to
every line of lwz/, experiments/, benchmarks/, docs/ and README.md, and to the names of the tests.
"""

import fnmatch
import re
from typing import NamedTuple

import pytest

from tests import tree


class May(NamedTuple):
  """Where an old word may stand: files, of these the lines that match, and why."""

  files: str
  line: str
  why: str


class Word(NamedTuple):
  """An old word.

  old: alternatives of a pattern; it is met as a whole word, or as a part of a name in snake case.
  new: what stands in its place.
  may: where the old word may stand.
  only: the files in which it is an old word at all.
  """

  old: str
  new: str
  may: tuple[May, ...] = ()
  only: str = '*'


# Keys and metrics of run folders and config files that 0.1.0 wrote.
MAPS = (
  May('lwz/runtime/keys.py', r"""['"]""", 'maps old keys to new ones'),
  May('lwz/store/metrics.py', r"""['"].*['"]: """, 'maps old metrics to new ones'),
  May('lwz/store/faulty_step.py', r"'figures'", 'maps the old name to the new one'),
  May('experiments/base.py', r'# was ', 'names the old key'),
)

WORDS = {
  'draw': Word(
    'draws?|drew|drawn|drawing|redraws?|redrawn|redrawing',
    'sample, sampling, resample',
    (
      *MAPS,
      May('lwz/report/*', '', 'plots are drawn'),
      May('tests/report/*', '', 'plots are drawn'),
      May('*', r'(curves|histogram|intervals)\.draw\b', 'plots are drawn'),
      May('lwz/stages/report.py', r'drawn|draw each', 'plots are drawn'),
      May('lwz/reward/format.py', 'drawn as nothing', 'glyphs are drawn'),
      May('lwz/evals/verdicts.py', r'tie\|draw', 'what a judge says of a tie'),
      May('lwz/data/funnel/*', r"""['"].*[Dd]raw.*['"]""", 'words of requests'),
    ),
  ),
  'stretch': Word(
    'stretch|stretches|stretched|stretching',
    'KV segment',
    (
      May('*model/*yarn.py', '', "YaRN stretches RoPE's frequencies"),
      May('lwz/model/attention/reference.py', 'frequencies|yarn', "YaRN's frequencies"),
      May('lwz/model/config.py', 'stretched', "YaRN's context"),
      May('*.jinja', 'stretch', 'a value of CSS'),
    ),
  ),
  'check-up': Word(
    r'check-?ups?',
    'evaluation, evaluator',
    (May('lwz/rl/evaluator.py', r"'checkup'", 'a folder of runs of 0.1.0'),),
  ),
  'going': Word('going', 'active', (May('*', r'going (on|from)', 'a run goes on'),)),
  'figure': Word(
    'figures?',
    'metric',
    (
      *MAPS,
      May('lwz/report/*.py', r'import figure|figure\.Figure', "matplotlib's"),
      May('lwz/report/*.jinja', r'</?figure|(^|\W)figure( \{|,)', "HTML's element"),
    ),
  ),
  'picture': Word(
    'pictures?', 'plot', (May('lwz/data/funnel/rules.py', r'image\|picture', 'words of requests'),)
  ),
  'tally': Word(
    'tally|tallies',
    'stats, usage, counts',
    (May('lwz/data/funnel/sift.py', r'tally\.json', 'a file of unfinished runs of 0.1.0'),),
  ),
  'weight_cap': Word('weight_cap', 'tis_cap', MAPS),
  'clip_low': Word(
    r"""learn/clip_(low|high)|['"]clip_(low|high)['"]:""",
    'clip_frac_low, clip_frac_high, where tokens are counted',
    MAPS,
  ),
  'UNREAD': Word(
    'UNREAD|outside_identity|INHERITED|_LEAST|_MEANS',
    'lwz/runtime/keys.py and READS',
    (May('lwz/runtime/keys.py', 'outside_identity', 'stands in old run folders'),),
  ),
  'ahead': Word(
    'ahead',
    'background',
    (
      May('*', r'ahead[ -]of', 'compiled ahead of time; a host runs ahead of its devices'),
      May('lwz/data/pipeline.py', 'read ahead', 'threads of grain'),
      May('lwz/judge/client.py', 'taken ahead of', 'requests before replies'),
    ),
  ),
  'phase': Word(
    'phases?',
    'memory plan; phases are angles of RoPE',
    (
      May('*model/*', '', 'angles'),
      May('lwz/rollout/*', r'phases_B|phases_P|qwen\.phases', 'angles'),
      May('tests/runtime/test_interrupts.py', r'phase, info', "arguments of Python's collector"),
      May('lwz/report/fit_table.py', r"""['"]phases?['"]""", 'a name in the tables of preflight'),
      May('lwz/stages/preflight.py', r"""['"]phases?['"]:""", 'a name in the tables of preflight'),
      May('benchmarks/*', r"""['"]phases?['"]""", 'a name in the tables of preflight'),
    ),
  ),
  'slot': Word(
    'slots?',
    'position, where a place in time is meant; a slot is a place of a sequence',
    only='lwz/model/*',
  ),
  'teaching': Word(
    'teaching|teaches|taught',
    'informative',
    (*MAPS, May('README.md', 'teaches a base model', 'the paper does')),
  ),
  'no_spread': Word('no_spread', 'zero_variance', MAPS),
  'slots_in_use': Word('slots_in_use', 'active_slots', MAPS),
  'whole': Word(r"""eval/whole|['"]whole['"]""", 'words_finished', MAPS),
  'choices': Word(
    r'choices\.(REWARDS|ADVANTAGES|LOSSES|AGGREGATES|OVERLONG|\w+\()|import choices', 'registry'
  ),
  'poetry': Word(
    r'class _?(Desk|Tally|Watch|Ahead|Room|Pen|Draw|Checkup)|def _?(tell|reckon|begun|taken)',
    'standard nouns and verbs',
  ),
  'paper notes': Word(r'(PAPER|ARCHITECTURE|DEMAND|PLATFORM)\.md', 'the paper'),
}
# Docstrings that begin with a question instead of a noun.
QUESTION = re.compile(r'"""(What|Who|Whom|Whose|So many|Such) ')


def met(word, text):
  """Whether a line holds an old word, as a word, in a name, or in a name in camel case."""
  whole = rf'(?<![^\W_])(?:{word.old})(?![^\W_])'
  flags = 0 if word.old.isupper() or '_LEAST' in word.old or 'class ' in word.old else re.I
  return re.search(whole, text, flags)


def offences(name, source):
  """Old words in a file, as 'file:line: word'."""
  found = []
  for number, line in enumerate(source.splitlines(), 1):
    for title, word in WORDS.items():
      if not fnmatch.fnmatch(name, word.only) or not met(word, line):
        continue
      if not any(fnmatch.fnmatch(name, m.files) and re.search(m.line, line) for m in word.may):
        found.append(f'{name}:{number}: {title} -> {word.new}: {line.strip()[:80]}')
    if name.startswith('lwz/') and QUESTION.search(line):
      found.append(f'{name}:{number}: begins with its noun, not with a question: {line.strip()}')
  return found


def texts():
  """Everything that is held to the words: {name: text}; of the tests, their names alone.

  What a policy wrote is not: it has words of its own.
  """
  read = {'README.md': (tree.ROOT / 'README.md').read_text(encoding='utf-8')}
  for folder in ('lwz', 'experiments', 'benchmarks', 'launch', 'docs'):
    for path in sorted((tree.ROOT / folder).rglob('*')):
      if path.is_file() and '__pycache__' not in path.parts and path.name != 'cheats.jsonl':
        read[path.relative_to(tree.ROOT).as_posix()] = path.read_text(encoding='utf-8')
  for path in sorted((tree.ROOT / 'tests').rglob('test_*.py')):
    name = path.relative_to(tree.ROOT).as_posix()
    if path.name in ('test_words.py', 'test_docs.py'):
      continue
    lines = path.read_text(encoding='utf-8').splitlines()
    names = [f'# {path.stem}', *lines[1:]]
    read[name] = '\n'.join(x if re.match(r'#|\s*(def|class) ', x) else '' for x in names)
  return read


def test_old_words_are_gone():
  found = [said for name, text in texts().items() for said in offences(name, text)]
  assert not found, f'{len(found)} old words\n' + '\n'.join(found)


OLD = [
  ('lwz/rl/sampling.py', '  draws = num_draws(c)', 'sample'),
  ('lwz/rl/sampling.py', 'class Draw:', 'sample'),
  ('lwz/rl/learner.py', 'if c.rl.max_redraws:', 'resample'),
  ('lwz/rollout/slots.py', '  num_stretches: int = 1', 'KV segment'),
  ('lwz/rl/evaluator.py', '"""Check-ups of a policy."""', 'evaluation'),
  ('lwz/rollout/scheduler.py', 'going_B = live_B', 'active'),
  ('lwz/rl/observer.py', 'figures = {}', 'metric'),
  ('lwz/report/page.py', 'figures = {}', 'metric'),
  ('lwz/runtime/setup.py', 'pictures = []', 'plot'),
  ('lwz/judge/client.py', 'class Tally:', 'usage'),
  ('experiments/base.py', 'c.rl.weight_cap = 0.0', 'tis_cap'),
  ('lwz/learn/losses.py', "return {'clip_low': share}", 'clip_frac_low'),
  ('experiments/base.py', 'UNREAD = {}', 'READS'),
  ('lwz/reward/background.py', 'class Ahead:', 'background'),
  ('lwz/programs/cost/fit.py', 'phases: Sequence[Phase]', 'memory plan'),
  ('lwz/model/kv_cache.py', 'at = slot + 1', 'position'),
  ('lwz/rl/learner.py', 'def teaches(self):', 'informative'),
  ('lwz/rl/learner.py', "'no_spread/length'", 'zero_variance'),
  ('lwz/rollout/scheduler.py', "'rollout/slots_in_use'", 'active_slots'),
  ('lwz/rl/evaluator.py', "'eval/whole/think'", 'words_finished'),
  ('lwz/stages/grpo.py', 'choices.REWARDS', 'registry'),
  ('lwz/stages/generate.py', 'class Pen:', 'standard nouns'),
  ('lwz/text.py', '# see PAPER.md', 'the paper'),
  ('lwz/text.py', '  """Who reads the cache."""', 'not with a question'),
  ('tests/rl/test_sampling.py', 'def test_a_draw_is_kept():', 'sample'),
]


@pytest.mark.parametrize('name, line, new', OLD)
def test_an_old_word_is_found(name, line, new):
  assert new in '\n'.join(offences(name, line))


def test_every_old_word_has_been_found():
  said = '\n'.join(found for name, line, _ in OLD for found in offences(name, line))
  assert [title for title in WORDS if f': {title} -> ' not in said] == []


@pytest.mark.parametrize(
  'name, line',
  [
    ('lwz/runtime/setup.py', 'curves.draw(records)'),
    ('lwz/report/curves.py', 'canvas = figure.Figure(figsize=size)'),
    ('lwz/model/qwen.py', 'phases_BTc = phases(positions_BT, config)'),
    ('lwz/rollout/slots.py', 'slots = active_slots + 1'),
    ('lwz/learn/losses.py', 'clip_low: float  # epsilon'),
    ('lwz/runtime/keys.py', "'rl.weight_cap': 'rl.tis_cap',"),
    ('lwz/programs/program.py', 'compiled ahead of time'),
    ('lwz/text.py', '"""Words that overdraw, figurehead, withdrawn."""'),
  ],
)
def test_a_word_in_its_place_is_let_through(name, line):
  assert offences(name, line) == []
