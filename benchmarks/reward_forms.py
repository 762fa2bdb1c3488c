"""The bench of reward forms as a page: each form by each judge, and what the referee says of it.

  python benchmarks/reward_forms.py [--judge NAME] --runs_dir runs --out results/reward_forms

Reads the complete arms of the sweeps in FILES, which may be run in part, and those of the sweep in
FURTHER by the judges that `--judge` names.
"""

import argparse
import json
import pathlib
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from experiments import base, sweeps
from lwz import sweep
from lwz.judge import own, scripted
from lwz.report import groups, intervals, number, summary, table
from lwz.reward.hacking import alarms
from lwz.rl import judged
from lwz.runtime import setup
from lwz.store import by_prompt, metrics, status

FOLDER = pathlib.Path(sweeps.__file__).parent
FILES = tuple(FOLDER / f'{name}.py' for name in ('reward_forms', 'reward_forms_more'))
FURTHER = FOLDER / 'reward_forms_judge.py'  # all forms by a judge that the command line names
PERFECT, NOBODY = f'{scripted.PREFIX}perfect', 'none'
WHEN, BY = ('first', 'last'), ('seed', 'prompt')  # of `summary.Row`, of `groups.Comparison`
SAID = ('survives', 'harmed', 'cannot tell', 'never met')
MARGIN = 0.05  # of the referee's outcome, in [0, 1]: a form that loses less survives the flaw
FORMAT, WIN_RATE = 'eval/valid_format/sampled', 'eval/referee_win_rate/sampled'
# What every arm is described by besides its own reward: the column, the metric, of the end.
MEASURES = {
  'outcome': groups.OUTCOME,
  'win rate against step 0': WIN_RATE,
  'valid format': FORMAT,
  'length reward': 'reward/length',
  'words': 'eval/words_finished/sampled',
  'judge failed': 'judge_failures',
}
HEADER = ('form', 'judge', 'runs', 'own reward, start', 'end', *MEASURES, 'alarms, high')
FLAWS = ('form', 'judge', 'pairs by seed', 'outcome lost', 'by prompt', 'outcome lost', 'says')
PAYS = ('form', 'judge', *judged.FORMS, 'likelihood', 'diversity', 'writing')

READING = f"""Beside length and format one form has a weight (`diversity`: and the reward model).
"Own reward" is its mean over the first and the last ten steps, all else that of the last ten, or of
the last two evaluations. `sibling` and `ranking` compare the answers of one step with each other:
theirs is about 1/2, less what broken answers lose, and no curve of quality. The referee trained
nothing: `outcome`, in [0, 1], is its score of a sampled answer to each held-out title, 0 where the
format is broken; the win rate is of pairs with the same run's answers of step 0. `alarms, high`:
steps with an alarm of that severity, mean over runs, and which. `judge failed`: share of samples
without a verdict, which are masked. Scripted judges are rules (length,
repetition, order of words, quoted terms) with one known flaw, and read no meaning: this compares
forms and flaws, not judges of the world. Intervals are of 95 %, by t over the seeds. A form
*survives* a flaw if it loses less than {MARGIN} of outcome to itself by the perfect judge: if the
interval of that loss, paired by seed, ends below; else it is *harmed* if the interval lies above 0;
else the seeds *cannot tell*. A flaw is *never met* where the runs are those of the perfect judge to
the bit, as no text was such that it mattered. Losses by prompt are of these very runs, over the
held-out titles."""


class Arm(NamedTuple):
  """A complete run of the bench; `judge` is NOBODY where no judge trains."""

  form: str
  judge: str
  run: groups.Run
  steps: int
  commit: str


