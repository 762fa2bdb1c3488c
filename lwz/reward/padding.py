"""Padding that no sentence holds: drones of symbols and numbers, chains, and endless words."""

import re

from lwz import text as texts

# Symbols in a row, whatever they are: five are a rule or an ellipsis, more begin to fill a page.
DRONE = 5

# Honest words have up to four links (`state-of-the-art`), and no more letters than WORD; honest
# tables have no more numbers in a row than COUNTED.
CHAIN, WORD, COUNTED = 4, 64, 100

_LINK = re.compile("['’-]")
_SPECIAL = re.compile(r"['’\d-]")
_NUMBERS = re.compile(rf'(?<!\w)(?:\d++[\W_]*+){{{COUNTED},}}+')
_DRONE = re.compile(rf'(?:[^\w\s][^\S\n]*){{{2 * DRONE},}}')


def tokens(sentence: str) -> list[str]:
  """Returns the words without numbers; a chain (`river-river-...`) or an endless word is parts."""
  found = texts.words(sentence.lower())
  endless = max(map(len, found), default=0) > WORD
  if not endless and not _SPECIAL.search(sentence):
    return found
  parts: list[str] = []
  for word in found:
    links = [word] if word.isalpha() else _LINK.split(word)
    parts += links if len(links) > CHAIN else [word]
  parts = [part for part in parts if not part.isdigit() or len(part) > WORD]
  return [p[i : i + WORD] for p in parts for i in range(0, len(p), WORD)] if endless else parts


def drones(text: str) -> int:
  """Returns the number of redundant words that runs of symbols and of numbers count as."""
  count = sum(len(re.findall(r'\d+', run)) - COUNTED for run in _NUMBERS.findall(text))
  if not _DRONE.search(text):
    return count
  heading = 0
  for line in text.split('\n'):
    worded = bool(re.search(r'\w', line))
    runs = [sum(not mark.isspace() for mark in run) for run in _DRONE.findall(line)]
    if worded or len(line) > heading:
      count += sum(run // DRONE - 1 for run in runs)
    heading = len(line) if worded else 0
  return count
