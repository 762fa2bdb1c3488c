"""A rule-based finder of contradictions, for texts whose facts are stated in common forms.

It reads looks, ages, births, relatives, work, skills, counts, years, hours, durations, days and
directions, in English and Chinese, and knows nothing else: pronouns, paraphrase and reasoning are
out of its reach. It stands for the judge in tests and where none is named; `results/evaluation.md`
says how much it finds.
"""

import re
from collections.abc import Iterator, Sequence

from lwz.evals import consistency, numerals

_COLOURS = 'black|blue|brown|green|gr[ea]y|hazel|red|blond|fair|white|dark|silver|amber|golden'
_WORK = (
  'baker|carpenter|clerk|cook|doctor|farmer|fisherman|gardener|judge|lawyer|librarian|miller|miner|'
  'nurse|painter|pilot|priest|sailor|shoemaker|smith|soldier|surgeon|tailor|teacher|weaver|'
  'clockmaker|locksmith|engineer|postman|photographer'
)
_RELATIVES = (
  'sister|brother|mother|father|wife|husband|son|daughter|aunt|uncle|dog|cat|horse|boat|ship'
)
_KIN = (
  'sister|brother|mother|father|wife|husband|son|daughter|aunt|uncle|cousin|nephew|niece|'
  'grandfather|grandmother|twin'
)
_TIMES = 'seconds|minutes|hours|days|nights|weeks|months|years|times'  # no number of things
_DAYS = 'Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday'
_NUMBER = numerals.ENGLISH
# A name of one or two words that is no word which merely begins a sentence.
_BEGINNERS = (
  'A|After|All|An|And|As|At|Before|But|By|For|From|He|Her|His|How|I|If|In|It|Its|My|No|Not|Of|On|Once|'
  'One|Only|Our|She|So|Some|That|The|Their|Then|There|These|They|This|Those|Though|To|Under|Until|We|'
  'What|When|Where|Which|While|Who|With|Year|Years|Yes|You|Your'
)
_NAME = rf'\b(?!(?:{_BEGINNERS})\b)(?P<s>[A-Z][a-z]+(?: [A-Z][a-z]+)?)'
_THE = r'\b[Tt]he (?P<s>[a-z]+(?: [a-z]+)?)'
_PLACE = rf'(?:{_NAME}|\b[Tt]he (?P<t>[a-z]+(?: [a-z]+)?))'

