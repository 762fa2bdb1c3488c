"""Human judgements on a run's people.html: win rates, agreement, one page.

1. read the key of the page, and the exported judgements  evals.people
2. compute win rates, agreement and intervals             evals.people
3. write results.json, table.md, report.html              report
"""

import json

from etils import epath

from lwz import jsonl
from lwz.evals import people, records
from lwz.report import intervals, number, page
from lwz.report import table as table_lib
from lwz.runtime import setup
from lwz.store import atomic, record

READS = (*setup.READS, 'eval.arena', 'eval.annotations')


def check(c) -> None:
  _inputs(c)


def _inputs(c):
  """The key, (path, export) of every .json file of annotations, and rejected files."""
  path = epath.Path(c.runs_dir) / c.eval.arena / 'people-key.json'
  if not c.eval.arena or not path.exists():
    raise FileNotFoundError(
      f'eval.arena={c.eval.arena}: there is no {path}; name the run whose people.html was judged'
    )
  folder = epath.Path(c.eval.annotations) if c.eval.annotations else path.parent / 'annotations'
  files = sorted(folder.glob('*.json')) if folder.is_dir() else []
  if not files:
    raise FileNotFoundError(f'{folder}: no .json files; put the exported judgements there')
  exports, rejects = [], []
  for file in files:
    try:
      exports.append((str(file), json.loads(jsonl.contents(file))))
    except (ValueError, RecursionError) as error:
      rejects.append(records.Reject(str(file), f'not JSON: {error}'[:200]))
  return jsonl.document(path, {'page': str, 'items': dict}, remedy='judge again'), exports, rejects


def _agreement(judgements) -> float | str:
  try:
    return people.agreement(judgements)
  except ImportError as error:
    return str(error)


def run(c) -> None:
  key, exports, broken = _inputs(c)
  judgements, rejects = people.read(exports, key)
  rejects = broken + rejects
  if not judgements:
    raise ValueError(
      f'no judgement could be used; the first reject: {rejects[0] if rejects else "-"}'
    )
  rows = people.win_rates(judgements, key, c.seed)
  left, low, high = people.left_wins(judgements)
  facts = {
    'people': len({j.annotator for j in judgements}),
    'judgements': len(judgements),
    'agreement (alpha)': _agreement(judgements),
    'left side wins': left,
    '95 % of that': number.interval(low, high),
    'rejected': len(rejects),
  }
  folder = setup.run_folder(c)
  folder.mkdir(parents=True, exist_ok=True)
  header = ('system', 'against', 'wins', 'ties', 'losses', 'win %', 'low', 'high')
  table = [
    (*list(row.values())[:5], *(100 * row[k] for k in ('rate', 'low', 'high'))) for row in rows
  ]
  results = {'facts': facts, 'win_rates': rows, 'rejects': [r._asdict() for r in rejects]}
  atomic.write_text(folder / 'results.json', json.dumps(record.plain(results), indent=2) + '\n')
  text = table_lib.markdown('people, ties as half', header, table)
  atomic.write_text(folder / 'table.md', text)
  rates = [(f'{r["system"]} v. {r["opponent"]}', r['rate'], r['low'], r['high']) for r in rows]
  page.write(
    folder / 'report.html',
    title=setup.run_name(c),
    subtitle=f'blind judgements of {c.eval.arena}',
    facts=facts,
    plots=[('', intervals.draw(rates, title='win rate, ties as half', unit='95 %', covers=(0, 1)))],
    tables=[('win rates', header, table), ('left out', ('where', 'why'), rejects[:100])],
  )
  print(text + f'\nagreement (Krippendorff’s alpha): {number.show(facts["agreement (alpha)"])}')
  print(f'report: {folder / "report.html"}')
