"""The structure of a reply, and what cheats with repetition get for it."""

import json
import pathlib
import pydoc_data.topics
import random
import re
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwz import text
from lwz.reward import format as format_lib
from tests import cheats, prose

ENGLISH = """\
The river rises in the hills above the old mill and reaches the sea after ninety miles.
Farmers along its banks grew barley until the canal brought cheaper grain from the east.
A flood in the spring of that year carried away two bridges and most of the lower market.
Nobody rebuilt the market, because the railway had already drawn the merchants to the station.
Today the water is clean enough for trout, and herons wait below the weir at dawn.
Children learn to row on the broad reach beside the church, watched by patient grandparents.
The council argues every winter about whether dredging would protect the cellars of the town.
Engineers reply that wider meadows upstream would slow the current better than any machine.
In August the light falls green through the willows, and tourists photograph the stone arches.
Some visitors ask for the ghost of the miller, which a novelist invented sixty years ago.
""".splitlines()

CHINESE = """\
清晨的雾从江面升起，渔船在薄光里慢慢离开码头。
祖父把旧木箱搬到院子里，里面装着他年轻时写的信。
城南的茶馆已经关门多年，只剩一块褪色的招牌。
孩子们放学以后沿着铁路奔跑，追赶远处的风筝。
医生说她需要安静休息，于是窗帘整个下午都没有拉开。
图书馆新买了一批地图，管理员花了三天才整理完毕。
邻居家的猫跳上屋顶，惊飞了一群正在晒太阳的麻雀。
市场里卖菜的老人记得每位顾客喜欢什么味道。
冬天来得很早，湖水结冰之前候鸟就向南飞走了。
工程师画出桥梁的草图，又担心石料无法承受重量。
""".splitlines()

SYNONYMS = {
  'river': 'stream', 'hills': 'mountains', 'old': 'ancient', 'cheaper': 'cheap', 'flood': 'deluge',
  'carried': 'swept', 'nobody': 'no-one', 'drawn': 'pulled', 'clean': 'pure', 'dawn': 'daybreak',
  'learn': 'practise', 'broad': 'wide', 'argues': 'quarrels', 'protect': 'shield',
  'reply': 'answer', 'slow': 'brake', 'green': 'emerald', 'photograph': 'picture',
  'visitors': 'guests', 'ago': 'back',
}  # fmt: skip

TOPICS = {k: v for k, v in pydoc_data.topics.topics.items() if len(v.split()) > 300}


def joined(lines):
  return ('' if lines and lines[0][-1] == '。' else ' ').join(lines)


def shuffled(sentence, rng):
  """The words of a sentence in another order; in Chinese the clauses of two characters."""
  if sentence.isascii():
    tokens = sentence.rstrip('.').split()
    rng.shuffle(tokens)
    return ' '.join(tokens) + '.'
  letters = re.sub('[，。]', '', sentence)
  tokens = [letters[i : i + 2] for i in range(0, len(letters), 2)]
  rng.shuffle(tokens)
  return ''.join(tokens) + '。'


def substituted(sentence):
  return re.sub(r'\w+', lambda m: SYNONYMS.get(m.group().lower(), m.group()), sentence)


# --- structure


@pytest.mark.parametrize(
  ('reply', 'think', 'answer'),
  [
    ('<think>plan</think><answer>work</answer>', 'plan', 'work'),
    ('\n <think>\nplan\n</think>\n\n<answer> work </answer>\n', '\nplan\n', ' work '),
    (
      '<think>a < b </b> <Think></think><answer><ANSWER>x</answer>',
      'a < b </b> <Think>',
      '<ANSWER>x',
    ),
    ('<think>想</think><answer>写</answer>', '想', '写'),
  ],
)
def test_whole_replies(reply, think, answer):
  assert format_lib.parse(reply, 'think') == format_lib.Parsed(think, answer, True, '')
  assert format_lib.format_reward(reply, 'think') == 1.0


def test_direct_replies():
  parsed = format_lib.parse(' <answer>work</answer>\n', 'direct')
  assert parsed == format_lib.Parsed('', 'work', True, '')


