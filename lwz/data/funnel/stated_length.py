"""The length that a request states: '2,000-word', 'at least 1,500 words', '不少于三千字'."""

import re
from typing import NamedTuple

_HAN_DIGITS = {han: digit for digit, han in enumerate('零一二三四五六七八九')} | {'两': 2, '〇': 0}
_HAN_UNITS = {'十': 10, '百': 100, '千': 1_000, '万': 10_000}

_N = r'\d{1,3}(?:,\d{3}){1,2}(?!\d)|\d{1,7}(?:\.\d{1,3})?'
_EN = re.compile(
  rf'(?<![\d.,$£€])(?P<low>{_N})(?P<lowk>\s?k|\s+thousand)?'
  rf'(?:\s*(?:-|–|—|~|to|and|or)\s*(?P<high>{_N})(?P<highk>\s?k|\s+thousand)?)?'
  r'\s*(?P<plus>\+?)[\s-]*words?\b',
  re.IGNORECASE,
)
_ZH_N = rf'(?:{_N})\s?[万千百]?|[零一二两三四五六七八九十百千万〇]{{1,10}}'
_ZH = re.compile(
  rf'(?P<low>{_ZH_N})\s*(?:个|(?:-|–|—|~|～|到|至)+\s*(?P<high>{_ZH_N}))?\s*(?:个)?(?:汉|多)?字'
  r'(?!节|符|母|体|段|典|幕)'
)
_AT_LEAST = re.compile(
  r'(?:at least|no less than|not less than|no fewer than|minimum(?: of| length of)?|min\.?|'
  r'(?<!no )(?<!not )more than|over)\W*(?:of\s+)?$'
  r'|(?:不少于|不低于|不得少于|不能少于|至少|最少|超过(?<!不超过)(?<!不得超过)|大于)\W*$',
  re.IGNORECASE,
)
_AT_MOST = re.compile(
  r'(?:at most|no more than|not more than|no longer than|maximum(?: of| length of)?|up to|under|'
  r'(?<!no )(?<!not )less than|(?<!no )fewer than|within|below|max\.?|not exceed(?:ing)?)\W*'
  r'(?:of\s+)?$'
  r'|(?:不超过|不多于|不得超过|至多|最多|(?<![不得能])少于|(?<!不)低于|控制在)\W*$',
  re.IGNORECASE,
)
_AFTER_LEAST = re.compile(r'^\s*(?:\+|or more|minimum|at least|以上|起)', re.IGNORECASE)
_AFTER_MOST = re.compile(
  r'^\s*(?:or less|or fewer|max(?:imum)?\b|以内|以下|之内|内)', re.IGNORECASE
)
# The length of a part of the text, and the length of a given text.
_PART = re.compile(r'\b(?:each|every|per)\b|[每各]', re.IGNORECASE)
_GIVEN = re.compile(
  r'\b(?:following|attached|given|original|above|this|these|my)\W*$|(?:以下|上面|这篇|原文)\W*$',
  re.IGNORECASE,
)
_AROUND = 60  # characters examined on either side


class Stated(NamedTuple):
  """A stated length: `kind` is 'about', 'at least', 'at most' or 'range'; bounds in words."""

  kind: str
  low: int
  high: int


def find(text: str) -> Stated | None:
  """The length that a request states for its answer; None if there is none, or several.

  find('Write a 2,000-word essay.') == Stated('about', 2000, 2000)
  find('写一篇不少于3000字的小说') == Stated('at least', 3000, 3000)

  Words of English, characters of Chinese. The length of a part ('each chapter 500 words') or of a
  given text ('this 800-word article') does not count.
  """
  found = set()
  for pattern, number, unit in ((_EN, _english, 'word'), (_ZH, _chinese, '字')):
    for match in pattern.finditer(text) if unit in text.lower() else ():
      before = text[max(0, match.start() - _AROUND) : match.start()]
      after = text[match.end() : match.end() + _AROUND]
      near = before[max(before.rfind('.'), before.rfind('\n'), before.rfind('。')) + 1 :]
      if _PART.search(near) or re.match(r'\s*(?:each|apiece|per|every|每)', after):
        return None
      if _GIVEN.search(near):
        continue
      low, high = number(match)
      if 0 < low <= high < 10**7:
        more = match.groupdict().get('plus', '')
        found.add(Stated(_kind(low, high, before, more + after), low, high))
  return found.pop() if len(found) == 1 else None


def _kind(low: int, high: int, before: str, after: str) -> str:
  if low < high:
    return 'range'
  if _AT_MOST.search(before) or _AFTER_MOST.match(after):
    return 'at most'
  if _AT_LEAST.search(before) or _AFTER_LEAST.match(after):
    return 'at least'
  return 'about'


def _english(match: re.Match) -> tuple[int, int]:
  last = match['highk'] or match['lowk']
  low = _plain(match['low']) * (1_000 if match['lowk'] or (match['high'] and last) else 1)
  high = _plain(match['high']) * (1_000 if last else 1) if match['high'] else low
  return int(low), int(high)


def _plain(number: str) -> float:
  return float(number.replace(',', ''))


def _chinese(match: re.Match) -> tuple[int, int]:
  first, second = match['low'].replace(' ', ''), (match['high'] or '').replace(' ', '')
  if not second:
    # A single numeral is part of a word, as in 十字路口 and 千字文.
    return (int(_han(first)),) * 2 if len(first) > 1 or first.isdigit() else (0, 0)
  if second[-1] in _HAN_UNITS and first[-1] not in _HAN_UNITS and _han(first) < 100:
    first += second[-1]  # 2-3千字
  return int(_han(first)), int(_han(second))


def _han(number: str) -> float:
  """The value of a Chinese number: '1.5万' -> 15000, '三千五百' -> 3500, '二〇〇〇' -> 2000."""
  if digits := re.fullmatch(r'([\d.,]+)([万千百]?)', number):
    return _plain(digits[1]) * _HAN_UNITS.get(digits[2], 1)
  if not any(unit in number for unit in _HAN_UNITS):
    return float(''.join(str(_HAN_DIGITS[han]) for han in number))
  total, part, digit = 0, 0, 0
  for han in number:
    if han in _HAN_DIGITS:
      digit = _HAN_DIGITS[han]
    elif han == '万':
      total, part, digit = (total + part + digit or 1) * 10_000, 0, 0
    else:
      part, digit = part + (digit or 1) * _HAN_UNITS[han], 0
  return total + part + digit
