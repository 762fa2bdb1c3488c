"""Arena-Write (paper, Table 1): systems against baselines, and each other, as ratings."""

from typing import Any

from lwz.evals import arena, lengths, standings
from lwz.judge import benchmarks, contest
from lwz.report import number, people
from lwz.runtime import setup
from lwz.store import atomic, record

make = benchmarks.titles
load = benchmarks.tasks


def report(c, folder, tasks: list[arena.Task], names, answered, kept) -> dict[str, Any]:
  """Returns standings, win rates and lengths, and writes the page for blind judging."""
  by_idx = {task.idx: task for task in tasks}

  def text(idx: int, name: str) -> str:
    return answered[name][idx] if name in answered else by_idx[idx].baselines[name]

  matches, judged = contest.judge(c, tasks, answered, kept, rivals=c.eval.rivals)
  lines = [
    {
      **{'idx': m.idx, 'prompt': by_idx[m.idx].question, 'first': m.first, 'second': m.second},
      **{'verdict': said, 'reply': reply, 'fault': judged.faults.get(i, '')},
      'answers': benchmarks.digest(text(m.idx, m.first), text(m.idx, m.second)),
    }
    for i, (m, said, reply) in enumerate(zip(matches, judged.values, judged.replies, strict=True))
  ]
  atomic.write_text(folder / benchmarks.JUDGEMENTS, ''.join(map(record.encode, lines)))
  found, bias = standings.pairings(matches, judged.values)
  opponents = list(dict.fromkeys(name for task in tasks for name in task.baselines))
  rows = standings.rate(found, [*names, *opponents], c.seed)
  rates = standings.win_rates(found, names, by_idx, c.seed)
  asked = {task.idx: task.length for task in tasks}
  by_length = {n: lengths.metrics(asked, answered[n]) for n in names}
  people.write(
    folder / 'people.html',
    folder / 'people-key.json',
    [
      (m.idx, by_idx[m.idx].question, {n: text(m.idx, n) for n in (m.first, m.second)})
      for m in matches[::2]
    ],
    num=c.eval.people,
    seed=c.seed,
    title=setup.run_name(c),
  )
  rate = {row['system']: 100 * row['rate'] for row in rates if row['by'] == 'all'}
  table = [
    (
      *(row['player'], row['rating'], number.interval(row['low'], row['high']), row['elo']),
      rate.get(row['player']),
      *(by_length.get(row['player'], {}).get(key) for key in ('S_l', 'words')),
      row['games'],
    )
    for row in rows
  ]
  header = ('system', 'rating', '95 %', 'sequential Elo', 'win %', 'S_l', 'words', 'games')
  shown = [(*list(r.values())[:6], 100 * r['rate']) for r in rates]
  return {
    'facts': {
      'pairs judged': bias['pairs'],
      'pairs missing': bias['missing'],
      'first answer wins': bias['first_wins'],
      '95 % of that': number.interval(bias['first_wins_low'], bias['first_wins_high']),
      'both orders agree': bias['consistent'],
      **judged.counts('verdicts'),
    },
    'bias': bias,
    'standings': rows,
    'win_rates': rates,
    'lengths': by_length,
    'faults': sorted(set(judged.faults.values())),
    'tables': [
      ('Arena-Write', header, table),
      ('win rates', ('system', 'by', 'group', 'wins', 'ties', 'losses', 'win %'), shown),
    ],
    'plot': [(r['player'], r['rating'], r['low'], r['high']) for r in rows],
    'unit': 'Bradley-Terry rating on the Elo scale, 95 % interval over prompts',
    'covers': (800.0, 1200.0),  # 400 points are odds of 10 to 1
  }
