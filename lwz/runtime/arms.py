"""Arms of a sweep: their names and command lines, and how far they are."""

import hashlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lwz.report import arms as table
from lwz.runtime import jobs, keys, setup
from lwz.store import run, status

_LONGEST = 150  # characters of a run's name, but for its seed
_SHOWN = 3  # metrics beside an arm


def text(value: Any) -> str:
  """Returns a value as a command line has it."""
  return (
    value if isinstance(value, str) else repr(tuple(value) if isinstance(value, list) else value)
  )


def claim(docstring: str | None) -> str:
  """Returns what the first line of a sweep's docstring claims, without where the paper says it."""
  first = (docstring or '').strip().splitlines()[:1]
  return re.sub(r'\s*\((the )?paper\b.*', '', first[0]).rstrip('.') if first else ''


def arguments(c, own) -> list[str]:
  """Returns the `--config.key=value` that make the config `c` of the experiment's `own`.

  Raises ValueError where `c` lacks a key, such as the weight of a reward: no argument removes one.
  """
  if lost := sorted(run.flatten(own.to_dict()).keys() - run.flatten(c.to_dict()).keys()):
    raise ValueError(
      f'{lost[0]}: {c.experiment} has it, and an arm cannot leave it out; set it to 0'
    )
  return [f'--config.{key}={text(keys.get(c, key))}' for key in _changed(c, own)]


def name(c, own, reads: Sequence[str], varied: Collection[str]) -> str:
  """Returns the name of an arm's run; '' for the run of the experiment as it is.

  It holds the keys of the run's identity, and those that are `varied`, whose values are not the
  experiment's `own`. It does not depend on the other arms: the same run has the same name in every
  sweep, and is never run twice.
  """
  always = {*varied, 'train.num_steps'}
  parts = [
    f'-{key}={_readable(text(keys.get(c, key)))}'
    for key in sorted(_changed(c, own))
    if key not in ('seed', 'runs_dir', 'name')
    and (key in always or keys.is_identity(key, c.stage, reads))
  ]
  if not parts:
    return ''
  found = f'{c.experiment}-{setup.size_name(c, c.size)}{"".join(parts)}'
  if len(found) > _LONGEST:
    found = f'{found[: _LONGEST - 7]}-{_digest(found)}'
  return found + (f'-s{c.seed}' if c.seed else '')


def _changed(c, own) -> list[str]:
  before, now = (run.flatten(config.to_dict()) for config in (own, c))
  return [key for key, value in now.items() if before.get(key) != value]


def _readable(value: str) -> str:
  """Returns a value as a part of a folder's name."""
  short = re.sub(r'[^\w.+-]+', '-', value)[-40:].strip('-')
  return short if re.fullmatch(r'[\w.+:-]{1,40}', value) else f'{short}-{_digest(value)}'


def _digest(value: str) -> str:
  return hashlib.sha256(value.encode()).hexdigest()[:6]


class Rows:
  """Rows of the table of a sweep; a run's folder is read while it runs, and once afterwards."""

  def __init__(self, numbers: Mapping[str, str], metrics: Sequence[str]):
    """`numbers` are those of the arms, by their name; the first `metrics` that there are, shown."""
    self._numbers, self._metrics = numbers, metrics
    self._read: dict[str, tuple[str, status.Status]] = {}

  def __call__(self, current: Sequence[jobs.Job]) -> list[table.Arm]:
    return [self._row(job) for job in current]

  def _row(self, job: jobs.Job) -> table.Arm:
    state, found = self._read.get(job.name, ('', None))
    if found is None or state != job.state or state in ('running', 'elsewhere'):
      found = status.read(job.folder)
      self._read[job.name] = job.state, found
    held = [name for name in self._metrics if found.last.get(name) is not None][:_SHOWN]
    return table.Arm(
      self._numbers.get(job.name, ''),
      job.name,
      job.state,
      found.progress,
      found.left if job.state in ('running', 'elsewhere') else math.nan,
      {name: found.last[name] for name in held},
      job.said if job.state != 'stopped' else '',
    )
