"""One self-contained HTML page per run."""

import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import markupsafe
from etils import epath

from lwz.report import directions, number, summary

_HALVES = re.compile('[\ud800-\udfff]')  # of a pair of surrogates: no UTF-8 has them
_CONTROL = re.compile(r'[\x00-\x08\x0b\x0c\x0e-\x1f]')  # no part of HTML, yet a sample may hold it
TEMPLATES = jinja2.Environment(
  loader=jinja2.PackageLoader('lwz.report', '.'),
  autoescape=True,
  undefined=jinja2.StrictUndefined,
  trim_blocks=True,
  lstrip_blocks=True,
)
TEMPLATES.filters['show'] = number.show


def script_json(value: Any) -> markupsafe.Markup:
  """Returns a value as JSON for a script: no text in it ends the script or is markup."""
  text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(',', ':'))
  for character in '<>&\u2028\u2029':
    text = text.replace(character, f'\\u{ord(character):04x}')
  return markupsafe.Markup(_HALVES.sub('\N{REPLACEMENT CHARACTER}', text))


def write(
  path: str | os.PathLike,
  *,
  title: str,
  subtitle: str = '',
  facts: Mapping[str, Any] | None = None,
  table: Iterable[tuple[str, float, float, float]] = (),
  curves: Iterable[tuple[str, str]] = (),
  plots: Iterable[tuple[str, str]] = (),
  samples: Iterable[Mapping[str, Any]] = (),
  sampled_for: str = 'prompts',
  tables: Iterable[tuple[str, Sequence[str], Iterable[Sequence[Any]]]] = (),
  alarms: Iterable[tuple[str, Sequence[str], Iterable[Sequence[Any]]]] = (),
  notes: Iterable[str] = (),
  links: Iterable[tuple[str, str]] = (),
) -> None:
  """Writes the page to `path`, a local one or any that etils.epath knows; the folder is made.

  The page asks for nothing outside itself, runs no script, and escapes every text given to it. A
  section stands only where something was given for it:

  * `facts`: key facts by name, `{'steps': 300, 'time': '4h 10m'}`
  * `table`: rows of `summary.first_last`; `directions.of` says what is better
  * `curves`: pairs of a caption ('' for none) and the SVG of `curves.draw`, which has its own title
  * `plots`: the same of any other SVG, of `histogram.draw` or `intervals.draw`
  * `tables`: any other, as (caption, header, rows); `alarms` are such tables above the curves
  * `samples`: dicts with 'step' and any of 'prompt', 'think', 'answer', 'text', 'valid', 'fault',
    'words', 'lower', 'upper' and 'rewards' (component -> value in [0, 1]). Those of the first, the
    middle and the last step stand side by side, answers to one prompt in one row; other steps
    are left out. An invalid one is shown as the whole `text` that was written; `sampled_for` says
    what prompts they answer
  * `notes`: sentences a reader has to know
  * `links`: pairs of a text and the address of another page, as 'rollouts.html'

  Raises ValueError for a sample without 'step'.
  """
  steps, rows = _rows(list(samples))
  text = TEMPLATES.get_template('page.html.jinja').render(
    title=title,
    subtitle=subtitle,
    facts=dict(facts or {}),
    table=[_change(row) for row in table],
    window=summary.WINDOW,
    curves=[(caption, markupsafe.Markup(svg)) for caption, svg in curves],
    plots=[(caption, markupsafe.Markup(svg)) for caption, svg in plots],
    tables=_lists(tables),
    alarms=_lists(alarms),
    steps=steps,
    rows=rows,
    sampled_for=sampled_for,
    notes=list(notes),
    links=list(links),
  )
  file = epath.Path(path)
  file.parent.mkdir(parents=True, exist_ok=True)
  # Bytes, since a host's locale need not be UTF-8; a sampled text may hold half a character.
  text = _CONTROL.sub('\N{REPLACEMENT CHARACTER}', text)
  file.write_bytes(text.encode('utf-8', 'backslashreplace'))