BROKEN = [
  ('think', '', 'missing_think'),
  ('think', 'just text', 'missing_think'),
  ('think', '<answer>work</answer>', 'missing_think'),
  ('think', '<THINK>plan</THINK><answer>work</answer>', 'missing_think'),
  ('think', 'plan</think><answer>work</answer>', 'unopened_think'),
  ('think', '<think>plan', 'unclosed_think'),
  ('think', '<think>plan<answer>work</answer>', 'unclosed_think'),
  ('think', '<think>plan</Think><answer>work</answer>', 'unclosed_think'),
  ('think', '<think>a</think><think>b</think><answer>work</answer>', 'repeated_think'),
  ('think', '<think>a</think><answer>work</answer><think>b</think>', 'repeated_think'),
  ('think', '<think> \n</think><answer>work</answer>', 'empty_think'),
  ('think', '<think></think><answer>work</answer>', 'empty_think'),
  ('think', '<think>plan</think>', 'missing_answer'),
  ('think', '<think>plan</think>work', 'missing_answer'),
  ('think', '<think>plan</think><ANSWER>work</ANSWER>', 'missing_answer'),
  ('think', '<think>plan</think>work</answer>', 'unopened_answer'),
  ('think', '<think>plan</think><answer>work', 'unclosed_answer'),
  ('think', '<think>plan</think><answer>work</ANSWER>', 'unclosed_answer'),
  ('think', '<think>plan</think><answer>a</answer><answer>b</answer>', 'repeated_answer'),
  ('think', '<think>plan</think><answer>\n</answer>', 'empty_answer'),
  ('think', '<answer>work</answer><think>plan</think>', 'wrong_order'),
  ('think', '<think>plan<answer>work</answer></think>', 'nested'),
  ('think', '<think>plan<answer>inside</answer></think><answer>work</answer>', 'nested'),
  ('think', '<think>a<think>b</think></think><answer>work</answer>', 'nested'),
  ('think', '<think>plan</think><answer>a<answer>b</answer></answer>', 'nested'),
  ('think', '<think>plan</think><answer>a<think>b</think></answer>', 'nested'),
  ('think', '<think>plan</think></think><answer>work</answer>', 'stray_tag'),
  ('think', '<think>plan</think><answer>work</answer></answer>', 'stray_tag'),
  ('think', '<think>plan</think><answer>work</answer> thanks', 'text_outside'),
  ('think', 'Sure! <think>plan</think><answer>work</answer>', 'text_outside'),
  ('think', '<think>plan</think> so <answer>work</answer>', 'text_outside'),
  ('direct', '', 'missing_answer'),
  ('direct', 'work', 'missing_answer'),
  ('direct', 'work</answer>', 'unopened_answer'),
  ('direct', '<answer>work', 'unclosed_answer'),
  ('direct', '<answer> </answer>', 'empty_answer'),
  ('direct', '<answer>a</answer><answer>b</answer>', 'repeated_answer'),
  ('direct', '<answer>a<answer>b</answer>', 'nested'),
  ('direct', '<think>plan</think><answer>work</answer>', 'unexpected_think'),
  ('direct', '<answer>a<think>b</answer>', 'unexpected_think'),
  ('direct', 'Here: <answer>work</answer>', 'text_outside'),
  ('direct', '<answer>work</answer>.', 'text_outside'),
]


@pytest.mark.parametrize(('style', 'reply', 'fault'), BROKEN)
def test_broken_replies_are_named_and_worth_nothing(style, reply, fault):
  parsed = format_lib.parse(reply, style)
  assert (parsed.valid, parsed.fault) == (False, fault)
  assert format_lib.format_reward(reply, style) == 0.0


def test_every_fault_is_listed_and_every_listed_one_occurs():
  assert {fault for _, _, fault in BROKEN} == set(format_lib.FAULTS)


def test_broken_replies_keep_what_they_have():
  parsed = format_lib.parse('<think>plan<answer>wor', 'think')
  assert (parsed.think, parsed.answer) == ('plan', 'wor')
  assert format_lib.parse('text', 'think').answer == ''


def test_unknown_style():
  with pytest.raises(ValueError, match='style'):
    format_lib.parse('<answer>x</answer>', 'Think')


PARTS = st.sampled_from(
  ['<think>', '</think>', '<answer>', '</answer>', '<Think>', 'word', ' ', '\n', '<', '写']
)


