"""CPU seconds of the rule rewards and the monitor for one step's texts.

  python benchmarks/rewards.py                          32 trajectories of 10,000 words
  python benchmarks/rewards.py --trajectories 8 --words 2000 --out rewards.json

Texts are the documents of the standard library in random orders. Times are the
best of `repeats` rounds, in seconds of one core. `redundancy` is part of `format reward`, which the
monitor does not recompute.
"""

import argparse
import functools
import json
import pathlib
import time

import numpy as np
import rich.console
import rich.table

from lwz import types
from lwz.data import embedded
from lwz.reward import components as components_lib
from lwz.reward import format as format_lib
from lwz.reward import redundancy
from lwz.reward.hacking import keyword_lift, monitor, signals

NAMES = ('length', 'format')


def parse():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--trajectories', type=int, default=32)
  parser.add_argument('--words', type=int, default=10_000)
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--out', type=pathlib.Path)
  return parser.parse_args()


def texts(args) -> list[str]:
  """Replies of the asked number of words, each of other documents in another order."""
  documents = [document.text for document in embedded.topics() + embedded.docstrings()]
  replies = []
  for b in range(args.trajectories):
    order = np.random.default_rng(b).permutation(len(documents))
    words, parts = 0, []
    for i in order:
      parts.append(documents[i])
      words += len(documents[i].split())
      if words >= args.words:
        break
    think = '<think>Sections in order, each with an example.</think>'
    replies.append(f'{think}<answer>{chr(10).join(parts)}</answer>')
  return replies


def samples(replies: list[str], args) -> list[components_lib.Sample]:
  prompt = types.Prompt('p', 'Write a reference.', args.words - 2_000, args.words + 2_000)
  return [components_lib.Sample(prompt, r, format_lib.parse(r, 'think')) for r in replies]


def cpu(call) -> tuple[float, object]:
  """Seconds of one core, with nothing left over from an earlier call."""
  redundancy.share.cache_clear()
  began = time.process_time()
  result = call()
  return time.process_time() - began, result


def measure(args) -> list[dict]:
  replies = texts(args)
  given = samples(replies, args)
  tokenised = [signals.Answer(sample) for sample in given]
  answers = [sample.parsed.answer for sample in given]
  length = functools.partial(components_lib.length, max_words=2 * args.words)
  rewards = {
    'length': components_lib.per_answer(length),
    'format': components_lib.per_answer(components_lib.format),
  }

  def everything():
    parsed = samples(replies, args)
    scores = components_lib.judge(parsed, rewards, 1)
    return monitor.observe(parsed, scores, NAMES, state={})

  calls = {
    'all of a step': everything,
    'parse': lambda: samples(replies, args),
    'length reward': lambda: length(given),
    'format reward': lambda: components_lib.format(given),
    'words and hashes': lambda: [signals.Answer(sample) for sample in given],
    **{
      f'signal {name}': lambda signal=signal: [signal(answer) for answer in tokenised]
      for name, signal in signals.SIGNALS.items()
    },
    'keyword lift': lambda: keyword_lift.favourites('Write a reference.', answers),
  }
  best = {name: min(cpu(call)[0] for _ in range(args.repeats)) for name, call in calls.items()}
  return [
    {'part': name, 'seconds': took, 'ms_per_text': 1e3 * took / args.trajectories}
    for name, took in best.items()
  ]


def main():
  args = parse()
  records = measure(args)
  table = rich.table.Table(title=f'{args.trajectories} texts of {args.words:,} words, one core')
  for column in ('part', 'seconds', 'ms per text'):
    table.add_column(column, justify='left' if column == 'part' else 'right')
  for r in records:
    table.add_row(r['part'], f'{r["seconds"]:.3f}', f'{r["ms_per_text"]:.2f}')
  rich.console.Console().print(table)
  if args.out:
    case = {key: value for key, value in vars(args).items() if key != 'out'}
    args.out.write_text(json.dumps({'case': case, 'parts': records}, indent=2) + '\n')


if __name__ == '__main__':
  main()
