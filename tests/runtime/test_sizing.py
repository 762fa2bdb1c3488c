"""Numbers of the size small: they follow from the model and the prompts; the user's own stay."""

import json
import types as std_types

import pytest

from experiments import eval_ruler, grpo_think, referee
from lwz import door
from lwz.data import templates, tokenizer
from lwz.runtime import setup, sizing
from tests import tree


@pytest.fixture(scope='module')
def chatty():
  trained = tokenizer.train(['Plan in <think> </think>, write about rivers and mills.'] * 9, 400)
  trained.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
  return trained


@pytest.fixture
def config(tmp_path, monkeypatch, chatty):
  rows = [{'text': f'Write about river {i}.', 'lower': 20 + i, 'upper': 40 + i} for i in range(5)]
  (tmp_path / 'mine.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  monkeypatch.setattr(sizing.tokenizers, 'load', lambda *_: chatty)
  model = std_types.SimpleNamespace(num_positions=1_024)
  monkeypatch.setattr(sizing.model_source, 'config', lambda source: model)
  c = grpo_think.get_config('small')
  c.base_model, c.data.prompts = 'org/Some-Model', str(tmp_path / 'mine.jsonl')
  return c


def test_lengths_follow_from_the_longest_prompt_and_the_most_words(config, chatty):
  sizing.fill(config)
  assert (config.data.lower, config.data.upper, config.reward.max_words) == (10, 66, 88)
  asked = [f'Write about river {i}.' for i in range(5)]
  rendered = templates.prompt_ids(chatty, asked, 'think', 'chat_short')
  longest = max(map(len, rendered))
  assert 0 <= config.rollout.max_prompt_tokens - longest < 16
  words = 44 * 5 / 4  # of the most words that a prompt asks for
  assert config.rollout.max_tokens % 32 == 0 and config.rollout.max_tokens > words + 64
  whole = config.rollout.max_prompt_tokens + config.rollout.max_tokens
  assert config.data.row_length % 64 == 0 and 0 <= config.data.row_length - whole < 64


def test_what_the_user_sets_stays(config):
  config.rollout.max_tokens, config.data.row_length = 77, 512
  sizing.fill(config)
  assert (config.rollout.max_tokens, config.data.row_length) == (77, 512)
  assert config.data.upper == 66


def test_folders_are_named_by_the_model(config):
  assert setup.run_name(config) == 'grpo_think-Some-Model'
  assert setup.reference(config, 'sft:small').endswith('/sft-Some-Model')
  need = referee.get_config('small')
  need.base_model, need.data.prompts = config.base_model, config.data.prompts
  sizing.fill(need)
  assert (need.init, setup.run_name(need)) == ('org/Some-Model', 'referee-Some-Model')


def test_an_evaluation_needs_no_more_than_the_model_and_finds_its_runs(config):
  c = eval_ruler.get_config('small')
  c.base_model, c.data.prompts = config.base_model, config.data.prompts
  sizing.fill(c)
  needed = [setup.run_name(need) for need in door.needs(c, tree.ROOT / 'experiments')]
  assert {'sft-Some-Model', 'grpo_think-Some-Model'} <= {*needed}


@pytest.mark.parametrize(
  'changes, complaint',
  [
    ({'base_model': ''}, 'names no model.*--config.base_model'),
    ({'init': 'random'}, 'has no shape of its own'),
    ({'data.prompts': ''}, 'data.prompts is empty'),
    ({'rollout.max_tokens': 2_000}, '1024 positions of base_model=org/Some-Model'),
  ],
)
def test_what_cannot_be_filled_in_is_refused(config, changes, complaint):
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=complaint):
    sizing.fill(config)


def test_other_sizes_stay_as_they_are():
  c = grpo_think.get_config('micro')
  before = c.to_dict()
  sizing.fill(c)
  assert c.to_dict() == before
