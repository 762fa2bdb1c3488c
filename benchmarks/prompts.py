"""Throughput and memory of the prompt funnel before the judges, stage by stage.

    python benchmarks/prompts.py --rows 1000000

Writes a Parquet set of made-up conversations in WildChat's schema (several files, as the real set
has), reads it back, sifts it, and searches for duplicates. Real requests have other lengths, and
other shares of them are rejected, so rows/s measure the machine and the code, not WildChat-1M.
"""

import argparse
import json
import pathlib
import resource
import tempfile
import time

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from lwz.data import corpus
from lwz.data.funnel import embedded_conversations, rules, sift, sources

GROUP = 10_000  # rows of a row group


def write(folder: pathlib.Path, num: int, files: int) -> None:
  documents = [*corpus.stream()]
  stream = embedded_conversations.records(documents, num)
  schema = None
  for index in range(files):
    left = num * (index + 1) // files - num * index // files
    path = folder / f'train-{index:05d}-of-{files:05d}.parquet'
    writer = None
    while left:
      rows = [next(stream) for _ in range(min(GROUP, left))]
      table = pa.Table.from_pylist(rows, schema)
      schema = table.schema
      writer = writer or parquet.ParquetWriter(path, schema)
      writer.write_table(table)
      left -= len(rows)
    if writer:
      writer.close()


def peak() -> float:
  """GB of this process's largest resident set so far; mapped files count."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--rows', type=int, default=100_000)
  parser.add_argument('--files', type=int, default=14)
  parser.add_argument('--similarity', type=float, default=0.7)
  parser.add_argument('--out', type=pathlib.Path, help='JSON with what is printed')
  arguments = parser.parse_args()
  lines: list[dict] = []

  def stage(name: str, rows: int, began: float) -> None:
    took = time.perf_counter() - began
    lines.append({'stage': name, 'rows': rows, 'seconds': took, 'peak_gb': peak()})
    print(
      f'{name:<28}{rows:>11,} rows {took:>8.1f} s {rows / took:>10,.0f} rows/s {peak():>6.2f} GB'
    )

  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    (folder / 'set').mkdir()
    began = time.perf_counter()
    write(folder / 'set', arguments.rows, arguments.files)
    size = sum(path.stat().st_size for path in (folder / 'set').iterdir())
    stage('write the set (no part of it)', arguments.rows, began)
    print(f'{size / 2**20:,.0f} MB of Parquet')

    files = sources.files(folder / 'set')
    began = time.perf_counter()
    num = sum(1 for file in files for _ in sources.read(file))
    stage('read', num, began)

    limits = rules.Limits()
    began = time.perf_counter()
    left = sum(rules.reject(row, limits) is None for file in files for row in sources.read(file))
    stage('read, rules', num, began)

    began = time.perf_counter()
    folders = []
    for index, file in enumerate(files):
      folders.append(folder / 'sift' / f'{index:05d}')
      sift.sift(sources.read(file), 'set', folders[-1], sift.Settings(limits))
    stage('read, rules, sign, write', num, began)

    began = time.perf_counter()
    repeats, exact = sift.distinct(folders, arguments.similarity)
    stage('duplicates', len(repeats), began)
    assert left == len(repeats)
    kept = int(np.sum(repeats < 0))
    print(f'{num:,} rows, {left:,} after rules, {kept:,} distinct ({exact.sum():,} exact)')
  if arguments.out:
    arguments.out.write_text(json.dumps({'rows': arguments.rows, 'stages': lines}, indent=2) + '\n')


if __name__ == '__main__':
  main()
