"""A page for each claim of the paper, out of the runs of its sweep in experiments/claims/.

  python benchmarks/claims.py --runs_dir runs --out results/claims

Claims whose sweep has no pair of complete arms are named in the index as not run yet.
"""

import argparse
import ast
import json
import pathlib
import shutil
from collections.abc import Iterable
from typing import Any, NamedTuple

from experiments import base, claims, report
from lwz import sweep
from lwz.report import groups, summary, table
from lwz.runtime import setup
from lwz.stages import report as stage
from lwz.store import metrics, status

FILES = sorted(pathlib.Path(claims.__file__).parent.glob('[!_]*.py'))

# Metric -> the plot of the paper whose form its plot has; the first one decides.
METRICS = {
  groups.OUTCOME: '',
  'reward/writing': 'Fig. 2, left',
  'reward/length': 'Fig. 2, middle',
  'eval/words_finished/sampled': 'Fig. 2, right',
  'eval/rating/sampled': 'Figs. 3 and 4; the judge knows length and repetition alone',
  'eval/referee_win_rate/sampled': 'Fig. 5, against step 0',
  'words/think': 'Fig. 6',
  'eval/valid_format/sampled': '',
  'eval/referee/sampled': '',
  'eval/outcome/greedy': '',
  'eval/disorder/sampled': '',
}
HEADER = ('system', 'runs', *METRICS)

READING = f"""`{groups.OUTCOME}` decides: the score, in [0, 1], of a referee that trained nothing,
on a sampled answer to each held-out title, 0 where the format is broken; on greedy answers where
arms sample at different temperatures. Rewards are means of the
last ten steps, `eval/` those of the last two evaluations, `greedy` answers of temperature 0.
Intervals are of 95 %, by t over the seeds: of three runs they are wide, and most differences of
this size cannot be told from none. Differences by prompt are over the held-out titles, for these
very runs.
"""


class Page(NamedTuple):
  """What the index says of a claim; `rows` are its systems' scores."""

  name: str
  claim: str
  verdict: str
  counted: str
  rows: list[tuple]


def write(runs_dir: str, out: pathlib.Path, size: str, files: Iterable[pathlib.Path]) -> list[Page]:
  """Writes the pages and their index; returns what the index says."""
  out.mkdir(parents=True, exist_ok=True)
  pages = [_page(runs_dir, out, size, path) for path in files]
  lines = [(page.claim, page.verdict, page.counted, _link(page)) for page in pages]
  parts = [
    f"# The paper's claims at `{size}`",
    READING,
    table.markdown('claims', ('claim', 'at this size', 'runs', 'page'), lines),
    table.markdown("all systems (the form of the paper's Table 1)", HEADER, _systems(pages)),
    f'Made by `python benchmarks/claims.py --runs_dir runs --out {_place(out)}`.',
  ]
  (out / 'README.md').write_text('\n'.join(part.rstrip() + '\n' for part in parts))
  return pages


def _page(runs_dir: str, out: pathlib.Path, size: str, path: pathlib.Path) -> Page:
  found = sweep.Sweep(path, size, [f'--config.runs_dir={runs_dir}'])
  said = ast.get_docstring(ast.parse(path.read_text())) or ''
  made = [arm.config for arm in found.arms if _is_complete(arm.config)]
  claim = said.splitlines()[0]
  counted = f'{len(made)} of {len(found.arms)}'
  if len({_apart(arm.values) for arm in found.arms if _is_complete(arm.config)}) < 2:
    return Page(path.stem, claim, 'not run yet', counted, [])
  found.write()
  folder = _compare(runs_dir, size, found)
  record = json.loads((folder / 'groups.json').read_text())
  shutil.copy(folder / 'curves.svg', out / f'{path.stem}.svg')
  shown = [f'`{name}` ({what})' for name, what in METRICS.items() if what]
  command = f'python -m lwz.sweep --sweep=experiments/claims/{path.name}'
  view = f"""--config.report.runs="('{found.folder.name}',)\""""
  parts = [
    f'# {claim}',
    record['conclusion'],
    said.split('\n\n', 1)[1].rsplit('\n\n', 1)[0],
    _facts(made, counted),
    f'```\n{command}\npython -m lwz.launch --config=experiments/report.py {view}\n```',
    f'![curves and their ends]({path.stem}.svg)',
    f"Plots in the form of the paper's: {', '.join(shown)}.",
    (folder / 'table.md').read_text(),
  ]
  (out / f'{path.stem}.md').write_text('\n\n'.join(part.strip() for part in parts) + '\n')
  verdict = record['conclusion'].split(': ', 1)[1]
  rows = [(g['label'], len(g['runs']), *_scores(runs_dir, g['runs'])) for g in record['groups']]
  return Page(path.stem, claim, verdict, counted, rows)


def _compare(runs_dir: str, size: str, found: sweep.Sweep) -> pathlib.Path:
  """Runs the report over a sweep; returns its folder."""
  c = report.get_config(size)
  c.runs_dir, c.name = runs_dir, f'report-{found.path.stem}'
  c.report.runs, c.report.metrics = (found.folder.name,), tuple(METRICS)
  stage.check(c)
  stage.run(c)
  return pathlib.Path(setup.run_folder(c))


def _facts(made: list, counted: str) -> str:
  steps = sorted({c.train.num_steps for c in made})
  seeds = sorted({c.seed for c in made})
  commits = sorted({_record(c)['versions']['lwz'][:7] for c in made})
  return (
    f'{counted} arms are complete, each of {" or ".join(map(str, steps))} GRPO steps (the main job '
    f'has 80, the paper 150), seeds {", ".join(map(str, seeds))}, each with a base, pretraining, '
    f'reward model and referee of its own; at commit {", ".join(commits)}.'
  )


def _scores(runs_dir: str, names: list[str]) -> list[str]:
  """Returns mean and interval over the runs of each metric."""
  every = [metrics.read(pathlib.Path(runs_dir) / name) for name in names]
  rows = []
  for name in METRICS:
    ends = [row.last for records in every for row in summary.first_last(records, [name])]
    rows.append(groups.interval(ends).show())
  return rows


def _systems(pages: Iterable[Page]) -> list[tuple]:
  """Returns the scores of every system once, under the claims that have it."""
  found: dict[tuple, list[str]] = {}
  for page in pages:
    for label, *scores in page.rows:
      found.setdefault(tuple(scores), []).append(label)
  return [(', '.join(dict.fromkeys(labels)), *scores) for scores, labels in found.items()]


def _link(page: Page) -> str:
  return f'[{page.name}]({page.name}.md)' if page.rows else f'`experiments/claims/{page.name}.py`'


def _apart(values: dict[str, Any]) -> str:
  return json.dumps({k: v for k, v in values.items() if k not in ('seed', 'needs_seed')})


def _is_complete(c) -> bool:
  return status.read(setup.run_folder(c)).state == 'complete'


def _record(c) -> dict[str, Any]:
  return json.loads((pathlib.Path(setup.run_folder(c)) / 'config.json').read_text())


def _place(out: pathlib.Path) -> str:
  return 'results/claims' if out.is_absolute() else str(out)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
  parser.add_argument('--runs_dir', default='runs')
  parser.add_argument('--size', default='tiny', choices=base.SIZES)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  options = parser.parse_args()
  if not pathlib.Path(options.runs_dir).is_dir():
    parser.error(f'--runs_dir={options.runs_dir}: no such folder')
  for page in write(options.runs_dir, options.out, options.size, FILES):
    print(f'{page.claim}\n  {page.verdict}')


if __name__ == '__main__':
  main()