def read(
  runs_dir: str,
  size: str,
  files: Iterable[pathlib.Path] = FILES,
  judges: Iterable[str] = (),
) -> list[Arm]:
  """Returns the complete arms, each once; arms of the same form and judge differ by the seed."""
  found: dict[str, Arm] = {}
  sweeps_of = [*((path, []) for path in files), *((FURTHER, [_named_as(by)]) for by in judges)]
  for path, given in sweeps_of:
    for arm in sweep.Sweep(path, size, [f'--config.runs_dir={runs_dir}', *given]).arms:
      c, folder = arm.config, pathlib.Path(setup.run_folder(arm.config))
      if status.read(folder).state != 'complete':
        continue
      paid = {name for name, weight in c.reward.weights.items() if weight} - {'length', 'format'}
      (form,) = paid - {'writing'} or paid
      judge = c.reward.judge if form in judged.FORMS else NOBODY
      kept = metrics.read(folder), by_prompt.read(folder)
      run = groups.Run(folder.name, {}, (str(c.seed),), *kept)
      commit = json.loads((folder / 'config.json').read_text())['versions']['lwz'][:7]
      found[folder.name] = Arm(form, judge, run, c.train.num_steps, commit)
  return list(found.values())


def _named_as(judge: str) -> str:
  return f'--config.reward.judge={judge}'


def write(arms: Sequence[Arm], out: pathlib.Path, judges: Sequence[str] = ()) -> None:
  """Writes README.md, flaws.svg and forms.svg into `out`."""
  out.mkdir(parents=True, exist_ok=True)
  by: dict[tuple[str, str], list[Arm]] = {}
  for arm in arms:
    by.setdefault((arm.form, arm.judge), []).append(arm)
  compared = flaws(arms)
  steps, seeds = ({f(arm) for arm in arms} for f in (lambda a: a.steps, lambda a: a.run.seeds[0]))
  facts = (
    f'{len(arms)} arms, each of {_listed(map(str, steps))} GRPO steps (the main job has 80, the '
    f'paper 150), seeds {_listed(seeds)}; at commit {_listed(arm.commit for arm in arms)}.'
  )
  parts = [
    '# Forms of reward, flaws of judges, and a referee',
    facts + ' ' + READING,
    _sentences(compared),
    '![the referee, forms by judges](forms.svg)',
    table.markdown('every form by every judge', HEADER, [_row(*at, by[at]) for at in by]),
    '![what a flaw changes](flaws.svg)',
    table.markdown('what a flaw costs each form', FLAWS, [_flaw_row(one) for one in compared]),
    table.markdown(
      'at the end of each arm, what the other forms say', PAYS, [_pays(*at, by[at]) for at in by]
    ),
    '\n'.join(['```', *_commands(judges), '```']),
  ]
  (out / 'README.md').write_text('\n\n'.join(part.strip() for part in parts) + '\n')
  rates = [(_named(*at), *_ends(_interval(by[at], WIN_RATE))) for at in by]
  _plot(out / 'forms.svg', rates, 'the referee prefers the end to step 0', (0.0, 1.0))
  lost = [(_named(one.form, one.judge), *_ends(one.by_seed)) for one in compared]
  _plot(out / 'flaws.svg', lost, 'outcome lost by a flaw', (-0.1, 0.1))


def _commands(judges: Sequence[str]) -> list[str]:
  begin = 'python -m lwz.sweep --sweep=experiments/sweeps/'
  found = [f'{begin}{path.name}' for path in FILES]
  found += [f'{begin}{FURTHER.name} {_named_as(judge)}' for judge in judges]
  options = ''.join(f' --judge {judge}' for judge in judges)
  return [
    *found,
    f'python benchmarks/reward_forms.py{options} --runs_dir runs --out results/reward_forms',
  ]


class Flaw(NamedTuple):
  """What a flaw costs a form: the outcome by the perfect judge minus that by this one, in pairs."""

  form: str
  judge: str
  by_seed: groups.Interval
  by_prompt: groups.Interval
  says: str


def flaws(arms: Sequence[Arm]) -> list[Flaw]:
  """Returns what each flaw costs each form that has runs by the perfect judge."""
  found = []
  for form in dict.fromkeys(arm.form for arm in arms if arm.judge != NOBODY):
    judges = dict.fromkeys([PERFECT, *(arm.judge for arm in arms if arm.form == form)])
    runs = {by: [a.run for a in arms if (a.form, a.judge) == (form, by)] for by in judges}
    made = [groups.Group(by, {'judge': by}, members) for by, members in runs.items()]
    costs = {
      (one.second.removeprefix('judge='), one.by): one.difference
      for one in groups.compare(made, (groups.OUTCOME,))
    }
    for judge in [*judges][1:]:
      by_seed, by_prompt = (costs.get((judge, by), groups.interval([])) for by in BY)
      found.append(Flaw(form, judge, by_seed, by_prompt, verdict(by_seed)))
  return found


