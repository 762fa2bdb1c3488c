"""Runs side by side: the same metrics of several runs as one page, one plot and one table.

1. read the metrics of each run                 store.metrics
2. plot each metric, a curve per run            report.curves
3. write report.html, curves.svg and table.md   report.page
"""

import re

from etils import epath

from lwz.report import curves, page, summary
from lwz.runtime import setup
from lwz.store import metrics

_WIDTH, _ACROSS = 324, 3  # of a curve, and how many beside each other


READS = (*setup.READS, 'report')


def check(c) -> None:
  if not c.report.runs:
    raise ValueError('report.runs is empty: name runs, as in "(\'grpo_think-tiny\',)"')
  if not c.report.metrics:
    raise ValueError('report.metrics is empty: name metrics, as in "(\'redundancy\',)"')
  for name in c.report.runs:
    metrics.read(epath.Path(c.runs_dir) / name)


def run(c) -> None:
  folder = setup.run_folder(c)
  runs = {name: metrics.read(epath.Path(c.runs_dir) / name) for name in c.report.runs}
  drawn = [curves.draw(_beside(runs, key), list(runs), title=key) for key in c.report.metrics]
  header = ('run', *c.report.metrics)
  rows = [(name, *_row(records, c.report.metrics)) for name, records in runs.items()]
  page.write(
    folder / 'report.html',
    title=setup.run_name(c),
    subtitle='means of the first and the last 10 steps',
    curves=[('', svg) for svg in drawn],
    tables=[('first and last', header, rows)],
  )
  (folder / 'curves.svg').write_text(_grid(drawn))
  lines = [header, ('---',) * len(header), *rows]
  (folder / 'table.md').write_text(''.join(f'| {" | ".join(row)} |\n' for row in lines))
  print(f'report: {folder / "report.html"}')


def _beside(runs: dict[str, list[dict]], key: str) -> list[dict]:
  """Records in which each run's values of one key stand under the run's name."""
  return [{'step': r['step'], name: r.get(key)} for name, records in runs.items() for r in records]


def _row(records: list[dict], keys) -> list[str]:
  """'first → last' of each key, '-' where a run has none."""
  rows = {row.name: row for row in summary.first_last(records, keys)}
  return [f'{rows[k].first:.3f} → {rows[k].last:.3f}' if k in rows else '-' for k in keys]


def _grid(drawn: list[str]) -> str:
  """Returns one SVG file of several curves, each row as high as its highest plot."""
  boxes = [re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg) for svg in drawn]
  heights = [_WIDTH * float(box[2]) / float(box[1]) for box in boxes if box]
  row = max(heights)
  height = row * -(-len(drawn) // _ACROSS)
  cells = [
    svg.replace(
      '<svg ',
      f'<svg x="{i % _ACROSS * _WIDTH}" y="{i // _ACROSS * row:g}" '
      + f'width="{_WIDTH}" height="{heights[i]:g}" ',
      1,
    )
    for i, svg in enumerate(drawn)
  ]
  size = f'{_WIDTH * _ACROSS} {height:g}'
  return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}">{"".join(cells)}</svg>\n'
