"""The length that a request states: '2,000-word', 'at least 1,500 words', '不少于三千字'."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from lwz import text as words

_HAN_DIGITS = {han: digit for digit, han in enumerate('零一二三四五六七八九')} | {'两': 2, '〇': 0}
_HAN_DIGITS |= {str(digit): digit for digit in range(10)}
_HAN_UNITS = {'十': 10, '百': 100, '千': 1_000, '万': 10_000, 'k': 1_000, 'w': 10_000}

_MULTIPLES = {'hundred': 100, 'thousand': 1_000}

_DIGITS = (
  r'\d{1,3}(?:[,，]\d{3}){1,2}(?!\d)|\d{1,3}[. \u00a0\u202f]\d{3}(?!\d)|\d{1,7}(?:\.\d{1,3})?'
)
_SPELT = '|'.join(sorted([*words.NUMERALS, *_MULTIPLES], key=len, reverse=True))
_N = (
  rf'{_DIGITS}|\b(?:a[\s-]+(?=hundred|thousand))?(?:{_SPELT})'
  rf'(?:[\s-]+(?:and[\s-]+)?(?:{_SPELT})){{0,6}}\b'
)
_EN = re.compile(
  r'(?<![\d.,$£€])(?<!worth )(?<!worth a )(?<!few )(?<!couple )(?<!couple of )'
  rf'(?<!several )(?<!many )(?<!half )(?<!half a )(?P<low>{_N})(?P<lowk>\s?k|\s+thousand)?'
  r'(?:[\s-]*words?\b)?'
  rf'(?:\s*(?:-\s*(?:to|or)\b|-|–|—|~|/|to|and|or)\s*(?P<high>{_N})(?P<highk>\s?k|\s+thousand)?)?'
  r'\s*(?P<plus>\+?)[\s-]*(?:or more\s+|English\s+|Chinese\s+)?(?:words?|(?<=Chinese )characters)\b'
  r'|\b(?:words?[\s-]*(?:count|limit|target|length)|number of words|length in words)\b'
  rf'[^\d\n.;]{{0,30}}?(?P<low_>{_DIGITS})(?P<lowk_>\s?k)?'
  rf'(?:\s*(?:-|–|—|~|/|to|and|or)\s*(?P<high_>{_DIGITS})(?P<highk_>\s?k)?)?(?P<plus_>\+?)(?![\d%])',
  re.IGNORECASE,
)
_ZH_N = (
  rf'(?:\d[万千百]){{2,3}}|(?:{_DIGITS})\s?[万千百kKwW]?|[零一二两三四五六七八九十百千万〇]{{1,10}}'
)
_ZH = re.compile(
  rf'(?<!几)(?<!(?<!字)数)(?P<low>{_ZH_N})\s*(?:个?字?(?:-|–|—|~|～|/|到|至)+\s*(?P<high>{_ZH_N}))?'
  r'\s*[多余来]?(?:个|英文|英语|中文)*'
  r'(?:(?:汉|多)?字(?!节|符|母|体|段|典|幕|(?<=[千百]字)[文令])'
  r'|单?词(?!语|汇|组|条|典|性|牌))'
  rf'|(?:字数|词数|篇幅)[^\d\n。，,；;]{{0,12}}?(?P<low_>{_ZH_N})'
  rf'(?:\s*(?:-|–|—|~|～|/|到|至)+\s*(?P<high_>{_ZH_N}))?'
  r'\s*(?:个?字|词)?(?![\d页天分行])'
)
_AT_LEAST = re.compile(
  r'(?:at least|no less than|not less than|no fewer than|minimum(?: of| length of)?|min\.?|'
  r'(?<!no )(?<!not )more than|over|upwards of)\W*(?:of\s+)?$'
  r'|(?:不少于|不低于|不得少于|不能少于|至少|最少|超过(?<!不超过)(?<!不得超过)|大于)\W*$',
  re.IGNORECASE,
)
_AT_MOST = re.compile(
  r'(?:at most|no more than|not more than|no longer than|maximum(?: of| length of)?|up to|under|'
  r'(?<!no )(?<!not )less than|(?<!no )fewer than|within|below|max\.?|limit(?: of| is)?|'
  r'(?:not|n[\'’]t|never) exceed(?:ing)?)\W*'
  r'(?:of\s+)?$'
  r'|(?:不超过|不多于|不得超过|至多|最多|(?<![不得能])少于|(?<!不)低于|控制在)\W*$',
  re.IGNORECASE,
)
_AFTER_LEAST = re.compile(r'^\s*(?:\+|or more|minimum|at least|以上|起)', re.IGNORECASE)
_AFTER_MOST = re.compile(
  r'^\s*(?:or less|or fewer|max(?:imum)?\b|以内|以下|之内|内)', re.IGNORECASE
)
# The length of a part of the text, of one of several texts, of a given text, and words one knows.
_PART = re.compile(
  r'\b(?:each|every|per)\b(?!.*\ban?\s*$)|\b(?:for each|per|every)\b(?=.*\ban?\s*$)'
  r'|\b(?:paragraphs|sections|chapters|parts|scenes|essays|articles|stories|posts|letters|pieces|'
  r'reviews|answers|entries|poems|texts)\s+(?:of|with|at)\s+(?:\w+\s+){0,2}$'
  r'|\b(?:write|writing|compose|need|create|produce|draft|generate|give me)\s+'
  r'(?:me\s+)?(?:two|three|four|five|six|seven|eight|nine|ten|'
  r'several|\d{1,2})\s+(?:[a-z]+\s+)?$'
  r'|[每各](?:一|个|篇|章|节|段|部分|小|点|条|页|集|回|幕|封|则|题|期|首|自|天写|日写)[^的。，,；;]{0,12}$',
  re.IGNORECASE,
)
_PART_AFTER = re.compile(
  r'\s*(?:(?:(?:for |in )?(?:each|apiece|per|every)|an? (?:day|week|minute|hour))\b|每)',
  re.IGNORECASE,
)
_GIVEN = re.compile(
  r'\b(?:following|attached|given|original|above|this|these|my)\W*$|(?:以下|上面|这篇|原文)\W*$'
  r'|\b(?:I|we|you|he|she|they)(?:[\'’](?:ve|d)|\s+(?:have|had|can|could|already|only|now|just))*'
  r'\s+(?:learn(?:ed|t)|memori[sz]ed|kn[eo]w|read|wr[io]te|written|remember(?:ed)?|studied)\s+'
  r'(?:(?:about|around|over|almost|nearly|some|more than)\s+)*$|\bvocabulary (?:of|is)\W*$'
  r'|(?:[学背记认读看写]|学会|记住|认识)了(?:大约|将近|超过|近|约)?$',
  re.IGNORECASE,
)
_AROUND = 60  # characters examined on either side
_SEARCHED = 20_000  # characters at either end of a text: a request says it before or after a quote


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
  given text ('this 800-word article') does not count, nor do words that somebody learned or read,
  nor what stands in the middle of a text of more than 40,000 characters.
  """
  if len(text) > 2 * _SEARCHED:
    text = text[:_SEARCHED] + ' … ' + text[-_SEARCHED:]
  found = set()
  for pattern, number, unit in (
    (_EN, _english, r'word|characters'),
    (_ZH, _chinese, '[字词]|篇幅'),
  ):
    for match in pattern.finditer(text) if re.search(unit, text, re.I) else ():
      before = text[max(0, match.start() - _AROUND) : match.start()]
      after = text[match.end() : match.end() + _AROUND]
      near = before[max(before.rfind('.'), before.rfind('\n'), before.rfind('。')) + 1 :]
      if _PART.search(near) or _PART_AFTER.match(after) or _GIVEN.search(near):
        continue
      groups = match.groupdict()
      if groups['low'] is None:  # the number follows the name: 'word count: 2000'
        before = before + match[0][: match.start('low_') - match.start()]
        groups = {name.rstrip('_'): value for name, value in groups.items() if name[-1] == '_'}
      low, high = number(groups)
      if 0 < low <= high < 10**7:
        found.add(Stated(_kind(low, high, before, (groups.get('plus') or '') + after), low, high))
  by_kind = {stated.kind: stated for stated in found}
  if len(found) == 2 and by_kind.keys() == {'at least', 'at most'}:
    low, high = by_kind['at least'].low, by_kind['at most'].high
    return Stated('range', low, high) if low < high else None
  return found.pop() if len(found) == 1 else None


