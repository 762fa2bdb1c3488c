"""Our own engine as a judge: built once per length, and asked for no more than it can hold."""

import json
import shutil

import numpy as np
import pytest

from experiments import base
from lwz import types
from lwz.data import tokenizer
from lwz.judge import chats, client, reward_judge, systems
from lwz.programs import rollout
from lwz.programs.cost import memory_plan
from lwz.reward import questions
from lwz.rl import judged
from lwz.rollout import sampler
from lwz.runtime import setup
from lwz.stages import grpo
from lwz.store import model_source
from tests import fakes


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """The folder of a model of 512 positions, without weights."""
  folder = tmp_path_factory.mktemp('model')
  tokenizer.save(tokenizer.train(['Which river is wider, this one or that?'], 300), folder)
  tokenizer.save(tokenizer.load(folder), folder / 'tokenizer')
  model_source.keep(folder, fakes.config(vocab_size=301, max_position_embeddings=512))
  return folder


@pytest.fixture
def built(folder, monkeypatch):
  """The engines that are built, of a model that has weights after all."""
  config = model_source.config(folder)
  monkeypatch.setattr(setup, 'load_params', lambda *_: fakes.params(config))
  built, engine = [], rollout.engine
  monkeypatch.setattr(rollout, 'engine', lambda spec: built.append(spec) or engine(spec))
  return built


def test_an_engine_is_built_for_few_lengths_and_gives_the_same_again(folder, built):
  c = base.get_config('micro')
  write = systems.by_engine(c, str(folder), max_tokens=8, temperature=0.0)

  def said(*sizes):
    asked = [client.Request('river ' * size) for size in sizes]
    return {reply.index: reply.text or reply.fault for reply in write(asked)}

  first = said(2, 5)
  assert said(5)[0] == first[1] and said(2, 5) == first
  assert [spec.max_prompt_tokens for spec in built] == [1, 64]
  said(80)
  assert len(built) == 3 and 64 < built[-1].max_prompt_tokens <= 512 - 8
  assert said(2_000)[0].startswith('request too long') and len(built) == 3


def test_a_reply_of_an_exact_run_does_not_depend_on_the_longest_request(folder, built):
  c = base.get_config('micro')
  c.rollout.exact = True
  write = systems.by_engine(c, str(folder), max_tokens=8)
  found = {reply.index: reply for reply in write([client.Request('river ' * n) for n in (80, 2)])}
  assert [spec.max_prompt_tokens for spec in built[1:]] == [built[1].max_prompt_tokens, 64]
  assert built[1].max_prompt_tokens > 64
  (alone,) = write([client.Request('river ' * 2)])
  assert alone.text == found[1].text and found[0].tokens_in > 64 and len(built) == 3


def test_the_policy_judges_as_it_is_at_each_step_and_is_asked_once(tmp_path, folder, monkeypatch):
  """As a fixed judge of the parameters of the step; another start has the replies of the step."""
  run, config = tmp_path / 'run', fakes.config(vocab_size=301, max_position_embeddings=8_192)
  shutil.copytree(folder, run)
  model_source.keep(run, config)
  c = base.get_config('micro')
  c.runs_dir, c.name, c.rollout.exact, c.reward.judge_tokens = str(tmp_path), 'run', True, 4
  config = setup.computed(c, config)
  spec = systems.spec(c, config, setup.mesh(c), sampler.Sampling(1.0, stop_ids=(0,)), 9, 9)
  asked = [questions.Comparison(types.Prompt('p', 'Write.', 1, 9), 'one', t) for t in ('two', 'x')]

  c.reward.judge = reward_judge.POLICY
  monkeypatch.setattr(reward_judge, 'ROUNDS', 1)

  def replies(judge, step, params):
    """The texts by key of all that was asked in the run, and the number of those asked now."""
    judge.take(step, params)
    judge(asked)
    lines = (run / 'judge' / 'verdicts-0.jsonl').read_text().splitlines()
    kept = {one['key']: one['text'] for one in map(json.loads, lines)}
    return kept, judge.metrics()['judge/asked']

  judge, texts, before = reward_judge.RewardJudge(c, run), [], {}
  for step, seed in enumerate((0, 1, 1)):
    params = rollout.engine(spec).reshard(fakes.params(config, seed))
    now, num = replies(judge, step, lambda params=params: params)
    texts.append(sorted(text for key, text in now.items() if key not in before))
    assert num == len(texts[-1]) == 2
    before = now
  assert texts[0] != texts[1] == texts[2]  # the same parameters are asked again at another step
  judge.close()
  judge = reward_judge.RewardJudge(c, run)
  assert replies(judge, 1, lambda: pytest.fail('asked again')) == (now, 0)
  judge.close()
  monkeypatch.setattr(setup, 'load_params', lambda *_: fakes.params(config, 1))
  fixed = systems.by_engine(c, str(run), max_tokens=4, temperature=0.0)
  said = fixed([client.Request(chats.of(question)[0]) for question in asked])
  assert sorted(reply.text for reply in said) == texts[1]


