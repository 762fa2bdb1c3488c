"""Which language a request is in: the set's own tag where there is one, else script and words."""

import re

# What data sets call English and Chinese, in lower case.
_CODES = {
  **dict.fromkeys(('english', 'en', 'eng', 'en-us', 'en-gb', 'en_us', 'en_gb'), 'en'),
  **dict.fromkeys(('chinese', 'mandarin', 'zh', 'zho', 'cn', 'zh-cn', 'zh-tw', 'zh_cn'), 'zh'),
  **dict.fromkeys(('zh_tw', 'zh-hans', 'zh-hant', 'simplified chinese', '中文'), 'zh'),
  **dict.fromkeys(('', 'unknown', 'und', 'none', 'null', 'nan'), ''),
}

_KANA = re.compile('[\u3040-\u30ff]')
_HAN = re.compile('[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]')
_LETTER = re.compile(r'[^\W\d_]')
_LATIN = re.compile('[A-Za-zÀ-ɏ]')
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_LOOKED_AT = 2_000  # characters

# The commonest words of Latin-script languages; those that two of them share are left out.
_COMMON = {
  'en': 'the of and to is that it for with you this are be from have my about write how what an',
  'es': 'el los las una por con para como más pero sobre cómo qué escribe y es del está este',
  'fr': 'le les des et est une pour dans sur avec qui vous je sont être cette écris du aux mais',
  'de': 'der die und ist ein eine nicht mit für auf ich schreibe über von den wie zu auch das dem',
  'pt': 'os uma não com para como mais escreva sobre do da em é ao dos das pelo sua você',
  'it': 'il che di una per con non sono scrivi del della gli più come nel alla è anche',
}
_SPEAKS = {code: frozenset(words.split()) for code, words in _COMMON.items()}


def code(tag: str) -> str:
  """'en' or 'zh' for a data set's name of it, '' for none; any other tag in lower case.

  code('English') == 'en'; code('Spanish') == 'spanish'; code('unknown') == ''
  """
  tag = tag.strip().lower()
  return _CODES.get(tag, tag)


def detect(text: str) -> str:
  """'en', 'zh', another code, or 'other': a guess from scripts and the commonest words.

  Kana makes a text Japanese. Otherwise a text is Chinese where a third of its letters are Han (a
  Chinese request may hold English names). A Latin one is the language most of whose common words
  it has; one without any is English.
  """
  text = text[:_LOOKED_AT]
  letters = len(_LETTER.findall(text))
  if not letters:
    return 'other'
  if len(_KANA.findall(text)) > 0.02 * letters:
    return 'ja'
  if 3 * len(_HAN.findall(text)) >= letters:
    return 'zh'
  if 2 * len(_LATIN.findall(text)) < letters:
    return 'other'
  spoken = _WORD.findall(text.lower())
  counts = {code: sum(word in known for word in spoken) for code, known in _SPEAKS.items()}
  best = max(counts, key=lambda code: (counts[code], code == 'en'))
  return best
