"""The folder of a run: its config, its lock, and whether it is done."""

import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from lwz import jsonl
from lwz.store import atomic, inputs, lock, versions


@dataclasses.dataclass(frozen=True)
class Identity:
  """The keys that decide whether two configs are of one run; others may change on a resume.

  A key that an older folder does not hold counts as its value in `defaults`, a flat config, and as
  absent if it is not there either, as another run's reward is; without defaults it is not compared.
  `files` finds {key: {name: path}}, the files that the run reads: they are compared by content, see
  `store.inputs`. A run that `renews` is not refused for other files: it reads again what has
  changed, and is not complete until then.
  """

  includes: Callable[[str], bool]  # dotted key -> whether another value makes another run
  # flat config that a folder holds -> the same under the names of today
  upgrade: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda flat: flat
  defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)
  files: Callable[[], Mapping[str, Mapping[str, epath.Path]]] = dict
  renews: bool = False

  def differences(
    self, old: Mapping[str, Any], new: Mapping[str, Any]
  ) -> dict[str, tuple[str | None, str | None]]:
    """Returns {key: (value in the folder, value now)} of identity keys whose values differ."""
    before, now = self.upgrade(flatten(old)), flatten(new)
    absent = {key: None for key in now} if self.defaults else now
    known = {**{key: self.defaults.get(key, absent[key]) for key in now}, **before}
    return {
      key: (before.get(key), now.get(key))
      for key in sorted(known)
      if self.includes(key) and known[key] != now.get(key)
    }

  def digest(self, config: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of the identity as canonical JSON: flat and sorted."""
    identity = {key: text for key, text in flatten(config).items() if self.includes(key)}
    text = json.dumps(identity, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


CONFIG_FIELDS = {
  **{'config': dict, 'hash': str, 'versions': dict, 'command': list, 'created': str},
  'history': list,
}
# Results by which a resumed run goes on.
RESULTS = ('checkpoints', 'metrics.jsonl', 'answers.jsonl', 'verdicts.jsonl', 'sift', 'rollouts')
DONE_FIELDS = {'summary': dict, 'time': str, 'config': dict}


@dataclasses.dataclass(frozen=True)
class Run:
  """An open run. Only the process that holds the lock writes; the others have `held=None`.

  The modules that write into a run (`metrics`, `samples`, `checkpoint`) all take its `folder`.
  """

  folder: epath.Path
  held: lock.Lock | None = None

  @property
  def report(self) -> epath.Path:
    return self.folder / 'report.html'

  def check(self) -> None:
    """Raises RuntimeError if another process has taken the run over: call it before a write."""
    if self.held:
      self.held.check()

  def is_done(self) -> bool:
    return (self.folder / 'DONE').exists()

  def mark_done(self, summary: dict[str, Any]) -> None:
    """Writes DONE: the summary, the time, and the config it was reached with.

    Raises RuntimeError if another process has taken the run over.
    """
    self.check()
    record = {'summary': summary, 'time': _now(), 'config': self.config}
    atomic.write_text(self.folder / 'DONE', json.dumps(record, indent=2) + '\n')

  @property
  def config(self) -> dict[str, Any]:
    """The config of the run, finished or not."""
    return _load(self.folder / 'config.json')['config']

  def settings(self, group: str, *names: str) -> tuple[str, ...]:
    """Texts of the run's config: `settings('data', 'style')`. Raises ValueError if one is none."""
    found = self.config.get(group)
    if not isinstance(found, dict) or any(not isinstance(found.get(name), str) for name in names):
      wanted = ', '.join(f'{group}.{name}' for name in names)
      raise ValueError(f'{self.folder / "config.json"}: no {wanted}; is this a run of lwz?')
    return tuple(found[name] for name in names)

  def read_done(self) -> dict[str, Any]:
    """Returns `{'summary', 'time', 'config'}`; raises FileNotFoundError if the run is not done."""
    if not self.is_done():
      raise FileNotFoundError(f'{self.folder}: no DONE here; the run is not complete')
    return _load(self.folder / 'DONE')

  def close(self) -> None:
    """Releases the lock, as the end of the process does; that of a killed one is taken over."""
    if self.held:
      self.held.release()


def open_run(
  folder: epath.PathLike, config: dict[str, Any], *, identity: Identity, command: list[str]
) -> Run:
  """Creates a run's folder, or opens it again, as the only writer: for one process of a run.

  The folder may be `gs://...`; the whole config is nested dicts of what JSON can hold. config.json
  holds it, the identity's hash, digests of the `inputs`, versions, command, the time of creation
  and, after a resume with other keys or versions, `history`: what was changed, and when.

  Raises ValueError where the folder holds a run of another identity, naming each key that differs,
  RuntimeError where another living process writes it, and OSError where nobody may write.
  """
  folder = epath.Path(folder)
  flat = flatten(config)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    held = lock.acquire(folder / 'LOCK')
  except OSError as error:
    raise OSError(
      f'{folder}: cannot be written to: {error.strerror or error}; free it or make it writable, or '
      'name another folder by --config.runs_dir'
    ) from error
  try:
    path = folder / 'config.json'
    old = check_identity(folder, config, identity)
    known = inputs.read(folder)
    stamps = inputs.measure(identity.files(), known)
    if old and inputs.differences(old.get('inputs', {}), known, stamps):
      (folder / 'DONE').unlink(missing_ok=True)
    inputs.write(folder, stamps)
    new = {
      'config': json.loads(json.dumps(config)),
      'hash': identity.digest(config),
      'inputs': (old or {}).get('inputs', {}) | inputs.digests(stamps),
      'versions': versions.now(),
      'command': list(command),
      'created': old['created'] if old else _now(),
      'history': list(old['history']) if old else [],
    }
    changed = _differences(identity.upgrade(flatten(old['config'])), flat) if old else {}
    if old and (changed or old['versions'] != new['versions']):
      kept = {key: old[key] for key in ('versions', 'command')}
      new['history'].append({'time': _now(), 'changed': changed, 'before': kept})
    atomic.write_text(path, json.dumps(new, indent=2) + '\n')
  except BaseException:
    held.release()
    raise
  return Run(folder, held)


def is_complete(
  folder: epath.PathLike, config: dict[str, Any], identity: Identity, *, goal: str
) -> bool:
  """Whether the run is done, with this identity: then there is nothing left to run.

  `goal` is the key that says how far a run goes, 'train.num_steps': a run that was done with
  another value of it is not complete, it is to be resumed.
  """
  path = epath.Path(folder) / 'DONE'
  if not path.exists():
    return False
  done = _load(path)['config']
  reached, wanted = (identity.upgrade(flatten(c)).get(goal) for c in (done, config))
  config_path = path.parent / 'config.json'
  old = _load(config_path) if config_path.exists() else {}
  if reached != wanted or _identity_differences(
    path.parent, old | {'config': done}, config, identity
  ):
    return False
  return not _changed_inputs(path.parent, old, identity)


def check_identity(
  folder: epath.PathLike, config: dict[str, Any], identity: Identity
) -> dict[str, Any] | None:
  """Returns what config.json holds, None for a folder without a run.

  Raises the ValueError of `open_run` where the folder holds a run of another identity, or one that
  nobody knows.
  """
  folder = epath.Path(folder)
  path = folder / 'config.json'
  if not path.exists():
    if found := [name for name in RESULTS if (folder / name).exists()]:
      raise ValueError(
        f'{folder}: holds {", ".join(found)}, and no config.json that says of which run; put it '
        'back, or give this run another `name`'
      )
    return None
  old = _load(path)
  lines = [
    f'  {key}: {before or "absent"} in the folder, {now or "absent"} now'
    for key, (before, now) in _identity_differences(folder, old, config, identity).items()
  ]
  remedy = f'give this run another `name`, or delete {os.fspath(folder)}'
  changed = {} if lines or identity.renews else _changed_inputs(folder, old, identity)
  if changed:
    values = flatten(config)
    lines = [f'  {key}={values[key]}: {text}' for key, text in changed.items()]
    remedy = f'put the files back as they were, {remedy}'
  if lines:
    raise ValueError('\n'.join([f'{path} is of another run:', *lines, remedy]))
  return old


def _identity_differences(
  folder: epath.Path, old: Mapping[str, Any], config: Mapping[str, Any], identity: Identity
) -> dict[str, tuple[str | None, str | None]]:
  """Returns `Identity.differences`, without inputs that stand elsewhere now: their content counts.

  So the runs of a checkout go on in another one.
  """
  found, before = identity.differences(old['config'], config), old.get('inputs') or {}
  if not found or found.keys() - before.keys():
    return found
  files = {key: paths for key, paths in identity.files().items() if key in found}
  now = inputs.digests(inputs.measure(files, {}))
  return {key: both for key, both in found.items() if now.get(key) != before[key]}


def _changed_inputs(
  folder: epath.Path, old: Mapping[str, Any], identity: Identity
) -> dict[str, str]:
  """Returns {key: which files}; an older folder holds no digests, and nothing is compared."""
  if not (before := old.get('inputs')):
    return {}
  known = inputs.read(folder)
  return inputs.differences(before, known, inputs.measure(identity.files(), known))


def flatten(config: Mapping[str, Any]) -> dict[str, str]:
  """Returns dotted keys with JSON text: `{'a': {'b': (1, 2)}} -> {'a.b': '[1, 2]'}`.

  An empty dict is a value. Raises ValueError, naming the key, for a value that JSON can't hold.
  """
  flat = {}
  for key, value in config.items():
    if isinstance(value, dict) and value:
      flat.update({f'{key}.{name}': text for name, text in flatten(value).items()})
      continue
    try:
      flat[str(key)] = json.dumps(value)
    except TypeError as error:
      raise ValueError(f'config key {key!r}: {error}; give a number, text or list') from error
  return flat


def _differences(
  old: Mapping[str, str], new: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
  keys = sorted(old.keys() | new.keys())
  return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _load(path: epath.Path) -> dict[str, Any]:
  fields = DONE_FIELDS if path.name == 'DONE' else CONFIG_FIELDS
  remedy = 'delete it, or the folder, to start anew'
  found = jsonl.document(path, fields, remedy=remedy)
  if wrong := jsonl.faults(found, {'inputs': dict}):  # which older folders do not hold
    raise ValueError(f'{path}: {wrong[0]}; {remedy}')
  return found


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
