"""A page for blind human comparison of two answers: one self-contained HTML file.

The page shows and exports only item numbers; the systems' names are in a separate file, the key,
which stays with the organizers of the study.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from lwz.report import page


def write(
  path: epath.PathLike,
  key_path: epath.PathLike,
  pairs: Sequence[tuple[int, str, Mapping[str, str]]],
  *,
  num: int,
  seed: int,
  title: str,
) -> None:
  """Writes the page and its key, for `num` of the pairs (0: all of them).

  A pair is (index of the prompt, request, {name of a system: its answer}), with two systems. The
  selection is spread evenly over pairs of systems, each shown in both orders equally often, give or
  take one. Annotators whose name has an odd checksum see the sides of every item swapped
  (`people.html.jinja`).
  """
  rng = np.random.default_rng(seed)
  chosen = _spread(pairs, num or len(pairs), rng)
  seen: dict[tuple[str, ...], int] = {}
  items, key = [], {}
  for place, i in enumerate(chosen):
    idx, question, answers = pairs[i]
    names = tuple(answers)
    turn = seen.get(names, int(rng.integers(2)))
    seen[names] = turn + 1
    order = names if turn % 2 == 0 else names[::-1]
    items.append({'id': place, 'question': question, 'texts': [answers[n] for n in order]})
    key[place] = {'idx': idx, 'first': order[0], 'second': order[1]}
  data = page.script_json(items)
  mark = hashlib.sha256(data.encode()).hexdigest()[:12]
  html = page.TEMPLATES.get_template('people.html.jinja').render(title=title, mark=mark, items=data)
  epath.Path(path).write_bytes(html.encode())
  record = {'page': mark, 'items': key}
  epath.Path(key_path).write_bytes(json.dumps(record, indent=2).encode() + b'\n')


def _spread(pairs, num: int, rng: np.random.Generator) -> list[int]:
  """Indices of `num` pairs: round-robin over pairs of systems, prompts in random order."""
  groups: dict[tuple[str, ...], list[int]] = {}
  for i in rng.permutation(len(pairs)):
    groups.setdefault(tuple(pairs[i][2]), []).append(int(i))
  turns = [group[t] for t in range(len(pairs)) for group in groups.values() if t < len(group)]
  return turns[:num]
