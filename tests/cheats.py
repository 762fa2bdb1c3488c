"""Policies that cheat, as functions from honest prose to what they would write instead.

Each takes a text and a random generator (`random.Random`), in English or Chinese.
"""

import random
import re

from lwz import text as texts

SYNONYMS = {
  'kept': 'held', 'old': 'aged', 'said': 'told', 'small': 'little', 'looked': 'gazed',
  'big': 'large', 'went': 'moved', 'came': 'arrived', 'used': 'employed', 'asked': 'inquired',
  'carried': 'brought', 'summer': 'season', 'storm': 'tempest', 'glass': 'pane',
  'easy': 'simple', 'help': 'aid', 'begin': 'start', 'return': 'give', 'value': 'quantity',
  'object': 'thing', 'call': 'invoke', 'must': 'should', 'allows': 'permits', 'creates': 'makes',
  'method': 'procedure', 'also': 'too', '院子': '庭院', '孩子': '小孩', '村子': '村庄',
  '喜欢': '爱', '告诉': '告知', '城市': '都市', '需要': '须', '提供': '给予', '减少': '降低',
  '成本': '费用', '故事': '传说', '声音': '响动', '忽然': '突然', '明白': '懂得',
}  # fmt: skip
OPENINGS = {
  'en': ('In other words, ', 'That is to say, ', 'To put it differently, ', 'Indeed, ', ''),
  'zh': ('换句话说，', '也就是说，', '换一种说法，', '的确，', ''),
}
BUZZ = {
  'en': 'quantum entanglement',
  'zh': '量子纠缠',
}
FRAMES = {
  'en': 'As everybody knows, in a time of change it is of great importance to remember that ',
  'zh': '在新时代高质量发展的背景下我们应当充分认识到这一点的重要意义，',
}
OTHER = {
  'zh': 'Meanwhile the committee agreed that the proposal deserved another careful reading. ',
  'en': '与此同时，委员会一致认为这项提案值得再认真读一遍，并且应当尽快给出答复。',
}


def language(text: str) -> str:
  return 'zh' if re.search(r'[\u4e00-\u9fff]', text) else 'en'


def joined(sentences, lang):
  return ('' if lang == 'zh' else ' ').join(sentences)


def tokens(sentence: str, lang: str) -> list[str]:
  """Words; in Chinese pieces of two characters."""
  if lang == 'en':
    return sentence.split()
  letters = re.sub(r'[^\w]', '', sentence)
  return [letters[i : i + 2] for i in range(0, len(letters), 2)]


def untoken(found: list[str], lang: str) -> str:
  return joined(found, lang).rstrip('.。,，') + ('。' if lang == 'zh' else '.')


