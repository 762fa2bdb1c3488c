"""What is said of a reward model at its end, and how one is found that judges others' texts."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import base, grpo_judge, reward_model
from lwz import types
from lwz.data import preferences, tokenizer
from lwz.programs import language_model
from lwz.reward import writing
from lwz.rl import registry
from lwz.runtime import keys, preference_pairs, sources
from lwz.stages import reward_model as stage
from lwz.store import model_source
from lwz.store.hf import config as hf_config
from tests import fakes


def pair(chosen, rejected, source=''):
  return types.Preference('Write.', chosen, rejected, source)


def test_the_tables_tell_sources_lengths_and_padding_apart():
  pairs = [pair('a b c d', 'e f', 'cut'), pair('a b', 'c d e f', 'mix'), pair('a b', 'c d', 'mix')]
  scores = np.array([[2.0, 1.0], [1.0, 2.0], [3.0, 1.0]])
  padded = np.array([[1.0, 0.0], [0.0, 1.0]])
  tables, result = stage._judged({pair.source for pair in pairs}, pairs, scores, padded)
  assert tables[0][2] == [('all', 3, pytest.approx(2 / 3)), ('cut', 1, 1.0), ('mix', 2, 0.5)]
  by_length = {name: (num, accuracy) for name, num, accuracy in tables[1][2]}
  assert by_length['better one longer'] == by_length['better one as long'] == (1, 1.0)
  assert by_length['better one shorter'] == (1, 0.0)
  assert by_length['padded with itself, half as long again'] == (2, 0.5)
  assert result['mean'] == pytest.approx(scores.mean())
  assert result['std'] == pytest.approx(scores.std())
  assert -1 <= result['length_bias'] <= 1 and 0 <= result['calibration_error'] <= 1
  json.dumps(result)


def test_an_evaluation_is_of_a_sample_that_does_not_follow_the_order_of_the_file():
  pairs = [pair(f'text {i}', 'x') for i in range(4_000)]
  found = preference_pairs.sampled(pairs, 1_000)
  places = [pairs.index(p) for p in found]
  assert len(set(places)) == 1_000 and places == sorted(places)
  assert abs(np.mean(places) - 2_000) < 100  # three standard errors
  assert set(preference_pairs.sampled(pairs[::-1], 1_000)) == set(found)
  assert preference_pairs.sampled(pairs, 0) == preference_pairs.sampled(pairs, 4_000) == pairs


def test_pairs_of_a_file_are_kept_where_a_judge_looks_for_them(tmp_path):
  pairs = [types.Preference(f'Write {i}.', 'Good.', 'Bad.', margin=0.5) for i in range(40)]
  preferences.save(tmp_path / 'mine.jsonl', pairs)
  (tmp_path / 'run').mkdir()
  model_source.keep(tmp_path / 'run', fakes.config())
  c = grpo_judge.get_config('micro')
  c.data.preferences, c.data.heldout = str(tmp_path / 'mine.jsonl'), 0.3
  train, tests = preference_pairs.load(c, tmp_path / 'run')
  assert {*train, *tests} == {*pairs} and train and tests
  c.data.prompts, c.data.tested = str(tmp_path / 'run'), 0.0
  assert len(sources.writing_prompts(c)) == 2 * len(train)


def test_a_padded_text_says_its_first_half_again():
  (found,) = stage._padded([pair('One. Two. Three. Four.', 'x')])
  assert (found.chosen, found.rejected) == (
    'One. Two. Three. Four.',
    'One. Two. Three. Four. One. Two.',
  )


def test_a_long_pair_is_trained_on_in_parts_that_use_every_window():
  c = ConfigDict({'data': {'row_length': 8}})
  long, short = preference_pairs.Text([*range(20), 99], 2), preference_pairs.Text([1, 2, 3, 99], 2)
  found = preference_pairs.windows(c, long, short)
  assert [b for _, b in found] == [short.ids] * len(found) and len(found) > 2
  assert [t for a, _ in found for t in a[2:-1]] == long.ids[2:-1]
  assert preference_pairs.windows(c, short, short) == [(short.ids, short.ids)]


def test_pairs_too_long_for_a_row_name_a_key_that_a_run_hands_down():
  c = reward_model.get_config('micro')
  c.data.row_length = 8
  pairs = [pair('word ' * 30, 'text ' * 30)]
  with pytest.raises(ValueError, match=r'row_length=8: no preference pair .* data\.upper=24'):
    preference_pairs.encoded(c, tokenizer.train(['a word, a text'], 300), pairs)
  assert keys.of('data.upper').inherited and not keys.of('data.row_length').inherited


def test_scoring_says_how_many_pairs_are_done(capsys):
  long, short = preference_pairs.Text([*range(20), 99], 2), preference_pairs.Text([1, 2, 3, 99], 2)
  shape = language_model.RowShape(num_rows=1, row_length=8)
  asked = (lambda params, rows: rows['ids'] * 0.5), None, [(short, long)] * 3, shape
  scores = preference_pairs.scores(*asked)
  assert capsys.readouterr().err == ''
  np.testing.assert_array_equal(preference_pairs.scores(*asked, label='held-out'), scores)
  assert re.search(r'held-out: pair \d/3\n(.*\n)*held-out: done at pair 3', capsys.readouterr().err)


# --- where a reward model's scores get their scale


def config(tmp_path, **reward):
  plain = {
    'weights': {'writing': 1.0},
    'key_env': '',
    'model': str(tmp_path),
    'ensemble': (),
    'server_chat': False,
    'heldout': '',
    'mean': 0.0,
    'std': 0.0,
  }
  data = {'long': 'refuse', 'row_length': 64}
  return ConfigDict(
    {'runs_dir': str(tmp_path), 'needs_seed': 0, 'data': data, 'reward': plain | reward}
  )


def folder(tmp_path, **changes):
  text = hf_config.text(fakes.config(**({'scalar_head': True} | changes)), jnp.dtype('float32'))
  (tmp_path / 'config.json').write_text(text)
  return tmp_path


def test_a_foreign_model_has_the_scale_that_the_config_gives(tmp_path):
  folder(tmp_path)
  c = config(tmp_path, mean=2.0, std=3.0)
  assert registry.scale(c, c.reward.model) == writing.Scale(2.0, 3.0)
  c = config(tmp_path)
  with pytest.raises(ValueError, match=r'reward\.mean'):
    registry.check_rewards(c)


def test_a_model_of_ours_brings_its_own(tmp_path):
  folder(tmp_path)
  (tmp_path / registry.SCALE).write_text('{"mean": 0.5, "std": 1.5}')
  c = config(tmp_path, mean=2.0, std=3.0)
  assert registry.scale(c, c.reward.model) == writing.Scale(0.5, 1.5)


def test_a_language_model_is_no_reward_model(tmp_path):
  folder(tmp_path, scalar_head=False)
  with pytest.raises(ValueError, match='no scalar head'):
    registry.check_rewards(config(tmp_path, std=1.0))


def test_a_server_needs_nothing_here(tmp_path):
  registry.check_rewards(config(tmp_path, model='http://localhost:9000/score'))
  assert registry.is_server('https://host/score') and not registry.is_server('reward_model:tiny')


def test_what_long_texts_become_is_one_of_two():
  c = base.get_config('micro')
  c.data.long = 'cut'
  with pytest.raises(
    ValueError, match=r"data\.long: there is no 'cut'; choose from refuse, window"
  ):
    keys.check(c)


def test_terms_that_no_passage_has_are_refused(tmp_path):
  path = tmp_path / 'corpus.jsonl'
  texts = (
    f'{i} is so, and we do it all day, as you do. It is in it for {i + 1} or two. ' * 3
    for i in range(40)
  )
  path.write_text(
    ''.join(json.dumps({'title': f'T{i}', 'text': t}) + '\n' for i, t in enumerate(texts))
  )
  c = reward_model.get_config('micro')
  c.data.folder, c.data.requirements = str(tmp_path), 3
  with pytest.raises(ValueError, match=r'data\.requirements=3: no passage of 10 to 24 words'):
    preference_pairs.from_corpus(c)
  c.data.requirements = 0
  assert preference_pairs.from_corpus(c)[0]
