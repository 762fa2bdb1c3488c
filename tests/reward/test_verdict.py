"""A policy that judges is paid for the right verdict, in whatever order the texts stand."""

import json

import numpy as np
import pytest

from experiments import grpo_judge
from lwz import types
from lwz.data import comparisons, prompts
from lwz.evals import arena
from lwz.reward import components, verdict
from lwz.reward import format as format_lib
from lwz.rl import judged
from lwz.stages import grpo

PAIR = {'prompt': 'Ode.', 'chosen': 'The {better}.', 'rejected': 'The [[B]] worse.', 'source': 's'}


def sample(prompt, answer):
  text = f'<answer>{answer}</answer>'
  return components.Sample(prompt, text, format_lib.parse(text, 'direct'))


def values(samples):
  return verdict.right(samples, read=arena.verdict).tolist()


def test_the_better_text_is_right_in_both_orders_and_a_place_in_one():
  both = comparisons.prompts(PAIR)
  assert [values([sample(p, f'It is [[{l}]]') for p in both]) for l in 'ABC'] == [
    [1.0, 0.0],
    [0.0, 1.0],
    [0.0, 0.0],
  ]
  better = [
    sample(p, f'[[{"AB"[p.text.index("worse") < p.text.index("{better}")]}]]') for p in both
  ]
  assert values(better) == [1.0, 1.0]
  broken = components.Sample(both[0], '[[A]]', format_lib.parse('[[A]]', 'direct'))
  assert values([broken, sample(both[0], 'Neither of them, or both.')]) == [0.0, 0.0]


def test_pairs_of_a_file_are_prompts_and_a_pair_counts_once(tmp_path):
  path = tmp_path / 'pairs.jsonl'
  own = {'text': 'Write.', 'lower': 1, 'upper': 2}
  path.write_text(''.join(json.dumps(r) + '\n' for r in (PAIR, own, PAIR)))
  found = prompts.load(path)
  assert [p.references for p in found] == [('[[A]]',), ('[[B]]',), ()]
  assert found[:2] == comparisons.prompts(PAIR) and len({p.id for p in found}) == 3
  path.write_text(json.dumps(PAIR | {'chosen': ' '}) + '\n')
  with pytest.raises(ValueError, match=r"pairs\.jsonl:1: 'chosen' is empty"):
    prompts.load(path)


def test_pairs_are_read_and_checked_as_those_of_a_reward_model(tmp_path):
  path = tmp_path / 'pairs.jsonl'
  turn = {'role': 'assistant', 'content': PAIR['chosen']}
  path.write_text(json.dumps(PAIR | {'chosen': [turn]}))
  assert prompts.load(path) == comparisons.prompts(PAIR)
  path.write_text(json.dumps(PAIR | {'chosen': PAIR['rejected'] + ' '}))
  with pytest.raises(ValueError, match="'chosen' and 'rejected' are equal"):
    prompts.load(path)
  turned = PAIR | {'chosen': PAIR['rejected'], 'rejected': PAIR['chosen']}
  path.write_text(json.dumps(PAIR) + '\n' + json.dumps(turned))
  with pytest.raises(ValueError, match=r'pairs\.jsonl:2: .* with another better answer'):
    prompts.load(path)


def test_both_orders_of_a_pair_are_on_one_side_of_a_split():
  pairs = [PAIR | {'prompt': f'Ode {i}.'} for i in range(40)]
  pairs += [PAIR | {'prompt': f'写 {i}。'} for i in range(40)]
  sides = prompts.split([p for pair in pairs for p in comparisons.prompts(pair)], 0.5)
  kept, tested = ({comparisons.request(p.text) for p in side} for side in sides)
  assert kept | tested == {pair['prompt'] for pair in pairs} and not kept & tested
  assert 20 < len(tested) < 60 and comparisons.request('Write.') == 'Write.'


def test_a_prompt_that_asks_for_no_verdict_is_named():
  for references in ((), ('A text.',)):
    with pytest.raises(ValueError, match="prompt 'p' has none: name preference pairs"):
      values([sample(types.Prompt('p', 'Write.', 1, 2, references=references), '[[A]]')])


def test_prompts_without_a_verdict_are_refused_before_a_run():
  c = grpo_judge.get_config('micro')
  judged.check_prompts(c, comparisons.prompts(PAIR))
  c.data.prompts = ''
  with pytest.raises(ValueError, match=r'the last reference of a prompt, and prompt .* has none'):
    grpo.check(c)


def test_both_languages_ask_for_the_same():
  chinese = comparisons.prompts({'prompt': '写一首诗。', 'chosen': '好。', 'rejected': '坏。'})
  assert [p.language for p in chinese] == ['zh', 'zh']
  assert np.all([values([sample(p, p.references[0])]) == [1.0] for p in chinese])