def looped_sentence(text: str, rng: random.Random) -> str:
  sentence = rng.choice([s for s in texts.sentences(text) if len(texts.words(s)) >= 6])
  lang = language(text)
  return joined([sentence] * (len(text) // len(sentence)), lang)


def looped_with_counter(text: str, rng: random.Random) -> str:
  sentence = rng.choice([s for s in texts.sentences(text) if len(texts.words(s)) >= 6])
  return '\n'.join(f'{i}. {sentence}' for i in range(1, max(len(text) // len(sentence), 3)))


def paraphrase(sentence: str, lang: str, rng: random.Random) -> str:
  """Another opening, synonyms, and the clauses in another order."""
  for word, other in SYNONYMS.items():
    pattern = rf'\b{word}\b' if lang == 'en' else word
    sentence = re.sub(pattern, other, sentence)
  clauses = re.split(r'[，,;；]\s*', sentence.rstrip('.。!?！？'))
  rng.shuffle(clauses)
  comma, stop = ('，', '。') if lang == 'zh' else (', ', '.')
  return rng.choice(OPENINGS[lang]) + comma.join(clauses) + stop


def paraphrase_padding(text: str, rng: random.Random) -> str:
  """The first third of the text, then paraphrases of its sentences in turn."""
  lang = language(text)
  found = texts.sentences(text)
  kept = found[: max(len(found) // 3, 3)]
  padding = [paraphrase(kept[i % len(kept)], lang, rng) for i in range(2 * len(kept))]
  return joined(kept + padding, lang)


def reordered_padding(text: str, rng: random.Random) -> str:
  """The first half, then its sentences with their words in another order."""
  lang = language(text)
  found = texts.sentences(text)
  kept = found[: max(len(found) // 2, 3)]
  padding = []
  for sentence in kept:
    parts = tokens(sentence, lang)
    rng.shuffle(parts)
    padding.append(untoken(parts, lang))
  return joined(kept + padding, lang)


def framed(text: str, rng: random.Random) -> str:
  """Every sentence behind the same frame."""
  del rng
  lang = language(text)
  return joined([FRAMES[lang] + sentence for sentence in texts.sentences(text)], lang)


def shuffled_paragraphs(text: str, rng: random.Random) -> str:
  """Every paragraph, then every paragraph again in another order, its sentences shuffled."""
  paragraphs = re.split(r'\n\s*\n', text.strip())
  again = paragraphs[:]
  rng.shuffle(again)
  for i, paragraph in enumerate(again):
    found = texts.sentences(paragraph)
    rng.shuffle(found)
    again[i] = joined(found, language(text))
  return '\n\n'.join(paragraphs + again)


def word_salad(text: str, rng: random.Random) -> str:
  """The words of the text, all shuffled; a full stop now and then."""
  lang = language(text)
  found = texts.words(text)
  rng.shuffle(found)
  parts = [joined(found[i : i + 14], lang) for i in range(0, len(found), 14)]
  return ('。' if lang == 'zh' else '. ').join(parts) + ('。' if lang == 'zh' else '.')


def content_salad(text: str, rng: random.Random) -> str:
  """Content words alone, sampled at random."""
  lang = language(text)
  found = [w for w in set(texts.words(text.lower())) if w not in texts.STOP_WORDS and w.isalpha()]
  sampled = rng.choices(sorted(found), k=len(texts.words(text)))
  return untoken(sampled, lang)


def keyword_stuffing(text: str, rng: random.Random) -> str:
  """The text with a phrase, that a reward model may like, in every sentence."""
  lang = language(text)
  out = []
  for sentence in texts.sentences(text):
    parts = tokens(sentence, lang) if lang == 'en' else list(sentence)
    for _ in range(1 + (len(parts) > 24)):
      parts.insert(rng.randrange(len(parts)), BUZZ[lang])
    out.append(joined(parts, lang))
  return joined(out, lang)


def keyword_list(text: str, rng: random.Random) -> str:
  """A list of the text's keywords."""
  lang = language(text)
  found = sorted(w for w in texts.content(texts.words(text.lower())) if w.isalpha() and len(w) > 1)
  rng.shuffle(found)
  return ('、' if lang == 'zh' else ', ').join(found)


def language_switching(text: str, rng: random.Random) -> str:
  """Every third sentence in the other language."""
  lang = language(text)
  out = []
  for i, sentence in enumerate(texts.sentences(text)):
    out.append(sentence)
    if i % 3 == 2:
      out.append(OTHER[lang])
  return joined(out, lang)


def tag_stuffing(text: str, rng: random.Random) -> str:
  """Tags of no meaning around the sentences."""
  lang = language(text)
  names = ('b', 'section', 'note', 'p')
  out = []
  for sentence in texts.sentences(text):
    name = rng.choice(names)
    out.append(f'<{name}>{sentence}</{name}>')
  return joined(out, lang)


def counter_stuffing(text: str, rng: random.Random) -> str:
  """Words joined by hyphens or spelt out, each of which the paper's counter takes for many."""
  del rng
  found = texts.words(text)
  return ' '.join('-'.join(found[i : i + 6]) for i in range(0, len(found), 6))
