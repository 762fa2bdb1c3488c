"""The quality score is that of eval_quality.py; a reply without six scores is none."""

import json
import math

import pytest

from lwz.evals import longbench

GOOD = dict(zip(longbench.DIMENSIONS, (5, 4, 3, 2, 1, 5), strict=True))


def eval_quality(all_scores):
  """LongWriter's eval_quality.py, restated."""
  total = {}
  for dim in longbench.DIMENSIONS:
    scores = [float(score[dim]) for score in all_scores]
    total[dim] = ((sum(scores) / len(scores)) - 1) * 25
  total['S_q'] = sum(total.values()) / len(total)
  return total


def test_the_arithmetic_is_eval_quality():
  replies = [GOOD, dict.fromkeys(longbench.DIMENSIONS, 4), GOOD | {'Clarity': '3'}]
  texts = [json.dumps({'Analysis': 'Fine.'} | reply) for reply in replies]
  found = [longbench.read(text) for text in texts]
  assert longbench.quality(found) == pytest.approx(eval_quality(replies))
  assert longbench.quality([dict.fromkeys(longbench.DIMENSIONS, 5.0)])['S_q'] == 100
  assert math.isnan(longbench.quality([])['S_q'])


@pytest.mark.parametrize(
  'reply, right',
  [
    (f'```json\n{json.dumps(GOOD)}\n```', GOOD),
    (f'<think>{json.dumps(GOOD | {"Clarity": 1})}</think>{json.dumps(GOOD)}', GOOD),
    (f'First: {json.dumps(GOOD | {"Clarity": 1})}. On reflection: {json.dumps(GOOD)}', GOOD),
    (json.dumps({name.lower(): value for name, value in GOOD.items()}), GOOD),
    (json.dumps({k: v for k, v in GOOD.items() if k != 'Clarity'}), None),
    (json.dumps(GOOD | {'Clarity': 6}), None),
    (json.dumps(GOOD | {'Clarity': 0}), None),
    (json.dumps(GOOD | {'Clarity': True}), None),
    (json.dumps(GOOD | {'Clarity': 10**400}), None),
    (json.dumps(GOOD | {'Clarity': 'good'}), None),
    (json.dumps(GOOD)[:-1] + ', "Clarity": 5}', None),  # 2 before
    ('All are 5.', None),
    ('', None),
  ],
)
def test_what_counts_as_a_reply(reply, right):
  assert longbench.read(reply) == right


def test_the_published_prompt_is_used_word_for_word(tmp_path):
  file = tmp_path / 'bench.jsonl'
  assert longbench.prompt(file) == (longbench.OWN, 'own wording')
  (tmp_path / 'judge.txt').write_text('Ask: $INST$ Said: $RESPONSE$')
  found, source = longbench.prompt(file)
  assert source == 'the benchmark’s judge.txt'
  asked = longbench.messages(found, 'write $RESPONSE$', 'so $INST$')
  assert asked == [{'role': 'user', 'content': 'Ask: write $RESPONSE$ Said: so $INST$'}]
  turned = longbench.messages('$RESPONSE$ for $INST$', 'write', 'so $INST$')
  assert turned[0]['content'] == 'so $INST$ for write'
  (tmp_path / 'judge.txt').write_text('Nothing')
  with pytest.raises(ValueError, match='restore the published file'):
    longbench.prompt(file)
