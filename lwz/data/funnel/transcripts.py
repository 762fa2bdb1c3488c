"""Transcripts: conversations as one text, with marks before the turns."""

import re

# The marks before a user's and an assistant's turn in a transcript.
USER = re.compile(
  r'\s*(?:<s>\s*)?(?:\[INST\]|\[\|Human\|\]|(?:###\s*)?(?:Human|User|用户|人类|问)\s*[:：]'
  r'|<\|im_start\|>user\b|<\|user\|>|<\|start_header_id\|>user<\|end_header_id\|>)\s*',
  re.I,
)
_ASSISTANT = re.compile(
  r'(?:\[/INST\]|\[\|AI\|\]|^[ \t]*(?:###\s*)?(?:Assistant|AI|GPT|Bot|助手|答)\s*[:：]'
  r'|###\s*Assistant\s*[:：]|(?-i:\bASSISTANT:|(?<=[.?!]\s)Assistant:)'
  r'|<\|eot_id\|>|<\|im_end\|>|<\|assistant\|>|<\|end\|>|</s>)',
  re.I | re.M,
)
_SYSTEM = re.compile(
  r'\s*+(?:<\|begin_of_text\|>\s*+)?(?:<\|im_start\|>system\b.*?<\|im_end\|>'
  r'|<\|system\|>.*?(?=<\|user\|>)|<\|start_header_id\|>system.*?<\|eot_id\|>)',
  re.S,
)
_INSTRUCTED = re.compile(r'###\s*Instruction:(.*?)(?:###\s*Response:|\Z)', re.S)
# Atomic: where nothing follows the first USER:, nothing follows a later one.
_ASKED = re.compile(r'(?>.*?\bUSER:)(.*?)\bASSISTANT:', re.S)


def first(text: str) -> str:
  """The first request of a transcript, 'Human: ... Assistant: ...'; any other text as it is.

  A text that begins with 'User:' and has no turn of an assistant may be about a user: it is kept.
  """
  system = _SYSTEM.match(text)
  rest = text[system.end() :] if system else text
  begins = USER.match(rest)
  end = _ASSISTANT.search(rest, begins.end()) if begins else None
  if begins and (end or re.search(r'[<\[#]', begins[0])):
    return rest[begins.end() : end.start() if end else None].strip()
  if found := [match for match in (_INSTRUCTED.search(text), _ASKED.match(text)) if match]:
    asked = min(found, key=lambda match: match.start(1))[1].strip()
    return re.sub(r'\n++###\s*Input:\s*', '\n\n', asked)
  return '' if re.match(r'\W*Assistant\s*[:：]', text) else text