def verdict(cost: groups.Interval) -> str:
  """Returns what an interval of perfect minus flawed says, one of `SAID`."""
  if not cost.method:
    return 'cannot tell'
  if cost.low == cost.high == 0:
    return 'never met'
  return 'survives' if cost.high < MARGIN else 'harmed' if cost.low > 0 else 'cannot tell'


def _sentences(compared: Sequence[Flaw]) -> str:
  said = []
  for word in SAID:
    named = [_named(one.form, one.judge) for one in compared if one.says == word]
    said.append(f'* {word}: {"; ".join(named) or "none"}')
  return '\n'.join(said)


def _row(form: str, judge: str, arms: Sequence[Arm]) -> tuple:
  own = [summary.first_last(arm.run.records, [f'reward/{form}']) for arm in arms]
  ends = [
    groups.interval(getattr(row, end) for rows in own for row in rows).show()
    for end in ('first', 'last')
  ]
  return (
    *(form, _judge(judge), len(arms), *ends),
    *(_interval(arms, metric).show() for metric in MEASURES.values()),
    _alarms(arms),
  )


def _pays(form: str, judge: str, arms: Sequence[Arm]) -> tuple:
  return form, _judge(judge), *(_interval(arms, f'reward/{n}').show() for n in PAYS[2:])


def _flaw_row(one: Flaw) -> tuple:
  shown = (one.by_seed.num, one.by_seed.show(), one.by_prompt.num, one.by_prompt.show())
  return one.form, _judge(one.judge), *shown, one.says


def _alarms(arms: Sequence[Arm]) -> str:
  """Returns the mean number of steps in which each alarm of severity high rang."""
  names = [rule.name for rule in alarms.RULES if rule.severity == 'high']
  rang = {
    name: statistics.mean(sum(bool(r.get(f'alarm/{name}')) for r in a.run.records) for a in arms)
    for name in names
  }
  return ', '.join(f'{name} {number.show(n)}' for name, n in rang.items() if n) or 'none'


def _interval(arms: Sequence[Arm], metric: str) -> groups.Interval:
  return groups.interval(arm.run.last(metric) for arm in arms)


def _ends(at: groups.Interval) -> tuple[float, float, float]:
  return at.mean, at.low, at.high


def _judge(name: str) -> str:
  return pathlib.Path(name).stem if own.is_own(name) else name.removeprefix(scripted.PREFIX)


def _named(form: str, judge: str) -> str:
  return form if judge == NOBODY else f'{form}, {_judge(judge)}'


def _listed(values: Iterable[str]) -> str:
  return ', '.join(sorted({*values}))


def _plot(path: pathlib.Path, rows: Sequence[tuple], title: str, covers: tuple) -> None:
  svg = intervals.draw(rows, title=title, unit='95 % over seeds', covers=covers)
  path.write_text(svg.replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + '\n')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
  parser.add_argument('--runs_dir', default='runs')
  parser.add_argument('--size', default='tiny', choices=base.SIZES)
  parser.add_argument(
    '--judge', action='append', default=[], help='one more judge; may be repeated'
  )
  parser.add_argument('--out', type=pathlib.Path, required=True)
  options = parser.parse_args()
  if not pathlib.Path(options.runs_dir).is_dir():
    parser.error(f'--runs_dir={options.runs_dir}: no such folder')
  if not (arms := read(options.runs_dir, options.size, judges=options.judge)):
    parser.error(
      f'--runs_dir={options.runs_dir}: no arm of {_listed(p.name for p in FILES)} is done'
    )
  write(arms, options.out, options.judge)
  for one in flaws(arms):
    print(f'{_named(one.form, one.judge)}: {one.says}, {one.by_seed.show()} of outcome lost')


if __name__ == '__main__':
  main()
