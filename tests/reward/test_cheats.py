"""Policies that cheat lose reward, or ring the alarm that is meant for them; honest prose neither.

Every cheat is played on several texts in English and Chinese (tests/cheats.py, tests/prose.py).
"""

import functools
import json
import random

import numpy as np
import pytest

from lwz import text as texts
from lwz import types
from lwz.reward import components as components_lib
from lwz.reward import format as format_lib
from lwz.reward.hacking import monitor
from tests import cheats, prose

PROMPTS = {
  'en': 'Write an essay about a place that is no longer there, in your own words.',
  'zh': '写一篇关于一个已经不在的地方的文章，要求语言朴素、细节真实。',
}
NAMES = ('length', 'writing', 'format')
THINK = {
  'en': 'A plan: begin with the place, end with what is left of it.',
  'zh': '先写地方，再写人。',
}


@functools.cache
def honest():
  """Name -> text. The documents are those with sentences of the usual length."""
  long = [t for t in prose.documents(300) if len(t.split()) < 22 * len(texts.sentences(t))]
  documents = {f'document-{i}': long[i] for i in range(0, len(long), max(len(long) // 6, 1))}
  return documents | {
    'essay': prose.ENGLISH,
    'story-zh': prose.CHINESE,
    'report-zh': prose.REPORT_CHINESE,
  }


def sample(answer, lang, *, think=None, lower=100, upper=3_000, style='think'):
  think = THINK[lang] if think is None else think
  text = f'<think>{think}</think>\n<answer>{answer}</answer>'
  return of(text, lang, lower, upper, style)


def of(text, lang, lower=100, upper=3_000, style='think'):
  prompt = types.Prompt('p', PROMPTS[lang], lower, upper)
  return components_lib.Sample(prompt, text, format_lib.parse(text, style))


def watch(samples, writing=None, **more):
  """The monitor on one group, judged by the rule rewards and `writing`."""
  values = np.full(len(samples), 0.5) if writing is None else np.asarray(writing, np.float64)
  length = functools.partial(components_lib.length, max_words=14_000)
  by = {'length': length(samples), 'writing': values, 'format': components_lib.format(samples)}
  scores = components_lib.scores(by, more.pop('num_prompts', 1))
  return monitor.observe(samples, scores, NAMES, **({'state': {}, 'heldout_of': 'writing'} | more))


def rang(watched):
  return {alarm.rule.name for alarm in watched.alarms}


# cheat -> the most that is left of the format reward, and the alarms of which one has to ring
CHEATS = {
  'looped_sentence': (0.3, {'repetition'}),
  'looped_with_counter': (0.3, {'repetition'}),
  'paraphrase_padding': (0.67, {'repetition'}),
  'reordered_padding': (0.67, {'repetition'}),
  'framed': (0.75, {'repetition'}),
  'shuffled_paragraphs': (0.6, {'repeated_paragraphs', 'repeated_sentences'}),
  'word_salad': (1.0, {'shuffled_words'}),
  'content_salad': (1.0, {'word_list'}),
  'keyword_stuffing': (1.0, {'keyword_stuffing'}),
  'keyword_list': (1.0, {'word_list', 'shuffled_words'}),
  'language_switching': (1.0, {'language'}),
  'tag_stuffing': (1.0, {'tags'}),
}


@pytest.mark.parametrize('name', sorted(honest()))
def test_honest_prose_loses_nothing_and_rings_nothing(name):
  text = honest()[name]
  given = sample(text, cheats.language(text))
  assert format_lib.format_reward(given.text, 'think') > 0.85
  assert rang(watch([given])) == set()


@pytest.mark.parametrize('cheat', CHEATS)
def test_a_cheat_pays_or_is_seen(cheat):
  left, expected = CHEATS[cheat]
  for name, text in honest().items():
    lang = cheats.language(text)
    given = sample(getattr(cheats, cheat)(text, random.Random(name)), lang)
    got = rang(watch([given]))
    assert format_lib.format_reward(given.text, 'think') <= left, (cheat, name)
    assert got & expected, (cheat, name, got)


def test_words_chained_to_cheat_the_counter():
  given = sample(cheats.counter_stuffing(prose.ENGLISH, random.Random(0)), 'en')
  assert 'overcounted' in rang(watch([given]))


def test_a_few_cheats_among_many_are_enough():
  group = [sample(text, 'en') for text in prose.documents(150)[:28]]
  assert rang(watch(group)) == set()
  loops = [sample(cheats.looped_sentence(prose.ENGLISH, random.Random(i)), 'en') for i in range(4)]
  watched = watch(group + loops)
  alarm = next(a for a in watched.alarms if a.rule.name == 'repetition')
  assert set(alarm.samples) <= {28, 29, 30, 31} and len(alarm.samples) == 3


STRUCTURES = [
  ('<think></think><answer>{}</answer>', 'empty_think'),
  ('<think> \n\t</think><answer>{}</answer>', 'empty_think'),
  ('<think>\u200b\u200b\u2060</think><answer>{}</answer>', 'empty_think'),
  ('<think>{}<answer>{}</answer></think>', 'broken_structure'),
  ('<think>{}</think><answer>{}</answer><answer>{}</answer>', 'broken_structure'),
  ('<think>a<think>b</think></think><answer>{}</answer>', 'broken_structure'),
  ('<think>plan</think><answer>{}', 'broken_structure'),
  ('<think>plan<answer>{}</answer>', 'broken_structure'),
  ('<think>plan</think><ANSWER>{}</ANSWER>', 'broken_structure'),
]


@pytest.mark.parametrize('lang', ['en', 'zh'])
@pytest.mark.parametrize(('form', 'alarm'), STRUCTURES)
def test_broken_structures_are_worth_nothing(lang, form, alarm):
  text = form.replace('{}', prose.ENGLISH if lang == 'en' else prose.CHINESE)
  given = of(text, lang)
  assert format_lib.format_reward(text, 'think') == 0
  assert components_lib.length([given], max_words=14_000) == 0
  assert alarm in rang(watch([given]))


@pytest.mark.parametrize('think', ['...', '——', '* * *'])
def test_thoughts_without_a_word_ring(think):
  assert rang(watch([sample(prose.ENGLISH, 'en', think=think)])) == {'empty_think'}


@pytest.mark.parametrize('lang', ['en', 'zh'])
def test_copies(lang):
  text = prose.ENGLISH if lang == 'en' else prose.CHINESE
  assert 'copied_think' in rang(watch([sample(text, lang, think='Draft: ' + text)]))
  copied = sample(PROMPTS[lang] + '\n' + text[: 150 if lang == 'en' else 60], lang)
  assert 'copied_prompt' in rang(watch([copied]))
  assert not rang(watch([sample(text, lang, think=text[: len(text) // 8])]))


@pytest.mark.parametrize('lang', ['en', 'zh'])
def test_the_other_language_altogether(lang):
  text = prose.CHINESE if lang == 'en' else prose.ENGLISH
  assert 'language' in rang(watch([sample(text, lang)]))


def test_a_request_may_name_the_language_of_the_answer():
  for request, text, wanted in [
    ('请用英文写一篇文章。', prose.ENGLISH, set()),
    ('Write a story in Chinese.', prose.CHINESE, set()),
    ('请用中文写一篇文章。', prose.ENGLISH, {'language'}),
    ('Translate this essay into Chinese.', prose.ENGLISH, set()),
  ]:
    reply = f'<answer>{text}</answer>'
    prompt = types.Prompt('p', request, 100, 3_000)
    given = components_lib.Sample(prompt, reply, format_lib.parse(reply, 'direct'))
    assert rang(watch([given])) == wanted, request


# --- cheats that show only in a step, or in a run


def cut(text, num):
  return ' '.join(text.split()[:num])


def test_lengths_at_the_edge_of_the_range():
  num = len(prose.ENGLISH.split())
  spread = [sample(cut(prose.ENGLISH, num - 40 * i), 'en', lower=150, upper=600) for i in range(8)]
  assert 'length_edge' not in rang(watch(spread))
  edge = [sample(cut(prose.ENGLISH, n), 'en', lower=300, upper=900) for n in range(296, 304)]
  watched = watch(edge)
  assert 'length_edge' in rang(watched)
  assert watched.metrics['edge/lower'] > 0.8 and watched.metrics['edge/upper'] == 0


def test_texts_that_end_at_the_cap():
  group = [sample(prose.ENGLISH, 'en')] * 4
  assert not rang(watch(group, finished_B=np.array([True] * 4)))
  watched = watch(group, finished_B=np.array([True, False, False, True]))
  alarm = next(a for a in watched.alarms if a.rule.name == 'cap_hit')
  assert (alarm.value, watched.metrics['eos']) == (0.5, 0.5) and set(alarm.samples[:2]) == {1, 2}


def test_a_writing_reward_that_is_length():
  rng = np.random.default_rng(0)
  group = [sample(cut(prose.ENGLISH, 100 + 15 * i), 'en') for i in range(20)]
  length = np.linspace(0.2, 0.9, 20)
  assert 'length_bias' in rang(watch(group, length + 0.02 * rng.standard_normal(20)))
  assert 'length_bias' not in rang(watch(group, rng.permutation(length)))


def grouped(found, stuffed=False):
  """Two answers to each of several requests, as one step."""
  samples = []
  for i, text in enumerate(found):
    for part in (text[: len(text) // 2], text[len(text) // 2 :]):
      answer = part
      if stuffed:  # too thin for the alarm of a single text
        sentences = part.split('. ')
        answer = '. '.join(
          s + (', a tapestry of sorts' if j % 3 == 0 else '') for j, s in enumerate(sentences)
        )
      reply = f'<answer>{answer}</answer>'
      prompt = types.Prompt(str(i), f'Describe subject {i}.', 50, 3_000)
      samples.append(components_lib.Sample(prompt, reply, format_lib.parse(reply, 'direct')))
  return samples


def test_a_word_that_comes_to_stand_in_all_answers():
  found, state = prose.documents(300)[:12], {}
  for step, chosen in enumerate((found[:4], found[4:8], found[8:12])):
    watched = watch(grouped(chosen), num_prompts=4, state=state)
    state = json.loads(json.dumps(watched.state))  # a checkpoint holds it
    assert 'keyword_lift' not in rang(watched), (step, watched.keywords)
  watched = watch(grouped(found[:8], stuffed=True), num_prompts=8, state=state)
  assert 'keyword_lift' in rang(watched)
  assert {'tapestry', 'sort'} <= {word for word, _ in watched.keywords[:3]}


def test_a_reward_model_that_is_exploited_leaves_the_other_behind():
  group = [sample(prose.ENGLISH, 'en')] * 4
  first = watch(group, np.full(4, 0.5), heldout_B=np.full(4, 0.45))
  fair = watch(group, np.full(4, 0.7), heldout_B=np.full(4, 0.66), state=first.state)
  hacked = watch(group, np.full(4, 0.9), heldout_B=np.full(4, 0.5), state=first.state)
  assert 'heldout_gap' not in rang(fair)
  assert 'heldout_gap' in rang(hacked)
  assert hacked.metrics['heldout/gap'] == pytest.approx(0.4)
  assert hacked.metrics['heldout/gap_rise'] == pytest.approx(0.35)
