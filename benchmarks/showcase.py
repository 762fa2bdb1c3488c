"""The table of what runs of GRPO reach: rewards, and measures that trained nothing, first and last.

    python benchmarks/showcase.py --runs_dir runs --out results/tiny/table.md \\
      think=grpo_think-tiny,grpo_think-tiny-s1 direct=grpo_nothink-tiny,grpo_nothink-tiny-s1

A row per run, and the means of each group; then the differences to the first group, paired by their
order, with 95 % intervals by t. Means of rewards are over ten steps, what follows is of sampled
answers in valid format at the first and the last evaluation.
"""

import argparse
import collections
import json
import math
import pathlib
from collections.abc import Collection

from etils import epath

from lwz.data import corpus
from lwz.report import groups, table
from lwz.reward import format as format_lib
from lwz.rl import referee
from lwz.store import metrics

REWARDS = ('valid_format', 'reward/length', 'reward/writing')
MEASURES = ('referee', 'referee_win_rate', 'logp', 'known', 'disorder', 'marks', 'plan')
HEADER = (
  *('run', 'valid format', 'length', 'writing', 'referee', 'win rate (pairs)', 'log-probability'),
  *('known words', 'disorder', 'marks per word', 'plan', 'alarms of the last ten steps'),
)


class Run:
  """A run's first and last values by metric."""

  def __init__(self, folder: pathlib.Path, known: Collection[str]):
    self.name, records = folder.name, metrics.read(epath.Path(folder))
    evaluated = [r for r in records if 'eval/referee/sampled' in r]
    self.values: dict[str, tuple[float, float]] = {}
    for name in REWARDS:
      ends = records[:10], records[-10:]
      self.values[name] = tuple(sum(r[name] for r in part) / len(part) for part in ends)
    for name in MEASURES:
      key = f'eval/{name}/sampled'
      self.values[name] = tuple(_number(r.get(key)) for r in (evaluated[0], evaluated[-1]))
    self.values['known'] = _known(folder, known)
    self.pairs = int(evaluated[-1]['eval/referee_pairs/sampled'])
    last = (key for record in records[-10:] for key in record if key.startswith('alarm/'))
    self.alarms = ', '.join(sorted({key.removeprefix('alarm/') for key in last}))

  def row(self) -> list[str]:
    shown = {name: ' → '.join(map(_show, ends)) for name, ends in self.values.items()}
    shown['referee_win_rate'] = f'{_show(self.values["referee_win_rate"][1])} ({self.pairs})'
    return [self.name, *shown.values(), self.alarms]


def _number(value) -> float:
  return float('nan') if value is None else float(value)


def _show(value: float) -> str:
  return '–' if math.isnan(value) else f'{value:.2f}'


def _known(folder: pathlib.Path, known: Collection[str]) -> tuple[float, float]:
  """Returns the share of known words at the first and the last evaluation."""
  style = json.loads((folder / 'config.json').read_text())
  style = style.get('config', style)['data']['style']
  said: dict[int, list[str]] = collections.defaultdict(list)
  for line in (folder / 'evaluations' / 'answers.jsonl').read_text().splitlines():
    record = json.loads(line)
    if record.get('mode') == 'sampled' and 'step' in record:
      parsed = format_lib.parse(record['text'], style)
      said[record['step']].append(parsed.answer if parsed.valid else '')
  return tuple(referee.known('\n'.join(said[step]), known) for step in (min(said), max(said)))


def differences(first: list[Run], other: list[Run]) -> list[str]:
  """Returns first minus other of every last value, over pairs."""
  found = []
  for name in (*REWARDS, *MEASURES):
    both = zip(first, other, strict=False)
    found.append(groups.interval(a.values[name][1] - b.values[name][1] for a, b in both).show())
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--runs_dir', type=pathlib.Path, default=pathlib.Path('runs'))
  parser.add_argument('--out', type=pathlib.Path)
  parser.add_argument('groups', nargs='+', metavar='NAME=RUN,RUN')
  args = parser.parse_args()
  known = referee.vocabulary(corpus.stream(''), 0.2)
  found = {}
  for group in args.groups:
    name, _, runs = group.partition('=')
    found[name] = [Run(args.runs_dir / run, known) for run in runs.split(',')]
  rows = [run.row() for runs in found.values() for run in runs]
  text = table.markdown('runs, first → last', HEADER, rows)
  first, *others = found
  if others:
    compared = [
      [name, len(found[name]), *differences(found[first], found[name])] for name in others
    ]
    header = ('minus', 'pairs', *HEADER[1:4], *MEASURES)
    text += '\n' + table.markdown(f'{first}, last values, minus the others', header, compared)
  print(text)
  if args.out:
    args.out.write_text(text + '\n')


if __name__ == '__main__':
  main()