_ENGLISH = (  # (class, attribute, pattern); {a} is the group a of the pattern
  (
    'factual',
    '{a}',
    rf'{_NAME}(?:[’\']s|,? with| had| has)(?: \w+){{0,3}}? (?P<v>{_COLOURS}) (?P<a>eyes|hair)',
  ),
  (
    'factual',
    '{a}',
    rf'{_NAME}[’\']s (?P<a>eyes|hair) (?:was|were|is|are)(?: \w+)? (?P<v>{_COLOURS})\b',
  ),
  ('factual', '{a}', rf'(?P<v>{_COLOURS}) (?P<a>eyes|hair) of {_NAME}'),
  (
    'characterization',
    'age',
    rf'{_NAME}(?:,| was| is| had turned| turned)(?: aged)? (?P<v>{_NUMBER})(?: years old|'
    r'-year-old|,|\.| when| that)',
  ),
  ('factual', 'birthplace', rf'{_NAME} (?:was|had been) born in (?P<v>[A-Z]\w+)'),
  ('timeline', 'year of birth', rf'{_NAME} (?:was|had been) born in (?P<v>\d{{4}})'),
  (
    'factual',
    'name of {a}',
    rf'{_NAME}[’\']s (?:\w+ )?(?P<a>{_RELATIVES}),? (?:who )?(?:(?:was|is) )?(?:called|named)'
    r' (?P<v>[A-Z][a-z]+)',
  ),
  (
    'characterization',
    'work',
    rf'{_NAME}(?: was| is|,| had(?: always)? been| worked as) an?'
    rf'(?: \w+)? (?P<v>{_WORK})\b',
  ),
  (
    'characterization',
    'can {a}',
    rf'{_NAME} (?P<v>could not|couldn[’\']t|cannot|had never learn(?:ed|t) to|could|knew how '
    r'to) (?P<a>swim|read|drive|sail|ride|sing|cook|dance|fly|write)\b',
  ),
  ('characterization', 'hand', rf'{_NAME} (?:was|is) (?P<v>left|right)-handed'),
  (
    'factual',
    'number of {a}',
    rf'{_PLACE} (?:had|has|held|counted) (?:only |exactly )?(?P<v>{_NUMBER}) (?:\w+ )?'
    rf'(?P<a>(?!{_TIMES})[a-z]{{3,}}s|people|men|women|children)\b(?! (?:of|more|left)\b)',
  ),
  (
    'factual',
    '{a}',
    rf'{_THE} (?:was|is) (?P<v>{_NUMBER}) (?P<a>(?:feet|inches|yards|miles|k?m|(?:centi|kilo)?'
    r'met(?:re|er)s) (?:long|wide|high|tall|deep))\b',
  ),
  ('characterization', 'kin of {a}', rf'{_NAME} (?:was|is) (?P<a>[A-Z]\w+)[’\']s (?P<v>{_KIN})\b'),
  (
    'characterization',
    'kin of {a}',
    rf'{_NAME} (?:was|is) the (?P<v>{_KIN}) of (?P<a>[A-Z]\w+)',
  ),
  (
    'timeline',
    'year {a}',
    rf'{_THE} (?:was|had been) (?P<a>built|founded|opened|burned|destroyed|finished|launched|'
    rf'closed) in (?P<v>\d{{4}})',
  ),
  (
    'timeline',
    'duration in {a}',
    rf'{_THE} (?:had )?(?:lasted|took|taken|went on for)(?: \w+)? (?P<v>{_NUMBER}) '
    r'(?P<a>hours|days|weeks|months|years)',
  ),
  (
    'timeline',
    'day',
    rf'{_THE} (?:was|is|fell|took place|was held) (?:held )?on (?:a )?(?P<v>{_DAYS})',
  ),
  (
    'world',
    'hour it {a}',
    rf'{_THE} (?P<a>close|open|left|rang|shut|leave)(?:s|d|ed)?(?: \w+){{0,3}}? at '
    rf'(?P<v>{_NUMBER}|noon|midnight|dawn|dusk)\b',
  ),
  (
    'world',
    'direction from {a}',
    rf'{_PLACE} (?:stood|lay|lies|stands|is|was) (?:just )?(?P<v>north|south|east|west) of '
    r'(?P<a>(?:the )?\w+)',
  ),
  ('narrative', 'presence', r'(?P<s>I) (?P<v>was not|wasn[’\']t|was) there(?! (?:yet|again))'),
)
_HAN = r'[\u4e00-\u9fff]'
_CLAUSE = r'(?:^|(?<=[，。！？；：、“”\s]))'
_WHO = rf'{_CLAUSE}(?P<s>{_HAN}{{2,4}}?)'
_WHAT = rf'{_CLAUSE}(?:[这那该][座条个栋所间艘]?)?(?P<s>{_HAN}{{1,6}}?)'
_ENDS = r'(?=[，。；、！？])'
_KIN_HAN = '姐姐|妹妹|哥哥|弟弟|母亲|父亲|妻子|丈夫|儿子|女儿|叔叔|姑姑|舅舅|表哥|表妹'
_COLOURS_HAN = '黑|蓝|棕|褐|绿|灰|红|金|白|银|琥珀'
_WORK_HAN = (
  '木匠|医生|老师|教师|农民|渔夫|律师|铁匠|裁缝|护士|画家|水手|'
  '士兵|厨师|钟表匠|石匠|邮差|园丁|法官|矿工'
)
_CHINESE = (
  ('factual', 'eyes', rf'{_WHO}(?:有一双|长着一双|生着一双|的眼睛是)(?P<v>{_COLOURS_HAN})'),
  ('factual', 'hair', rf'{_WHO}(?:有一头|留着一头|的头发是)(?P<v>{_COLOURS_HAN})'),
  ('characterization', 'age', rf'{_WHO}(?:今年|那年|这年|当时|已经)(?P<v>{numerals.CHINESE})岁'),
  ('timeline', 'year of birth', rf'{_WHO}(?:出生|生)于(?P<v>{numerals.CHINESE})年'),
  (
    'factual',
    'birthplace',
    rf'{_WHO}(?:出生在|生在|出生于)(?P<v>(?!{numerals.HAN}|\d){_HAN}{{2,4}}?){_ENDS}',
  ),
  (
    'factual',
    'name of {a}',
    rf'{_WHO}的(?P<a>姐姐|妹妹|哥哥|弟弟|母亲|父亲|妻子|丈夫|儿子|女儿|狗|猫|马|船)(?:名叫|叫作|叫做|叫)(?P<v>{_HAN}{{2,3}}?)'
    rf'{_ENDS}',
  ),
  ('characterization', 'work', rf'{_WHO}(?:一直)?是一?[名位个](?P<v>{_WORK_HAN})'),
  (
    'characterization',
    'can {a}',
    rf'{_WHO}(?:从来|一直|向来)?(?P<v>不会|没学过|很会|会)(?P<a>游泳|识字|开车|骑马|唱歌|做饭|跳舞|划船)',
  ),
  (
    'factual',
    'number of {a}',
    rf'{_WHAT}(?:一共|总共|共)?有(?P<v>{numerals.CHINESE})(?P<a>层|[间扇座级个道张户口名位条艘]{_HAN}{{1,2}})',
  ),
  (
    'factual',
    '{a}',
    rf'{_WHAT}全?(?P<a>[长宽高深])(?:约|达)?(?P<v>{numerals.CHINESE})(?:公里|[米里丈尺])',
  ),
  ('characterization', 'kin of {a}', rf'{_WHO}是(?P<a>{_HAN}{{2,4}}?)的(?P<v>{_KIN_HAN}){_ENDS}'),
  ('timeline', 'year built', rf'{_WHAT}(?:始建|建成|建|落成)于(?P<v>{numerals.CHINESE})年'),
  (
    'timeline',
    'duration in {a}',
    rf'(?P<s>航程|旅途|围城|战争|审判|罢工|暴风雪|大火)(?:一共)?(?:持续|延续|拖|用|花)了(?P<v>{numerals.CHINESE})'
    r'(?P<a>天|周|个月|年|小时)',
  ),
  (
    'timeline',
    'day',
    r'(?P<s>集市|婚礼|葬礼|庙会|投票)(?:定在|是在|就在)(?P<v>(?:星期|周)[一二三四五六日天])',
  ),
  (
    'world',
    'hour it {a}',
    rf'{_WHO}(?:每天|每晚)(?P<v>(?:早上|中午|下午|晚上)?{numerals.CHINESE})点(?P<a>关门|开门|熄灯|敲钟)',
  ),
  (
    'world',
    'direction from {a}',
    rf'{_WHO}(?:位于|坐落在|就在)(?P<a>{_HAN}{{1,4}}?)(?:以|的)(?P<v>[东西南北])[面边]?',
  ),
  ('narrative', 'presence', r'(?P<s>我)当时(?P<v>并不|不|就)在场'),
)
_NO = re.compile(r"not|n[’']t|never|不|没")
# A statement of a change establishes nothing that an earlier one contradicts, nor does one that is
# not meant, or is limited to a time or a place by what stands before it.
_CHANGES = re.compile(
  r'\b(?:became|becomes?|no longer|moved|since then|dyed|learn(?:ed|t) to (?=\w+ (?:at last|that))|'
  r'rebuilt|at last|promoted|until then|[Ii]f|wish\w*|dream\w*|lied|pretend\w*|perhaps|maybe)\b|'
  r'^[“"]?(?:[OI]n|With|Without|During|Upstairs|Downstairs|Outside|Inside) |'
  r'如果|假如|梦[见到里]|做梦|谎|也许|据说|后来|不再|改建|改成|变成|搬到|终于|学会|重建|染成'
)


