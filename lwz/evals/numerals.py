"""Small numbers as they are written: '23', 'twenty-three', '二十三'."""

import re

from lwz import text as texts

_DIGITS = {han: digit for digit, han in enumerate('零一二三四五六七八九')} | {'〇': 0, '两': 2}
_UNITS = {'十': 10, '百': 100, '千': 1_000}

_WORDS = '|'.join(sorted(texts.NUMERALS, key=len, reverse=True))
ENGLISH = rf'(?:\d[\d,]{{0,8}}|(?:{_WORDS})(?:[- ](?:{_WORDS}))?(?:[- ]hundred)?)'
HAN = rf'[{"".join([*_DIGITS, *_UNITS])}]'
CHINESE = rf'(?:\d{{1,9}}|{HAN}{{1,7}})'


def value(written: str) -> int | None:
  """Returns the number, None if it is none: 23 of '23', 'twenty-three' and '二十三'.

  >>> value('1,250'), value('two hundred'), value('一百零五'), value('一九〇二')
  (1250, 200, 105, 1902)
  """
  written = written.strip().lower().replace(',', '')
  if written.isdecimal():
    return int(written)
  if all(char in _DIGITS for char in written) and written:
    return int(''.join(str(_DIGITS[char]) for char in written))
  if all(char in _DIGITS or char in _UNITS for char in written) and written:
    total = digit = 0
    for char in written:
      if char in _DIGITS:
        digit = _DIGITS[char]
      else:
        total, digit = total + (digit or 1) * _UNITS[char], 0
    return total + digit
  words = re.split(r'[- ]', written)
  times = 100 if words[-1] == 'hundred' else 1
  found = [texts.NUMERALS.get(word) for word in words if word != 'hundred']
  if not found or None in found:
    return None
  return times * sum(number for number in found if number is not None)
