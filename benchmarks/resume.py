"""Time of a run from its start to its first step, new and after a restart.

    python benchmarks/resume.py [--experiment grpo_think --size micro] [--repeats 3] [--out FILE]

Runs the experiment (and what it needs) once, stops it, and starts it again from the checkpoint,
with the compilation cache as it is and with an empty one. The time is that from the start of the
process to the record of its first step, so imports, restoring and compiling are included.
"""

import argparse
import json
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent


def first_step(arguments, runs: pathlib.Path, num_steps: int) -> float:
  """Seconds from the start of the process to its next record; it is then stopped, and saves."""
  command = [
    *(sys.executable, '-m', 'lwz.launch'),
    f'--config=experiments/{arguments.experiment}.py:{arguments.size}',
    *(f'--config.runs_dir={runs}', f'--config.train.num_steps={num_steps}'),
  ]
  written = runs / f'{arguments.experiment}-{arguments.size}' / 'metrics.jsonl'

  def lines() -> int:
    return written.read_text().count('\n') if written.exists() else 0

  before, began = lines(), time.monotonic()
  process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
  while lines() <= before:
    if process.poll() is not None:
      sys.exit(process.communicate()[1].decode())
    time.sleep(0.01)
  took = time.monotonic() - began
  process.send_signal(signal.SIGTERM)
  process.communicate()
  return took


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--experiment', default='grpo_think')
  parser.add_argument('--size', default='micro')
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--out', type=pathlib.Path)
  arguments = parser.parse_args()
  many = 1_000_000  # it never ends by itself
  rows: dict[str, list[float]] = {'with the cache': [], 'without': []}
  with tempfile.TemporaryDirectory() as folder:
    runs = pathlib.Path(folder)
    anew = first_step(arguments, runs, many)
    for _ in range(arguments.repeats):  # in turn, so that other work on the machine meets both
      rows['with the cache'].append(first_step(arguments, runs, many))
      shutil.rmtree(runs / '.compilation-cache')
      rows['without'].append(first_step(arguments, runs, many))
  medians = {name: statistics.median(taken) for name, taken in rows.items()}
  print(f'{arguments.experiment}:{arguments.size}, seconds to the first step')
  print(f'{"the first start, what it needs included":44}{anew:8.1f}')
  for name, median in medians.items():
    ratio = median / medians['with the cache']
    print(f'{"a restart " + name:44}{median:8.1f}   x{ratio:.2f}')
  if arguments.out:
    result = {'anew': anew, 'restart': rows, 'median': medians}
    arguments.out.write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
  main()