def facts(text: str) -> list[dict[str, str]]:
  """Returns the records of a window's statements, in the form of `consistency.read_facts`."""
  found: dict[tuple[int, str], dict[str, str]] = {}
  for kind, attribute, pattern in _PATTERNS:
    for match in pattern.finditer(text):
      groups = match.groupdict()
      sentence = _sentence(text, *match.span())
      if _CHANGES.search(sentence):
        continue
      record = {
        'subject': groups.get('s') or groups.get('t') or '',
        'attribute': f'{kind}: {attribute.format(a=groups.get("a") or "")}',
        'value': groups['v'],
        'quotation': sentence[: consistency.QUOTED],
      }
      found.setdefault((match.start(), record['attribute']), record)
  return [found[key] for key in sorted(found)]


_PATTERNS = [
  (kind, attribute, re.compile(pattern, re.M))
  for kind, attribute, pattern in (*_ENGLISH, *_CHINESE)
]


def _sentence(text: str, start: int, end: int) -> str:
  """Returns the sentence around a match, at most QUOTED characters of it, the match included."""
  room = consistency.QUOTED - (end - start)
  left = max(
    text.rfind(mark, max(0, start - room), start) for mark in ('. ', '。', '\n', '! ', '? ')
  )
  rights = [
    text.find(mark, max(start, end - 1), end + room) for mark in ('.', '。', '\n', '!', '?')
  ]
  right = min((at for at in rights if at >= 0), default=end - 1)
  return text[left + 1 if left >= 0 else max(0, start - room) : right + 1].strip()


