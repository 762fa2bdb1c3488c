"""Texts that are being written, in a folder: a second start goes on at the same token.

    settings.json     what determines the tokens: another start must have the same
    0001-1.json       prompt 1, draft 1: its tokens so far, and how it ended
    0001-1.md         its text
    0001.md           of several drafts, the best

Prompts and drafts are numbered from 1 there.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from lwz import jsonl
from lwz.store import atomic

SETTINGS = 'settings.json'
_EVERY = 5.0  # seconds between two saves of a growing text
_FIELDS = {'prompt': str, 'ids': list, 'ended': str}


@dataclasses.dataclass(frozen=True)
class Draft:
  """A text so far: the request that it answers, its token ids, the reason of its end, if any."""

  prompt: str
  ids: tuple[int, ...] = ()
  ended: str = ''


class Drafts:
  """The drafts of a folder, which is made, by prompt and number, both from 0.

  `clock` gives seconds.
  """

  def __init__(self, folder: epath.PathLike, clock: Callable[[], float] = time.monotonic):
    self._folder, self._clock = epath.Path(folder), clock
    self._saved: dict[tuple[int, int], float] = {}
    self._folder.mkdir(parents=True, exist_ok=True)

  def begin(self, settings: Mapping[str, Any]) -> None:
    """Begins or goes on. Raises ValueError if the folder holds texts of other settings."""
    path = self._folder / SETTINGS
    if path.exists():
      kept = jsonl.document(path, {}, remedy='delete the folder, or name another')
      for key in sorted({*kept, *settings}):
        if kept.get(key) != (now := settings.get(key)):
          raise ValueError(
            f'{path}: its texts were begun with {key}={kept.get(key)!r}, not {now!r}: name another '
            'generate.folder, or take the same settings'
          )
    else:
      atomic.write_text(path, json.dumps(dict(settings), indent=2, sort_keys=True) + '\n')

  def load(self, number: int, draft: int, prompt: str) -> Draft:
    """Returns a draft as it was saved, else an empty one.

    Raises ValueError if the file is broken, or is of another prompt.
    """
    path = self._path(number, draft, 'json')
    if not path.exists():
      return Draft(prompt)
    found = jsonl.document(path, _FIELDS, remedy='delete it to write this text anew')
    ids = found['ids']
    if not all(type(one) is int and 0 <= one < 2**31 for one in ids):
      raise ValueError(f'{path}: ids are not all token ids; delete it to write this text anew')
    if found['prompt'] != prompt:
      raise ValueError(f'{path}: it answers another prompt; name another generate.folder')
    return Draft(prompt, tuple(ids), found['ended'])

  def save(self, number: int, draft: int, found: Draft, spell: Callable[[], str]) -> str | None:
    """Keeps a draft: at once if it has ended, else if its last save is some seconds ago.

    Returns its text, which `spell` gives, if it was saved.
    """
    now = self._clock()
    last = self._saved.setdefault((number, draft), now)
    if not found.ended and now - last < _EVERY:
      return None
    self._saved[number, draft] = now
    record = dataclasses.asdict(found) | {'ids': np.asarray(found.ids, int).tolist()}
    atomic.write_text(self._path(number, draft, 'md'), (text := spell()) + '\n')
    atomic.write_text(self._path(number, draft, 'json'), json.dumps(record) + '\n')
    return text

  def save_best(self, number: int, text: str) -> None:
    """Keeps the best text of several."""
    atomic.write_text(self._folder / f'{number + 1:04d}.md', text + '\n')

  def _path(self, number: int, draft: int, ending: str) -> epath.Path:
    return self._folder / f'{number + 1:04d}-{draft + 1}.{ending}'
