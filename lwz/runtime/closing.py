"""The end of a run that trains: its report, its closing table, and DONE."""

import datetime
import sys
from collections.abc import Sequence
from typing import Any

import jax

from lwz import hosts
from lwz.report import number, page, summary, table, terminal
from lwz.runtime import setup
from lwz.store import metrics, run, samples, versions


def finish(
  c,
  opened: run.Run,
  *,
  shown: Sequence[str],
  plots: Sequence[dict[str, Any]],
  facts: dict[str, Any],
  tables=(),
  alarms=(),
  links=(),
  maps=(),
  answers: Sequence[dict[str, Any]] = (),
  result: dict[str, Any] | None = None,
) -> None:
  """Writes the report and DONE, and prints the closing table, of the metrics `shown`, and alarms.

  `plots` are arguments of `curves.draw`, `maps` are plots; `answers` are samples for held-out
  prompts, `result` is what else the summary in DONE holds.
  """

  def close() -> None:
    from lwz.report import curves  # here, as matplotlib takes half a second

    opened.check()
    records = metrics.read(opened.folder)
    rows, took = summary.first_last(records, shown), sum(r['seconds'] for r in records)
    page.write(
      opened.report,
      title=setup.run_name(c),
      subtitle=f'{c.experiment}, size {setup.size_name(c, c.size)}',
      facts={'steps': c.train.num_steps, 'time': number.duration(took)} | facts | _circumstances(c),
      table=rows,
      curves=[('', curves.draw(records, **arguments)) for arguments in plots],
      plots=maps,
      samples=answers or [s for step in samples.read(opened.folder).values() for s in step],
      sampled_for='held-out prompts' if answers else 'prompts of the training',
      tables=tables,
      alarms=alarms,
      links=links,
    )
    terminal.closing_table(f'{setup.run_name(c)}, first and last steps', rows)
    opened.mark_done({row.name: row.last for row in rows} | (result or {}))
    print(*(table.markdown(*one) for one in alarms), f'report: {opened.report}', sep='\n')

  hosts.first(close)


def _circumstances(c) -> dict[str, str]:
  """Returns what a reader needs to compare a run with another: seed, changes, machine, code."""
  changed = [a.partition('.')[2] for a in sys.argv if a.lstrip('-').startswith('config.')]
  devices = f'{jax.device_count()} {jax.devices()[0].device_kind}'
  found = {'seed': str(c.seed), 'device': devices, 'date': f'{datetime.date.today()}'}
  if commit := versions.commit():
    found['commit'] = commit[:10]
  return found | ({'changed': ', '.join(changed)} if changed else {})