@settings(max_examples=500, deadline=None)
@given(st.lists(PARTS, max_size=9), st.sampled_from(['think', 'direct']))
def test_valid_is_exactly_the_protocol(parts, style):
  reply = ''.join(parts)
  inner = r'((?:(?!</?(?:think|answer)>).)*)'
  pattern = rf'\s*<answer>{inner}</answer>\s*'
  if style == 'think':
    pattern = rf'\s*<think>{inner}</think>' + pattern
  match = re.fullmatch(pattern, reply, re.DOTALL)
  parsed = format_lib.parse(reply, style)
  assert parsed.valid == (match is not None and all(group.strip() for group in match.groups()))
  assert (parsed.fault == '') == parsed.valid
  assert parsed.fault == '' or parsed.fault in format_lib.FAULTS
  if parsed.valid:
    assert [parsed.think, parsed.answer][-len(match.groups()) :] == list(match.groups())


# --- redundancy: cheats


@pytest.mark.parametrize('lines', [ENGLISH, CHINESE], ids=['en', 'zh'])
def test_a_text_of_its_own_repeats_nothing(lines):
  assert format_lib.redundancy(joined(lines)) == 0.0


@pytest.mark.parametrize('lines', [ENGLISH, CHINESE], ids=['en', 'zh'])
@pytest.mark.parametrize('copies', [2, 5, 50])
def test_a_looped_sentence_is_new_once(lines, copies):
  got = format_lib.redundancy(joined([lines[0]] * copies))
  assert got == pytest.approx(1 - 1 / copies)


@pytest.mark.parametrize('lines', [ENGLISH, CHINESE], ids=['en', 'zh'])
def test_repeated_paragraphs_in_another_order(lines):
  first, second = joined(lines[:5]), joined(lines[5:])
  assert format_lib.redundancy('\n\n'.join([first, second, second, first])) == pytest.approx(0.5)
  again = lines[:]
  random.Random(0).shuffle(again)
  assert format_lib.redundancy(joined(lines) + '\n\n' + joined(again)) == pytest.approx(0.5)


@pytest.mark.parametrize('lines', [ENGLISH, CHINESE], ids=['en', 'zh'])
def test_paraphrase_by_reordered_words(lines):
  rng = random.Random(1)
  copies = [shuffled(line, rng) for _ in range(4) for line in lines]
  assert format_lib.redundancy('\n'.join(lines + copies)) > 0.75  # 0.8 is all of it


def test_paraphrase_by_substituted_words():
  copies = [substituted(line) for line in ENGLISH]
  assert all(a != b for a, b in zip(ENGLISH, copies, strict=True) if a != ENGLISH[3])
  assert format_lib.redundancy(joined(ENGLISH + copies)) > 0.45  # 0.5 is all of it
  rng = random.Random(2)
  both = [shuffled(line, rng) for line in copies]
  assert format_lib.redundancy(joined(ENGLISH + both)) > 0.45


def test_paraphrase_in_chinese_by_substituted_words():
  copy = '早上的雾从江面升起，渔船在微光里缓缓离开码头。'
  assert format_lib.redundancy(CHINESE[0] + ''.join(CHINESE[1:5]) + copy) > 0.15  # of 1 / 6


@pytest.mark.parametrize('lines', [ENGLISH, CHINESE], ids=['en', 'zh'])
def test_paraphrase_by_merged_sentences(lines):
  rng = random.Random(3)
  link = ' and ' if lines is ENGLISH else '，'
  merged = [
    shuffled(a.rstrip('.。') + link + b, rng) for a, b in zip(lines[::2], lines[1::2], strict=True)
  ]
  assert format_lib.redundancy(joined(lines) + '\n\n' + joined(merged)) > 0.4


@pytest.mark.parametrize(
  'loop',
  [
    'word ' * 200,
    'go home now ' * 100,
    'the cat sat on the mat ' * 60,  # without punctuation
    ' '.join(w.strip('.,') for w in joined(ENGLISH[:3]).split()) * 10,
    '今天天气很好我们去公园散步' * 30,
    '哈' * 200,
    ''.join(f'Item {i}: buy milk and bread.\n' for i in range(100)),
    ''.join(f'{i} go on ' for i in range(100)),  # a counter hides nothing
    '\n'.join(['- **Note:** see above'] * 50),
  ],
  ids=['word', 'three', 'phrase', 'passage', 'zh', 'ha', 'items', 'counter', 'list'],
)
def test_loops(loop):
  assert format_lib.redundancy(loop) > 0.85