def _lists(tables) -> list[tuple[str, list, list[list]]]:
  return [(caption, list(header), [list(r) for r in rows]) for caption, header, rows in tables]


def _change(row: tuple[str, float, float, float]) -> dict[str, Any]:
  name, first, last, _ = row
  verdict = ('worse', '', 'better')[1 + directions.verdict(name, first, last)]
  arrow = ('▼', '', '▲')[1 + directions.moved(first, last)]
  change = directions.change(first, last)
  return dict(name=name, first=first, last=last, arrow=arrow, change=change, verdict=verdict)


def _rows(samples: list[Mapping[str, Any]]) -> tuple[list[int], list[dict[str, Any]]]:
  """The first, the middle and the last step, and their samples in rows; a side may be missing."""
  for i, sample in enumerate(samples):
    if 'step' not in sample:
      raise ValueError(f"sample {i} has no 'step': the page compares the first with the last step")
  steps = _ends_and_middle(sorted({sample['step'] for sample in samples}))
  columns = [[s for s in samples if s['step'] == step] for step in steps]
  if len(steps) < 2:
    return steps, [_row([sample]) for column in columns for sample in column]
  rows: list[list[Mapping[str, Any] | None]] = []
  for new in list(columns[-1]):
    same = [_of(new.get('prompt'), column) for column in columns]
    if sum(sample is not None for sample in same) > 1:
      rows.append(same)
      for column, found in zip(columns, same, strict=True):
        if found is not None:
          column.remove(found)
  rows += map(list, itertools.zip_longest(*columns))
  return steps, [_row(row) for row in rows]


def _ends_and_middle(steps: list[int]) -> list[int]:
  """Returns the first step, the one nearest to the middle of a run, and the last."""
  inner = steps[1:-1]
  middle = [min(inner, key=lambda step: abs(2 * step - steps[0] - steps[-1]))] if inner else []
  return [*steps[:1], *middle, *steps[1:][-1:]]


def _of(prompt: str | None, column: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
  return next((sample for sample in column if sample.get('prompt') == prompt), None)


def _row(row: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
  """Returns cards; a prompt that all share stands once, above them."""
  prompts = {sample.get('prompt') for sample in row if sample is not None}
  return {
    'prompt': prompts.pop() if len(row) > 1 and len(prompts) == 1 else None,
    'cards': [None if sample is None else _card(sample) for sample in row],
  }


def _card(sample: Mapping[str, Any]) -> dict[str, Any]:
  valid = bool(sample.get('valid', True))
  parsed = valid and bool(sample.get('think') or sample.get('answer'))
  text = sample.get('text') or sample.get('answer') or ''
  rewards = (sample.get('rewards') or {}).items()
  return {
    'step': sample['step'],
    'prompt': sample.get('prompt'),
    'think': (sample.get('think') or '').strip() if parsed else '',
    'body': ((sample.get('answer') or '') if parsed else text).strip(),
    'raw': not valid,
    'fault': sample.get('fault') or ('' if valid else 'not valid'),
    'rewards': [(name, value, _percent(value)) for name, value in rewards],
    'length': _length(sample.get('words'), sample.get('lower'), sample.get('upper')),
  }


def _percent(share: float | None) -> float:
  """Returns a share of 1 as a width in percent, clipped to [0, 100]."""
  if share is None or math.isnan(share):
    return 0.0
  return round(100 * min(1.0, max(0.0, share)), 1)


def _length(words: int | None, lower: int | None, upper: int | None) -> dict[str, Any] | None:
  """Returns the number of words and the range asked for, as positions on a bar that holds both."""
  if words is None:
    return None
  if not upper:
    return {'words': words, 'asked': ''}
  lower = lower or 0
  end = 1.1 * max(words, upper)
  asked = number.show(upper) if lower == upper else f'{number.show(lower)}–{number.show(upper)}'
  return {
    'words': words,
    'asked': asked if lower else f'at most {number.show(upper)}',
    'inside': lower <= words <= upper,
    'left': _percent(lower / end),
    'width': max(1.5, _percent((upper - lower) / end)),
    'mark': _percent(words / end),
  }
