"""Inputs that nobody means, thousands of them, and what became of each: a table.

  python benchmarks/robustness.py --out results/robustness.md

Each input is given to the code that reads it, in a process that is watched. "Refused" is an error
of ours in one sentence that names the key or the file; "survived" is an input that was read, or
left out and counted. "Failed" is everything else: an error that is none of our refusals, a sentence
that names nothing, a value accepted that cannot work, more than SECONDS or MEMORY, a crash.
"""

import argparse
import collections
import json
import os
import pathlib
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from typing import NamedTuple

SECONDS, MEMORY = 20.0, 2 << 30  # of one input, bytes beyond what was there before
ROOT = pathlib.Path(__file__).parent.parent


class Outcome(NamedTuple):
  """What became of an input."""

  kind: str
  name: str
  result: str  # 'refused', 'survived' or 'failed'
  said: str


def cases(seed: int, share: float) -> list:
  from tests.faults import nasty_files, nasty_values

  return [*nasty_values.cases(seed, share), *nasty_files.cases(seed, share)]


def judge(case, folder: pathlib.Path) -> tuple[str, str]:
  """Returns ('refused', the sentence), ('survived', '') or ('failed', why)."""
  from lwz.runtime import refusal
  from tests.faults import nasty_values

  try:
    case.act(folder)
  except Exception as error:
    said = str(error).strip()
    if not isinstance(error, nasty_values.Refused) and not refusal.is_refusal(error):
      where = traceback.extract_tb(error.__traceback__)[-1]
      place = f'{pathlib.Path(where.filename).name}:{where.lineno}'
      return 'failed', f'{type(error).__name__} at {place}: {said[:200]}'
    if not any(name in said for name in case.named) or len(said) > 3_000:
      return 'failed', f'unclear: {said[:200]}'
    return 'refused', said.replace(str(folder), 'FOLDER')[:300]
  if case.refused:
    return 'failed', 'accepted'
  return 'survived', ''


def work(seed: int, share: float, begin: int) -> None:
  """Judges the cases from `begin` on; a line of JSON before and after each."""
  warnings.simplefilter('ignore')
  os.environ['HF_HUB_OFFLINE'] = '1'
  given = cases(seed, share)
  limit = 4 * MEMORY
  resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
  for number, case in enumerate(given):
    if number < begin:
      continue
    print(json.dumps([number, case.kind, case.name]), flush=True)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
      result, said = judge(case, pathlib.Path(folder))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    if grown > MEMORY:
      result, said = 'failed', f'{grown >> 20} MB of memory'
    if time.monotonic() - start > SECONDS:
      result, said = 'failed', f'{time.monotonic() - start:.0f} s'
    print(json.dumps([result, said]), flush=True)
  print('"end"', flush=True)


def outcomes(seed: int = 0, share: float = 1.0) -> Iterator[Outcome]:
  """Yields the outcome of every case; a worker that hangs or dies is replaced."""
  begin, ended = 0, False
  while not ended:
    command = [sys.executable, str(pathlib.Path(__file__)), '--work', f'{seed},{share},{begin}']
    with tempfile.TemporaryFile() as complaints:
      worker = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=complaints, text=True, bufsize=1, cwd=ROOT
      )
      assert worker.stdout
      case = None
      try:
        while True:
          wait = 2 * SECONDS if case else 20 * SECONDS
          ready = select.select([worker.stdout], [], [], wait)[0]
          line = worker.stdout.readline() if ready else ''
          if not line:
            complaints.seek(0)
            why = f'hangs for {wait:.0f} s' if not ready else f'dies: {complaints.read()[-300:]!r}'
            if case is None:
              raise RuntimeError(why)
            yield Outcome(case[1], case[2], 'failed', why)
            begin = case[0] + 1
            break
          try:
            read = json.loads(line)
          except ValueError:
            continue  # printed by what was tried
          if read == 'end':
            ended = True
            break
          if isinstance(read, list) and len(read) == 3:
            case = read
          elif isinstance(read, list) and len(read) == 2:
            yield Outcome(case[1], case[2], *read)
      finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()


def table(found: list[Outcome], seconds: float, command: str) -> str:
  counts = collections.defaultdict(collections.Counter)
  for one in found:
    counts[one.kind][one.result] += 1
  sums = collections.Counter(one.result for one in found)
  columns = ('refused', 'survived', 'failed')
  lines = [
    *('# Inputs that nobody means', '', f'    {command}', ''),
    f'{len(found):,} inputs in {seconds:.0f} s; each had {SECONDS:.0f} s and {MEMORY >> 30} GB.',
    '"Refused": an error of one sentence that names the key or the file, and no stack. "Survived":',
    'read, or left out and counted. "Failed": anything else, see `benchmarks/robustness.py`.',
    *('', '| kind | inputs | refused | survived | failed |', '|---|---|---|---|---|'),
    *(
      f'| {kind} | {sum(of.values())} | ' + ' | '.join(str(of[name]) for name in columns) + ' |'
      for kind, of in counts.items()
    ),
    f'| all | {len(found)} | ' + ' | '.join(str(sums[name]) for name in columns) + ' |',
  ]
  failed = [one for one in found if one.result == 'failed']
  if failed:
    lines += ['', 'Failed:', '', *(f'* {one.kind}: `{one.name}`: {one.said}' for one in failed)]
  lines += ['', 'One refusal of each kind:', '']
  shown = {one.kind: one for one in reversed(found) if one.result == 'refused'}
  lines += [f'* {kind}: `{one.said.splitlines()[0][:200]}`' for kind, one in shown.items()]
  return '\n'.join(lines) + '\n'


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--out', type=pathlib.Path)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--share', type=float, default=1.0, help='of the inputs')
  parser.add_argument('--work', help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.work:
    seed, share, begin = options.work.split(',')
    return work(int(seed), float(share), int(begin))
  start = time.monotonic()
  found = list(outcomes(options.seed, options.share))
  text = table(found, time.monotonic() - start, 'python benchmarks/robustness.py')
  print(text)
  if options.out:
    options.out.write_text(text)
  sys.exit(any(one.result == 'failed' for one in found))


if __name__ == '__main__':
  sys.path.insert(0, str(ROOT))
  main()