def test_word_salad_from_few_words():
  rng = random.Random(4)
  vocabulary = sorted(text.content(text.words(' '.join(ENGLISH).lower())))[:25]
  salad = ' '.join(rng.choice(vocabulary) for _ in range(2000))
  assert format_lib.redundancy(salad) > 0.8
  sentences = '. '.join(' '.join(rng.sample(vocabulary, 12)) for _ in range(150)) + '.'
  assert format_lib.redundancy(sentences) > 0.6


def test_padding_hidden_in_honest_prose():
  padding = joined([substituted(ENGLISH[4]), *ENGLISH[:4]])
  honest = TOPICS['import']
  assert format_lib.redundancy(honest + '\n\n' + padding) < format_lib.redundancy(
    honest + '\n\n' + '\n\n'.join([padding] * 20)
  )


def test_reward_is_what_is_new():
  loop = joined([ENGLISH[0]] * 4)
  assert format_lib.format_reward(f'<answer>{loop}</answer>', 'direct') == pytest.approx(0.25)
  reply = f'<think>{loop}</think><answer>{joined(ENGLISH)}</answer>'
  assert format_lib.format_reward(reply, 'think') == 1.0


# --- redundancy: honest texts


def test_honest_prose_is_near_zero():
  got = {name: format_lib.redundancy(topic) for name, topic in TOPICS.items()}
  assert len(got) > 25
  # The highest are reference lists of parallel sentences: 'Return true if all characters in ...'.
  assert statistics.mean(got.values()) < 0.1, got
  assert statistics.median(got.values()) < 0.08, got
  assert max(got.values()) < 0.3, got


def test_honest_prose_stays_near_zero_when_long():
  chosen = [
    'import',
    'execmodel',
    'objects',
    'types',
    'with',
    'try',
    'naming',
    'yield',
    'exprlists',
  ]
  topics = pydoc_data.topics.topics
  paragraphs = '\n\n'.join(topics[name] for name in chosen if name in topics).split('\n\n')
  assert format_lib.redundancy('\n\n'.join(dict.fromkeys(paragraphs))) < 0.1


@pytest.mark.parametrize(
  'short', ['', ' \n', '...', '!!!!', 'Yes', '你好', 'A b c.', '1 2 3 1 2 3']
)
def test_short_texts_repeat_nothing(short):
  assert format_lib.redundancy(short) == 0.0


def test_two_sentences_of_one_topic_are_not_paraphrases():
  given = 'The quick brown fox jumps over the lazy dog. The dog chases a fox through the dark wood.'
  assert format_lib.redundancy(given) == 0.0


def test_code_in_prose_does_not_explode():
  line = '  {0}[{1}] = load(*kind[{1}], **table[{0}], width=(left, right), name=[{0}], fill=None)'
  code = '\n'.join(line.format(*pair) for pair in SYNONYMS.items())
  got = format_lib.redundancy(joined(ENGLISH[:5]) + '\n\n' + code + '\n\n' + joined(ENGLISH[5:]))
  assert got < 0.05


def test_a_list_in_prose_does_not_explode():
  items = ['milk', 'bread', 'two lemons', 'rice', 'green tea', 'salt', 'a kilo of flour', 'eggs']
  got = format_lib.redundancy(joined(ENGLISH) + '\n\n' + '\n'.join('- ' + item for item in items))
  assert got == 0.0


