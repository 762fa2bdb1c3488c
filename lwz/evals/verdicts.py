"""The verdict in the reply of a judge of two answers."""

import re

from lwz.evals import replies

_TIES = r'tie|draw|neither|none|both|equal|平局|平手|打平'
_SIDE = (  # a letter that is no article
  r'(?:(?:answer|assistant|response|reply|model|option|text|essay|story|version|candidate|'
  r'助手|回答|答案|回复|文本|文章|作品|选项|模型)\s*)?["“\'*_`(]{0,4}(?<![A-Za-z])'
  r'(?P<{0}>(?-i:[A-C])'
  r'(?!\s+(?!(?:is|was|wins|won|by|over|because|for|since|as|with|has|on|did|does|\w+s)\b)[a-z])'
  r'|[a-c](?=\W*(?:$|\n)))(?![A-Za-z])'
  r'(?!\s*(?:and|or|&|/|或|和|与|、)\s*\W*(?:[A-C]\b|answer|回答|助手))'
)


def _side(name: str) -> str:
  return _SIDE.replace('{0}', name)


_MARK = re.compile(
  r'[\[【［]{2}\s*(?:answer|assistant|助手|回答)?\s*'
  r'(?P<mark>[A-Ca-c](?:\s*[>=<]{1,3}\s*[ABab])?|tie|draw|平局|平手)\s*(?:[\]】］]{1,2}|$)'
  r'|\\boxed\s*\{\s*(?:\\text\w*\s*\{)?\s*(?:answer|assistant|助手|回答)?\s*'
  r'(?P<box>[A-C]|tie)\s*\}',
  re.I,
)
_BETTER = r'(?:better|superior|stronger|preferable|best|preferred|更好|更优|更佳|较好|较优|更强)'
_ADVERBS = (
  r'(?:(?:slightly|much|clearly|significantly|marginally|far|somewhat|overall|definitely|'
  r'a bit|still|a little|considerably|by far|simply|obviously|the|an?|'
  r'therefore|thus|ultimately|also)\s+){0,4}'
)
_TEXT = r'(?:answer|response|assistant|reply|job|text|essay|piece|story|choice|option)'
_BOTH = rf'(?:they|them|both|the two)(?:\s+(?:of\s+them|{_TEXT}s?))?'
_SAID = re.compile(
  r'(?:verdict|winner|choice|preference|judge?ment|result|conclusion|decision|'
  r'(?m:^\W{0,8}(?:final\s+)?answer)'
  rf'|判断|结论|裁决|裁定|选择|胜者|获胜者?|获胜方|答案|{_BETTER})'
  rf'(?:\s+(?:overall|{_TEXT}|one|of the two|answers)){{0,4}}'
  r'的?(?:回答|答案|助手|文章|作品|一方|一篇)?'
  r'["”’\'*_`\s]{0,8}(?:\bis\b|\bgoes to\b|是|为|[:：=>])'
  rf'[:：\s]{{0,8}}{_ADVERBS}["“‘\'*_`\[]{{0,6}}\s*'
  rf'(?:{_side("said")}|(?P<tie>{_TIES})(?![A-Za-z]))'
  rf'|(?m:^#*\W{{0,4}}(?:final\s+)?(?:verdict|winner|结论|裁决)\W{{0,4}}\n\W{{0,6}}){_side("head")}'
  r'|\b(?:I|we)\s+(?:would\s+)?(?:slightly\s+|strongly\s+|clearly\s+)?(?:prefer|choose|pick|select|'
  rf'vote for|go with|favou?r|side with)\s+{_side("chosen")}'
  rf'|(?:我选择?|我更?倾向于?|我支持|应选|选择?(?=[A-B回助答]))\s*{_side("zh")}',
  re.I,
)
_ENDS = (
  rf'(?=["”*_`\s]{{0,6}}(?:$|[\n.,;:!)。，；]|(?:than|{_TEXT}|overall|because|one|of|and|for|since|'
  r'as|here)\b))'
)
_IS = re.compile(
  rf'{_side("is")}["”*_`)]{{0,4}}(?:[\'’]s\s+{_TEXT})?\s+(?:(?:is|was|seems|appears|remains|'
  rf'did|does|provides|gives|offers|delivers|wrote|performs|reads)\s+(?:to be\s+)?{_ADVERBS}'
  rf'(?:(?P<up>better|superior|stronger|preferable|preferred|best|winner)|'
  rf'(?P<down>worse|weaker|inferior)){_ENDS}|(?P<wins>wins\b|won\b))'
  rf'|{_side("han")}["”*_`]{{0,4}}\s*的?(?:整体|回答|答案|文章|作品)?(?:质量|表现|内容)?'
  r'(?:在?(?:整体|总体)上?|明显|略|稍微?|确实|显然|要|则|相对|也|会|是){0,3}'
  r'(?:(?P<hup>更好|更优|更佳|更胜一筹|略胜一筹|较好|较优|更强|更出色|胜出|获胜|为优|为佳|优于|好于|强于|'
  r'胜过)'
  r'|(?P<hdown>不如|逊于|劣于|更差|较差))(?!地|的地方)'
  r'|(?P<tie>(?:it is|it\'s|this is|call it|declare)\s+(?:an?\s+)?(?:tie|draw)\b'
  r'|neither (?:answer |response |one )?is (?:clearly )?better|equally (?:good|strong|bad|matched)'
  rf'|(?:(?:judge|consider|find|rate|deem|call)\s+{_BOTH}(?:\s+(?:to be|as))?|{_BOTH}\s+are)\s+'
  r'(?:(?:about|roughly|nearly|essentially)\s+)?equal'
  r'(?=["”*_`\s]*(?:in (?:overall )?quality|overall|$|[\n.,;:!]))'
  r'|of equal (?:quality|merit)|不相上下|难分(?:高下|伯仲|胜负)|旗鼓相当|'
  r'(?:一样|同样)好|平局|打平)',
  re.I,
)
_DOUBT = re.compile(
  r'\b(?:not|never|if|whether|were|where|might|could|unless|hardly|which|nor)\b|n[\'’]t\b'
  r'|并不|并非|不认为|不能说|如果|若|是否|未必|假如|不是',
  re.I,
)
_ALONE = re.compile(
  rf'\W*{_side("alone")}\W*|\W*(?P<mark>[AB]\s*[>=<]{{1,3}}\s*[AB])\W*|\W*(?P<tie>{_TIES})\W*', re.I
)
_REFUSED = re.compile(r'(?:\bnot|rather than|而不是|不是)[\s,]*$', re.I)
_FIELD = re.compile(
  rf'(?:final[\s_]*)?(?:verdict|winner|choice|preference|{_BETTER}|judge?ment|decision|result)'
  r'(?:[\s_]*(?:answer|assistant|response|text))?|(?:最终)?(?:判断|结论|裁决|裁定|选择|胜者|获胜者|结果)',
  re.I,
)


