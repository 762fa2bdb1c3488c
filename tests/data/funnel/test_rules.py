"""Cheap rules, the judge made of rules, and the made-up conversations that both are shown on."""

import pytest

from lwz import types
from lwz.data.funnel import assessor, conversations, embedded_conversations, offline_rules, rules


def reason(text, **change):
  row = conversations.Row('f', 0, text)._replace(**change)
  found = rules.reject(row, rules.Limits(max_chars=2_000))
  return found and found[0]


@pytest.mark.parametrize(
  'text, expected',
  [
    ('Write an essay about the Python programming language.', None),
    ('Write a short story about a man who has to translate a poem', None),
    ('Act as a historian and write a report on the Silk Road.', None),
    ('How do I start writing my thesis from scratch?', None),
    ('Describe the city of the future at length', None),
    ('写一篇关于翻译史的论文', None),
    ('请写一个小说，主角是程序员', None),
    ('Write a script for a play about debugging', None),
    ('Write hi.', 'too short'),
    ('word ' * 500, 'too long'),
    ('写', 'too short'),
    ('Write a story about NAME_1 and his dog', 'redacted'),
    ('Escribe una historia sobre el zorro y la gallina', 'language'),
    (
      'As a prompt generator for a generative AI called "Midjourney" describe a fox',
      'image prompt',
    ),
    ('Please write a python function that sorts a list', 'code'),
    ('What is wrong here?\n```\nprint(1\n```', 'code'),
    ('帮我写一个爬虫的代码', 'code'),
    ('Solve 3x + 5 = 20 for x', 'maths'),
    ('证明 a+b=b+a 成立', 'maths'),
    ('Pretend to be a pirate and talk to me', 'role play'),
    ('你现在扮演我的女朋友', 'role play'),
    ('Could you please summarize the following essay: rivers are long.', 'edits a text'),
    ('请帮我把这段话翻译成英文', 'edits a text'),
    ('请把下面这段话润色一下：河很长', 'edits a text'),
    ('What is the capital of France?', 'short answer'),
    ('法国的首都是什么城市，是谁建的', 'short answer'),
    ('Hello there, my dear assistant', 'small talk'),
    ('Write a story about a fox in 100 words', 'asks for little'),
    ('写一个200字以内的故事', 'asks for little'),
    ('Invent a slogan for my bakery', 'asks for little'),
  ],
)
def test_rules_have_names(text, expected):
  assert reason(text) == expected
  assert expected is None or expected in rules.REASONS


def test_the_set_has_the_first_word():
  assert reason('Write an essay.', fault='broken') == 'unreadable'
  assert reason('Write an essay.', held='flagged') == 'flagged'
  assert reason('Write an essay please.', language='Spanish') == 'language'
  assert reason('Escribe una historia sobre el zorro', language='English') is None


@pytest.mark.parametrize(
  'query, keeps, length',
  [
    ('Write a 2,000-word essay', True, (1800, 2200)),
    ('Write a story', True, (1000, 2500)),
    ('写一篇毕业论文', True, (7000, 10000)),
    ('Rivers are nice', False, (0, 0)),
    ('Write a report on the attached document', False, (0, 0)),
  ],
)
def test_the_offline_judge_answers_what_it_is_asked(query, keeps, length):
  first, second = (
    offline_rules.reply(assessor.messages(question, query))
    for question in (assessor.FILTER, assessor.ASSESS)
  )
  assert assessor.parse_keep(first) is keeps
  assert assessor.parse_range(second) == length


def test_made_up_conversations_are_functions_of_their_place():
  documents = [types.Document(f'title {i}', f'text {i} ' * 40, 's') for i in range(9)]
  records = list(embedded_conversations.records(documents, 300))
  assert list(embedded_conversations.records(documents, 100)) == records[:100]
  rows = [conversations.from_record(r, 'f', i) for i, r in enumerate(records)]
  assert len({row.key for row in rows}) == 300 and len({row.text for row in rows}) < 290
  found = {(rules.reject(row, rules.Limits()) or ('kept',))[0] for row in rows}
  assert found == {'kept', *rules.REASONS} - {'unreadable', 'too long'}