# Public law of China, by title; two end at the article that is named.
HERE = pathlib.Path(__file__).parent
LAWS = [json.loads(line) for line in (HERE / 'laws.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('law', LAWS, ids=[law['title'][:4] for law in LAWS])
def test_terms_and_frames_of_a_law_are_no_repetition(law):
  assert format_lib.redundancy(law['text']) <= 0.12


@pytest.mark.parametrize('law', LAWS, ids=[law['title'][:4] for law in LAWS])
@pytest.mark.parametrize(
  ('cheat', 'padding', 'seen'),
  [('paraphrase_padding', 2 / 3, 0.9), ('reordered_padding', 0.5, 0.7), ('framed', 0.4, 0.9)],
)
def test_padding_of_a_law_is_seen(law, cheat, padding, seen):
  padded = getattr(cheats, cheat)(law['text'], random.Random(0))
  assert format_lib.redundancy(padded) > seen * padding


def test_headings_lists_and_tables_of_a_report_are_no_repetition():
  parts = []
  for i, paragraph in enumerate(prose.REPORT_CHINESE.strip().split('\n\n')):
    rows = [
      f'| {name} | 水务部门 | {10 * i + j} | 进行中 |' for j, name in enumerate(('管网', '泵站'))
    ]
    table = '\n'.join(['| 项目 | 负责单位 | 进度 | 状态 |', '|---|---|---|---|', *rows])
    parts.append(f'## 第{i + 1}节\n\n### 主要进展\n\n{paragraph}\n\n### 附表\n\n{table}')
  report = '\n\n'.join(parts)
  assert format_lib.redundancy(report) < 0.01
  for more in ('### 主要进展\n\n', '- 负责单位：水务部门\n', '| 管网 | 水务部门 | 进行中 |\n'):
    looped = report + '\n\n' + 100 * more
    num = len(text.words(100 * more)) / len(text.words(looped))
    assert format_lib.redundancy(looped) > num - 0.1, more


# --- redundancy: laws

VOCABULARY = [*'abcdefghij', 'the', 'of', 'and', '河', '水', '很', '高']
SENTENCES = st.lists(
  st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=14).map(lambda w: ' '.join(w) + '.'),
  min_size=1,
  max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(SENTENCES, st.data())
def test_appending_a_copy_never_lowers_it(lines, data):
  before = format_lib.redundancy(' '.join(lines))
  first = data.draw(st.integers(0, len(lines) - 1))
  last = data.draw(st.integers(first, len(lines) - 1))
  gap = data.draw(st.sampled_from([' ', '\n', '\n\n']))
  after = format_lib.redundancy(' '.join(lines) + gap + ' '.join(lines[first : last + 1]))
  assert after >= before - 1e-12


def test_appending_a_copy_never_lowers_it_in_real_prose():
  rng = random.Random(5)
  for topic in list(TOPICS.values())[:12]:
    grown = topic.rstrip() + '\n\n'
    value = format_lib.redundancy(grown)
    for _ in range(6):
      piece = rng.choice([text.sentences(topic), topic.split('\n\n')])
      grown += rng.choice(piece).strip() + '\n\n'
      assert format_lib.redundancy(grown) >= value - 1e-12
      value = format_lib.redundancy(grown)


@settings(max_examples=100, deadline=None)
@given(SENTENCES, SENTENCES)
def test_appending_never_redeems(lines, more):
  def marked(given_lines):
    words = sum(len([w for w in text.words(x) if not w.isdigit()]) for x in given_lines)
    return format_lib.redundancy(' '.join(given_lines)) * words

  assert marked(lines + more) >= marked(lines) - 1e-9


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_it_is_a_share_of_any_text(given_text):
  assert 0.0 <= format_lib.redundancy(given_text) <= 1.0
  assert format_lib.redundancy(given_text) == format_lib.redundancy(given_text)


@pytest.mark.parametrize('chain', ['river-' * 500 + 'x', "don't-" * 300 + 'x', 'a’b’' * 200])
def test_a_chain_of_words_is_its_links(chain):
  assert format_lib.redundancy(chain) > 0.9
  assert format_lib.redundancy('A state-of-the-art mother-in-law can’t be had.') == 0


@pytest.mark.parametrize('unit', ['a', 'abc', '1', 'ab1', '啊', 'ж'])
def test_one_endless_word_repeats_itself(unit):
  assert format_lib.redundancy(unit * 20_000) > 0.9
  assert format_lib.redundancy('An essay. ' + unit * 20_000) > 0.9


@pytest.mark.parametrize('between', [' ', ', ', '\n', '.\n', ' | '])
def test_counting_is_no_text(between):
  numbers = between.join(map(str, range(3_000)))
  assert format_lib.redundancy(numbers) == 1.0
  assert format_lib.redundancy('An essay. ' + numbers + between + 'The end.') > 0.9
  assert format_lib.redundancy(between.join(map(str, range(100)))) == 0.0