def conflicts(facts: Sequence[consistency.Fact]) -> list[dict[str, str]]:
  """Returns the records of the contradictions, in the form of `consistency.read_conflicts`.

  Each statement is compared with the first one about its subject's attribute, so that one wrong
  statement is one contradiction. An age contradicts an earlier, greater one alone.
  """
  found = []
  for second, one in enumerate(facts):
    earlier = next((i for i in _about(facts, one) if i < second), None)
    if earlier is None:
      continue
    before, after = _plain(facts[earlier]), _plain(one)
    wrong = before != after
    if one.attribute.endswith(': age') and isinstance(before, int) and isinstance(after, int):
      wrong = after < before
    if wrong:
      said = f'{facts[earlier].value} against {one.value}'
      record = {'first': str(earlier + 1), 'second': str(second + 1), 'why': said}
      kind = one.attribute.partition(':')[0]
      named = next(name for name in consistency.CLASSES if name.startswith(kind))
      found.append(record | {'class': named})
  return found


def _about(facts: Sequence[consistency.Fact], one: consistency.Fact) -> Iterator[int]:
  """Yields the places of the facts about the same attribute of the same subject."""
  for i, fact in enumerate(facts):
    if fact.attribute == one.attribute:
      names = sorted((fact.subject.casefold(), one.subject.casefold()), key=len)
      if names[0] == names[1] or names[1].startswith(f'{names[0]} '):
        yield i


def _plain(fact: consistency.Fact) -> int | str | bool:
  """Returns the value to compare: a number, whether something can be, or the words."""
  number = numerals.value(fact.value)
  if number is not None:
    return number
  if ': can ' in fact.attribute or fact.attribute.endswith('presence'):
    return not _NO.search(fact.value)
  return fact.value.casefold().replace('grey', 'gray')
