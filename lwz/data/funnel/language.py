"""The language of a request: the data set's tag if there is one, else a guess from its words."""

import re

# Names of English and Chinese in data sets, in lower case.
_CODES = {
  **dict.fromkeys(('english', 'en', 'eng', 'en-us', 'en-gb', 'en_us', 'en_gb'), 'en'),
  **dict.fromkeys(('chinese', 'mandarin', 'zh', 'zho', 'cn', 'zh-cn', 'zh-tw', 'zh_cn'), 'zh'),
  **dict.fromkeys(('zh_tw', 'zh-hans', 'zh-hant', 'simplified chinese', '中文'), 'zh'),
  # A detector's 'Latin' is text with names in it, hardly ever the language.
  **dict.fromkeys(('', 'unknown', 'und', 'none', 'null', 'nan', 'latin'), ''),
}

_KANA = re.compile('[\u3040-\u30ff]')
_HAN = re.compile('[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]')
# Letters of no English word, and of no loan such as résumé or naïve.
_FOREIGN = re.compile('[ąćęłńśźżşğıőűřěůťďľĺŕāēīōūģķļņšžčđơưăâîțșãõ]|[\u1e00-\u1eff]')
_LETTER = re.compile(r'[^\W\d_]')
_LATIN = re.compile('[A-Za-zÀ-ɏ\u1e00-\u1eff]')
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_LOOKED_AT = 2_000  # characters

# The most common words of Latin-script languages and of requests, without those of English.
_COMMON = {
  'en': 'the of and to is that it for with you this are be from have my about write how what an '
  'essay story report article describe explain create',
  'es': 'el los las una por con para como más pero sobre cómo qué escribe y es del está este',
  'fr': 'le les des et est une pour dans sur avec qui vous je sont être cette écris du aux mais',
  'de': 'der die und ist ein eine nicht mit für auf ich schreibe über von den wie zu auch das dem',
  'pt': 'os uma não com para como mais escreva sobre do da em é ao dos das pelo sua você',
  'it': 'il che di una per con non sono scrivi del della gli più come nel alla è anche',
  'nl': 'een het van voor niet schrijf zijn ook maar naar deze wordt dat verhaal mijn hoe met op '
  'te beschrijf geef maak vertel opstel',
  'pl': 'napisz jest nie się na że jak oraz dla który przez opowiadanie esej mnie od po jego co '
  'opisz stwórz przygotuj proszę wiersz',
  'tr': 'bir ve bu için hakkında ile yaz yazın yazar mısın nasıl olarak daha çok ne kadar hikaye '
  'anlat açıkla hazırla makale deneme',
  'sv': 'och att är för på av skriv ett inte om jag som till berättelse',
  'da': 'og det er på til ikke skriv jeg et fra som hvordan historie av',
  'fi': 'ja ei että kirjoita tarina joka kuin olla myös hän minä novelli essee kerro',
  'cs': 'napiš napište že pro který povídku jsem jako není při aby příběh',
  'ro': 'scrie și în cu pe nu este care pentru din despre sunt poveste eseu',
  'hu': 'írj egy az és hogy nem történetet esszét szóló vagy mint',
  'vi': 'viết một về và của là cho những các bài không hãy',
  'id': 'yang dan untuk dengan itu tulis tulislah buatkan tentang sebuah cerita dari dalam adalah',
  'tl': 'ang ng mga sa na ay isang sumulat tungkol',
  'ca': 'escriu els amb una sobre és per què dels història',
}
_SPEAKS = {code: frozenset(words.split()) for code, words in _COMMON.items()}


def code(tag: str) -> str:
  """The code of a data set's tag: 'en', 'zh', '' for none; any other tag in lower case.

  code('English') == 'en'; code('Spanish') == 'spanish'; code('unknown') == ''
  """
  tag = tag.strip().lower()
  return _CODES.get(tag, tag)


def detect(text: str) -> str:
  """The language, guessed from scripts and common words: 'en', 'zh', another code, or 'other'.

  A text with kana is Japanese. Otherwise, a text with a third of its letters in Han is Chinese (a
  Chinese request may contain English names). A Latin-script text is of the language with the most
  common words in it; if there are none, of English, or 'other' if it has letters that are foreign
  to English.
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
  return best if counts[best] or not _FOREIGN.search(text.lower()) else 'other'
