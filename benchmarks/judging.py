"""How long the judge of rewards holds a step: the wait after the last answer, in judgements.

  python benchmarks/judging.py                       1 s a judgement, 16 in flight, 4 x 8 answers
  python benchmarks/judging.py --seconds 10 --over 60 --out judging.json

Answers of all groups come in turn, evenly over `over` seconds, as slots write them; a server on
loopback takes `seconds` for each reply. `work` is what the answers of the last judgement's time
ask, in judgements of all that are in flight: the wait is about max(1, work). Where every group ends
at once, as here, forms of groups ask all of theirs then.
"""

import argparse
import json
import pathlib
import re
import tempfile
import time

import rich.console
import rich.table

from experiments import base
from lwz import types
from lwz.reward import background, components
from lwz.reward import format as format_lib
from lwz.rl import judged
from tests.rollout import scripted as server_lib

PER_ANSWER = {'rubric': 1, 'ladder': 2}  # questions
SETS = (*((name,) for name in judged.FORMS), judged.FORMS)


def parse():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--seconds', type=float, default=1.0, help='of a judgement')
  parser.add_argument('--over', type=float, default=12.0, help='seconds of writing')
  parser.add_argument('--prompts', type=int, default=4)
  parser.add_argument('--group', type=int, default=8)
  parser.add_argument('--concurrency', type=int, default=16)
  parser.add_argument('--exact', action='store_true', help='as in a run with rollout.exact')
  parser.add_argument('--out', type=pathlib.Path)
  return parser.parse_args()


def samples(args) -> list[components.Sample]:
  """Distinct answers of valid structure, in the order p * G + g."""
  found = []
  for p in range(args.prompts):
    prompt = types.Prompt(
      f'p{p}', f'Write {p}.', 3, 5, criteria=(types.Criterion('a', 'Is.'),), references=('Worse.',)
    )
    for g in range(args.group):
      text = f'<think>So.</think><answer>Answer {g} to {p}.</answer>'
      found.append(components.Sample(prompt, text, format_lib.parse(text, 'think')))
  return found


def reply(payload) -> str:
  asked = payload['messages'][0]['content']
  if '[Criteria]' in asked:
    return '{"c1": "yes"}'
  shown = re.findall(r'\[Answer (\d+)\]', asked)
  return f'[[{" > ".join(dict.fromkeys(shown))}]]' if shown else '[[A]]'


def questions(forms, args) -> tuple[int, int]:
  """Returns the questions of the last answer of each group, and those of every other answer."""
  each = sum(PER_ANSWER.get(name, 0) for name in forms)
  groups = {'sibling': 2 * (args.group - 1), 'ranking': 1}
  return each + sum(groups.get(name, 0) for name in forms), each


def measure(forms, args) -> dict:
  def behave(number, payload):
    time.sleep(args.seconds)
    return reply(payload)

  with server_lib.serve(behave) as server, tempfile.TemporaryDirectory() as folder:
    c = base.get_config('micro')
    c.reward.judge, c.rollout.exact = f'm@{server.url}', args.exact
    c.judge.concurrency, c.judge.cache = args.concurrency, f'{folder}/replies.sqlite'
    c.reward.weights = dict.fromkeys(forms, 1.0)
    judges = judged.JudgedRewards(c)
    rewards, given = judges.rewards(None), samples(args)
    early = {name: reward for name, reward in rewards.items() if not reward.deferred}
    running = background.BackgroundRewards(early, args.group)
    order = [p * args.group + g for g in range(args.group) for p in range(args.prompts)]
    pause = args.over / (len(order) - 1)
    began = time.monotonic()
    for place, index in enumerate(order):
      time.sleep(max(0.0, began + place * pause - time.monotonic()))
      running.add(index, given[index])
    ended = time.monotonic()
    for name, reward in rewards.items():
      if name in running:
        running.values(name, given)
      else:
        reward.values(given, args.group)
    wait = time.monotonic() - ended
    judges.close()
  last, other = questions(forms, args)
  recent = min(len(order), 1 + int(args.seconds / pause))  # answers of the last judgement's time
  asked = sum(last if place < args.prompts else other for place in range(recent))
  return {
    'forms': ', '.join(forms),
    'questions': len(server.seen),
    'in flight': server.most_in_flight,
    'writing, s': args.over,
    'wait, s': wait,
    'wait, judgements': wait / args.seconds,
    'work': asked / args.concurrency,
  }


def main():
  args = parse()
  records = [measure(forms, args) for forms in SETS]
  table = rich.table.Table(
    title=f'{args.prompts} x {args.group} answers, {args.seconds:g} s a judgement'
  )
  for column in records[0]:
    table.add_column(column, justify='left' if column == 'forms' else 'right')
  for r in records:
    table.add_row(*(f'{v:.2f}' if isinstance(v, float) else str(v) for v in r.values()))
  rich.console.Console(width=110).print(table)
  if args.out:
    case = {key: value for key, value in vars(args).items() if key != 'out'}
    args.out.write_text(json.dumps({'case': case, 'forms': records}, indent=2) + '\n')


if __name__ == '__main__':
  main()
