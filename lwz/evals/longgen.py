"""Tasks in the form of LongGenBench (arXiv 2409.02076), checked by rules, without a judge.

A diary with an entry per week, or a tower with a plan for each floor, of any length. Instructions
name a thing that single units, a range of units, or every n-th unit must tell of, in given
words; so a rule sees whether they do. Completion is the share of units that are there, accuracy
that of the instructions that hold where they should.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lwz import text as texts
from lwz.evals import numerals, records

_MARKS = r'[:：.。、*_#)\]】）|(（–—-]'  # between the number of a unit and its text
_BEHIND_EN = rf'(?=[ \t]*(?:$|{_MARKS}|(?-i:[A-Z]).{{0,60}}$))'
_BEHIND_ZH = (
  rf'(?=[ \t]*(?:$|{_MARKS})|[^，。！？\n]{{0,8}}[:：]|[ \t\u3000]+[^，。！？\n]{{1,20}}$)'
)

KINDS = ('single', 'range', 'periodic')
WORDS = 150  # asked of a unit; fewer of a task with fewer than FEWEST units of them
FEWEST, MOST = 8, 400  # units of a task
BRIEF = 10  # words asked of a unit for which the request is brief too: it fits pocket models
SHORT = 0.25  # of its asked words: a shorter unit is not there

_EN = {
  'diary': (
    'week',
    'the diary of a year at a {place}',
    'entry',
    'lighthouse|hospital|bakery|school',
  ),
  'tower': (
    'floor',
    'the plan of a tower for a {place}',
    'plan',
    'university|library|company|city',
  ),
}
_ZH = {
  'diary': ('周', '一本在{place}工作的人写的日记', '记录', '灯塔|医院|面包店|学校'),
  'tower': ('层', '一座{place}大楼的设计方案', '设计', '大学|图书馆|公司|剧院'),
}
_THINGS = {
  'en diary': 'piano lesson|wedding|power cut|dentist|marathon|birthday|burglary|telegram|eclipse',
  'en tower': 'roof garden|bank vault|aquarium|chapel|cinema|clinic|kitchen|archive|workshop',
  'zh diary': '钢琴课|婚礼|停电|牙医|马拉松|生日|盗窃案|电报|日食',
  'zh tower': '屋顶花园|金库|水族馆|礼堂|电影院|诊所|厨房|档案室|木工坊',
}
_TEXTS = {
  'en': (
    'Write {what}: {units} units, one for each {unit}, of about {words} words each, {length} '
    'words in all. Begin each {part} on a new line with "{Unit}" and its number, as "{Unit} 1:", '
    'and leave none out.\n\nSome must tell of certain things, in just these words, and the others '
    'must not:\n'
    '{rules}',
    {
      'single': '- The {part} of {unit} {first} tells of: {thing}.',
      'range': '- Each {part} from {unit} {first} to {unit} {last} tells of: {thing}.',
      'periodic': '- Every {step} {unit}s, from {unit} {first} on, the {part} tells of: {thing}.',
    },
  ),
  'zh': (
    '请写{what}：共{units}个部分，每{unit}一个，每个约{words}字，全文约{length}字。每个部分另起一行，'
    '以“第1{unit}：”这样的编号开头，一个也不能少。\n\n'
    '其中一些部分必须用下面的原词写到指定的内容，其余部分不得写到：\n{rules}',
    {
      'single': '- 第{first}{unit}的{part}要写到：{thing}。',
      'range': '- 从第{first}{unit}到第{last}{unit}，每{unit}的{part}都要写到：{thing}。',
      'periodic': '- 从第{first}{unit}起，每{step}{unit}一次，{part}要写到：{thing}。',
    },
  ),
}


_BRIEF = {
  'en': (
    'Write a {kind}, "{Unit} 1:" to "{Unit} {units}:", {length} words. Tell just in {unit}\n'
    '{rules}',
    {
      'single': '{first}: {thing}.',
      'range': '{first} to {last}: {thing}.',
      'periodic': '{first}, then each {step}: {thing}.',
    },
  ),
  'zh': (
    '写{length}字的{part}，“第1{unit}：”至“第{units}{unit}：”，只在\n{rules}',
    {
      'single': '{first}：{thing}',
      'range': '{first}至{last}：{thing}',
      'periodic': '{first}起每{step}：{thing}',
    },
  ),
}


class Rule(NamedTuple):
  """An instruction: its kind, the thing in the words that are asked for, the units it is about."""

  kind: str
  thing: str
  units: tuple[int, ...]


class Task(NamedTuple):
  """A request for `units` units, called `unit`, of about `words` words each."""

  idx: int
  prompt: str
  kind: str  # 'diary' or 'tower'
  length: int
  unit: str
  units: int
  words: int
  rules: tuple[Rule, ...]


class Checked(NamedTuple):
  """A task's answer by the rules: for each unit, whether it is there, and its share of rules kept.

  `kept_U` is NaN where no rule asks for anything. Of (rule, unit) pairs: `kept`, whether it holds,
  `there`, whether that unit is. `stray` is the share of the units there that hold a thing they must
  not, and `ordered` that of neighbours in the text whose numbers ascend.
  """

  there_U: np.ndarray
  kept_U: np.ndarray
  pairs: tuple[tuple[str, bool, bool], ...]  # kind, kept, there
  stray: float
  ordered: float


def make(length: int, kind: str, language: str, seed: int, index: int = 0) -> dict[str, Any]:
  """Returns the record of a task of about `length` words; `language` is 'en' or 'zh'."""
  rng = np.random.default_rng((seed, index))
  units = int(np.clip(length // WORDS, FEWEST, MOST))
  words = max(1, round(length / units))
  unit, what, part, places = (_EN if language == 'en' else _ZH)[kind]
  place = str(rng.choice(places.split('|')))
  things = list(rng.permutation(_THINGS[f'{language} {kind}'].split('|')))
  request, forms = (_BRIEF if words <= BRIEF else _TEXTS)[language]
  rules, said = [], []
  for name in (*KINDS, 'single'):
    thing = str(things.pop())
    first = int(rng.integers(1, units + 1))
    span = int(rng.integers(2, max(3, units // 6) + 1))
    step = int(rng.integers(2, max(3, units // 4) + 1))
    if name == 'range':
      first = int(rng.integers(1, units - span + 2))
      of = range(first, first + span)
    elif name == 'periodic':
      first = int(rng.integers(1, step + 1))
      of = range(first, units + 1, step)
    else:
      of = range(first, first + 1)
    fill = dict(part=part, unit=unit, first=first, last=of[-1], step=step, thing=thing)
    said.append(forms[name].format(**fill))
    rules.append({'kind': name, 'thing': thing, 'units': list(of)})
  fill = dict(what=what.format(place=place), units=units, unit=unit, Unit=unit.title(), part=part)
  fill |= dict(kind=kind, words=words, length=length, rules='\n'.join(said))
  prompt = request.format(**fill)
  return {
    **{'index': index, 'prompt': prompt, 'type': kind, 'length': length, 'unit': unit},
    **{'units': units, 'words': words, 'rules': rules},
  }


def parse(record: Mapping[str, Any]) -> Task:
  """Returns the task of a record; raises ValueError if it is none."""
  numbers = {
    name: records.number(record.get(name)) for name in ('index', 'length', 'units', 'words')
  }
  missing = [name for name, value in numbers.items() if value is None]
  rules = record.get('rules')
  if missing or not isinstance(rules, list) or not 0 < (numbers['units'] or 0) <= MOST:
    raise ValueError(
      f'a task needs whole numbers index, length, units (1 to {MOST}), words, and a list of rules'
    )
  prompt, unit = records.text(record, 'prompt'), records.text(record, 'unit')
  if not prompt or not unit:
    raise ValueError('a task needs a prompt, and the unit whose numbers begin its parts')
  found = []
  for rule in rules:
    of = rule.get('units') if isinstance(rule, dict) else None
    thing = records.text(rule, 'thing') if isinstance(rule, dict) else ''
    if not thing or not isinstance(of, list) or not all(type(u) is int for u in of):
      raise ValueError(f'a rule needs a thing and a list of units, not {rule!r:.80}')
    inside = tuple(u for u in of if 0 < u <= numbers['units'])
    found.append(Rule(records.text(rule, 'kind') or 'single', thing, inside))
  of_kind = records.text(record, 'type') or 'unknown'
  index, length, units, words = (numbers[n] or 0 for n in ('index', 'length', 'units', 'words'))
  return Task(index, prompt, of_kind, length, unit, units, words, tuple(found))


def parts(unit: str, answer: str) -> list[tuple[int, str]]:
  """Returns (number, text) of the units of an answer, in its order: lines `Week 3:` or `第三周`.

  Behind the number is a mark, the end of the line, or a short title in capitals (in Chinese, behind
  a space): a line of prose as 'Week 3 had been hard' begins no unit.
  """
  opens = r'^[ \t]*(?:#{1,6}[ \t]*)?[-*_>【\[(（ \t]{0,6}'
  if unit.isascii():
    form = rf'{opens}{re.escape(unit)}[ \t]*(?:no\.?|#)?[ \t]*(\d{{1,4}})\b{_BEHIND_EN}'
  else:
    form = rf'{opens}第[ \t]*({numerals.CHINESE})[ \t]*{re.escape(unit)}{_BEHIND_ZH}'
  found = list(re.finditer(form, answer, re.I | re.M))
  ends = [match.start() for match in found] + [len(answer)]
  spans = zip(found, ends[1:], strict=True)
  return [(numerals.value(m[1]) or 0, answer[m.end() : end]) for m, end in spans]


def check(task: Task, answer: str) -> Checked:
  """Returns which units are there and which rules hold; of a unit twice, the longest one counts."""
  written = parts(task.unit, answer)
  words = [len(texts.words(text)) for _, text in written]
  longest: dict[int, int] = {}  # unit -> its place in `written`, past a table of contents
  for place, (number, _) in enumerate(written):
    if words[place] > words[longest.setdefault(number, place)]:
      longest[number] = place
  body = {number: written[place][1] for number, place in longest.items()}
  least = max(1.0, SHORT * task.words)
  there_U = np.array(
    [u in longest and words[longest[u]] >= least for u in range(1, task.units + 1)]
  )
  asked: dict[int, list[bool]] = {}
  pairs = []
  for rule in task.rules:
    for unit in rule.units:
      kept = bool(there_U[unit - 1]) and _holds(rule.thing, body[unit])
      asked.setdefault(unit, []).append(kept)
      pairs.append((rule.kind, kept, bool(there_U[unit - 1])))
  kept_U = np.array([np.mean(asked[u]) if u in asked else np.nan for u in range(1, task.units + 1)])
  strays = [
    any(u not in rule.units and _holds(rule.thing, body[u]) for rule in task.rules)
    for u in range(1, task.units + 1)
    if there_U[u - 1]
  ]
  numbers = sorted(longest, key=longest.__getitem__)
  steps = [a < b for a, b in itertools.pairwise(numbers)]
  means = [float(np.mean(of)) if of else np.nan for of in (strays, steps)]
  return Checked(there_U, kept_U, tuple(pairs), *means)


def _holds(thing: str, text: str) -> bool:
  form = rf'\b{re.escape(thing)}(?:s|es)?\b' if thing.isascii() else re.escape(thing)
  return re.search(form, text, re.I) is not None


def metrics(checked: Sequence[Checked]) -> dict[str, float]:
  """Returns the means over units and over (rule, unit) pairs; NaN without any.

  `completion`: units that are there; `accuracy`: rules that hold, of all that were asked;
  `accuracy/written`: of those whose unit is there; one of each kind of rule; `stray`, `ordered`.
  """
  pairs = [pair for of in checked for pair in of.pairs]
  out = {
    'completion': _mean([there for of in checked for there in of.there_U]),
    'accuracy': _mean([kept for _, kept, _ in pairs]),
    'accuracy/written': _mean([kept for _, kept, there in pairs if there]),
  }
  for kind in KINDS:
    out[f'accuracy/{kind}'] = _mean([kept for of, kept, _ in pairs if of == kind])
  for name in ('stray', 'ordered'):
    found = [getattr(of, name) for of in checked]
    out[name] = _mean([value for value in found if np.isfinite(value)])
  return out


def _mean(values: Sequence[float]) -> float:
  return float(np.mean(values)) if len(values) else float('nan')