def _kind(low: int, high: int, before: str, after: str) -> str:
  if low < high:
    return 'range'
  if _AT_MOST.search(before) or _AFTER_MOST.match(after):
    return 'at most'
  if _AT_LEAST.search(before) or _AFTER_LEAST.match(after):
    return 'at least'
  return 'about'


def _english(match: Mapping[str, str | None]) -> tuple[int, int]:
  low, high = match['low'] or '', match['high'] or ''
  if low[:1].isalpha() and not re.search('hundred|thousand', low + high, re.I):
    return 0, 0  # 'one or two words'
  last = match['highk'] or match['lowk'] or (high.isalpha() and 'thousand' in high.lower())
  first = _plain(low) * (1_000 if match['lowk'] or (match['highk'] and high) else 1)
  second = _plain(high) * (1_000 if last and not high[:1].isalpha() else 1) if high else first
  if high[:1].isalpha() and first < 100 <= second:
    first *= 1_000 if 'thousand' in high.lower() else 100  # 'two to three thousand'
  return int(first), int(second)


def _plain(number: str) -> float:
  """The value of a number in digits, or in English words."""
  if not number[:1].isalpha():
    return float(re.sub(r'[,，\s]|\.(?=\d{3}$)', '', number))
  total = part = 0
  for name in re.findall(r'[a-z]{3,}', number.lower()):
    if name == 'thousand':
      total, part = total + (part or 1) * 1_000, 0
    else:
      part = (part or 1) * 100 if name == 'hundred' else part + words.NUMERALS.get(name, 0)
  return total + part


def _chinese(match: Mapping[str, str | None]) -> tuple[int, int]:
  first, second = (re.sub(r'\s', '', match[name] or '') for name in ('low', 'high'))
  if not second:
    if re.fullmatch(r'[一二两三四五六七八九]{2}[百千万]', first):  # 三四千字
      low, high = int(_han(first[0] + first[2])), int(_han(first[1:]))
      return (low, high) if low < high else (0, 0)
    # Any other single numeral is part of a word, as in 十字路口.
    is_number = len(first) > 1 or first.isdigit() or first in '百千万'
    return (int(_han(first)),) * 2 if is_number else (0, 0)
  if second[-1] in _HAN_UNITS and first[-1] not in _HAN_UNITS and _han(first) < 100:
    first += second[-1]  # 2-3千字
  return int(_han(first)), int(_han(second))


def _han(number: str) -> float:
  """The value of a Chinese number: '1.5万' -> 15000, '三千五百' -> 3500, '二〇〇〇' -> 2000."""
  number = number.lower()
  if digits := re.fullmatch(r'([\d.,，]+)([万千百kw]?)', number):
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