def test_a_policy_judges_in_its_own_run_alone(folder):
  c = base.get_config('micro')
  c.init, c.reward.judge, c.reward.judge_tokens = str(folder), reward_judge.POLICY, 100
  c.reward.weights = {'sibling': 1.0}
  for c.stage in ('grpo', 'preflight'):
    judged.check(c)
  for c.stage in ('rescore', 'score', 'evaluate', 'sft'):
    with pytest.raises(ValueError, match=r'reward\.judge=policy: only a GRPO run has a policy'):
      judged.check(c)
  with pytest.raises(ValueError, match=r'reward\.judge=policy: of its 512 positions'):
    judged.check_prompts(c, [types.Prompt('p', 'Write.', 100, 207)])
  assert judged.facts(c) == {'judge of sibling': 'policy, which judges itself'}


def test_a_judge_without_room_for_the_answers_is_refused_before_the_run(folder):
  c = base.get_config('micro')
  c.reward.judge, c.reward.judge_tokens = str(folder), 100
  c.reward.weights.sibling = 1.0
  prompt = types.Prompt('p', 'Write.', 100, 206)
  judged.check_prompts(c, [prompt])  # 2 x 206 words of at least a token
  c.reward.weights.ranking = 1.0
  said = r'of its 512 positions reward\.judge_tokens=100 .* no question about .* words: lower'
  with pytest.raises(ValueError, match=said):
    judged.check_prompts(c, [prompt])
  del c.reward.weights['ranking']
  with pytest.raises(ValueError, match='no question about 414 words'):
    judged.check_prompts(c, [types.Prompt('p', 'Write.', 100, 207)])
  c.reward.weights.ladder = 1.0  # an answer and a reference, which may be longer
  long = types.Prompt('p', 'Write.', 100, 110, references=('Word.', 'Word. ' * 303))
  with pytest.raises(ValueError, match='no question about 413 words'):
    judged.check_prompts(c, [long])


def test_frozen_models_of_rewards_are_in_the_memory_of_every_program(folder):
  c = base.get_config('micro')
  c.stage, c.init, c.reward.judge, c.reward.judge_tokens = 'grpo', str(folder), str(folder), 100
  c.train.num_steps = 1
  c.reward.weights = {'length': 1.0, 'rubric': 1.0, 'likelihood': 1.0}
  models = grpo.models(c)
  assert set(models) == {'policy', 'judge', 'likelihood'}
  found = {e.program.name: e for e in memory_plan.plan(grpo.programs(c, models, setup.mesh(c)))}
  assert {'judge', 'likelihood'} <= set(found['grpo'].residents) & set(found['decode'].residents)
  assert 'judge' in found['likelihood'].residents and 'judge' not in found['judge'].residents
  assert 'masters and optimiser' in found['decode'].residents
  c.reward.judge = reward_judge.POLICY  # no second copy stays, and its cache is counted
  found = memory_plan.plan(grpo.programs(c, grpo.models(c), setup.mesh(c)))
  assert not any({'judge', 'policy_judge'} & {*entry.residents} for entry in found)
  (own,) = (entry for entry in found if entry.program.name == 'policy_judge')
  assert own.part == 'judge' and {'masters and optimiser', 'likelihood'} <= {*own.residents}
  c.reward.judge = 'scripted-perfect'
  assert set(grpo.models(c)) == {'policy', 'likelihood'}
  np.testing.assert_equal(judged.num_texts(c), 1)
  assert reward_judge.is_engine(c) is False