def read(text: str) -> str:
  """The verdict in a judge's reply: 'A', 'B' or 'C' (a tie); '' if it has none, or contradicts.

  An object with a verdict decides, and the mark [[A]], also in full-width or half-closed brackets
  or as \\boxed{A}; else a phrase such as "verdict: B", "assistant A is better", "更好的是 A"; else
  a text that is the letter alone. Neither thoughts nor quotations are read.
  """
  found, rest = replies.objects(replies.spoken(text))
  # A line with all three marks is the prompt's, repeated by a judge or its server.
  rest = '\n'.join(
    line for line in rest.splitlines() if len({*map(_letter, _MARK.finditer(line))}) < 3
  )
  said = [
    {read(str(value)) for key, value in pairs if _FIELD.fullmatch(str(key).strip())}
    for pairs in found
  ]
  own = replies.own(rest, _MARK)
  marks = [
    (*match.span(), _letter(match))
    for match in _MARK.finditer(own)
    if not _REFUSED.search(own[max(0, match.start() - 20) : match.start()])
  ]
  if decided := [letters for letters in said if letters]:
    letters = decided[-1] | ({replies.settle(own, marks)} if marks else set())
    return letters.pop() or '' if len(letters) == 1 else ''
  if marks:
    return replies.settle(own, marks) or ''
  mentions = []
  for pattern in (_SAID, _IS):
    own = replies.own(rest, pattern)
    for match in pattern.finditer(own):
      clause = re.split(r'[.;:!?\n,。，；：！？]', own[max(0, match.start() - 200) : match.start()])
      if not _DOUBT.search(clause[-1]) and own[match.end() : match.end() + 1] not in ('?', '？'):
        mentions.append((*match.span(), _letter(match)))
  if mentions:
    return replies.settle(rest, mentions) or ''
  alone = _ALONE.fullmatch(rest) if len(rest) < 100 else None
  return _letter(alone) if alone else ''


def _letter(match: re.Match) -> str:
  """The side that a match names."""
  named = match.groupdict()
  sides = ('mark', 'box', 'said', 'chosen', 'head', 'zh', 'is', 'han', 'alone')
  side = next((named[name] for name in sides if named.get(name)), 'tie').upper()
  first, better, second = (*re.split(r'\s*([>=<])[>=<]*\s*', side), '', '')[:3]
  if better:
    first = {'>': first, '<': second}.get(better, 'C')
  if named.get('down') or named.get('hdown'):
    first = {'A': 'B', 'B': 'A'}.get(first, 'C')
  return first if first in ('A', 'B') else 'C'
