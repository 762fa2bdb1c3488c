"""Rescoring: an archived run judged again by what trained it agrees with itself, and else not."""

import json

import numpy as np
import pytest

from experiments import grpo_think, rescore
from lwz import types
from lwz.judge import scripted
from lwz.reward import components
from lwz.rl import sampling
from lwz.runtime import setup, sources
from lwz.stages import rescore as stage
from lwz.store import lock
from lwz.store import run as run_lib
from tests import archived_run
from tests.rollout import scripted as server_lib

PROMPTS = [types.Prompt(f'p{i}', f'Write about {i}.', 4, 6) for i in range(4)]
TEXTS = [f'<think>Plan.</think>\n<answer>{"river " * n}sea.</answer>' for n in (0, 1, 2, 3)]
LENGTH = np.array([[0.25, 0.5, 0.75, 1.0]] * 4, np.float32)  # of 1, 2, 3, 4 words: Eq. 3


@pytest.fixture
def made(tmp_path, monkeypatch):
  """A run of which steps 0 and 2 are archived, and a config that rescores it by `length`."""
  run = grpo_think.get_config('micro')
  run.train.num_steps, run.rl.prompts_per_step, run.rl.group_size = 4, 2, 4
  run.reward.weights = {'length': 1.0, 'other': 1.0}
  folder = tmp_path / 'archived'
  folder.mkdir()
  other = LENGTH[:, ::-1]  # the reverse: both together say nothing
  valid = np.ones((4, 4), bool)
  valid[3, 3] = False
  archived_run.write(folder, run, TEXTS, {'length': LENGTH, 'other': other}, valid, steps=(0, 2))
  (folder / 'metrics.jsonl').write_text('{"step": 3}\n')
  monkeypatch.setattr(sources, 'writing_prompts', lambda c: PROMPTS)
  monkeypatch.setattr(sampling, 'take', lambda c, prompts, step: prompts[step : step + 2])
  c = rescore.get_config('micro')
  c.runs_dir, c.rescore.run, c.reward.model = str(tmp_path), str(folder), ''
  c.reward.weights = {'length': 1.0, 'format': 0.0, 'writing': 0.0}  # 0: not asked at all
  return c, folder


def rescored(c, rewards=None):
  stage.check(c, rewards)
  stage.run(c, rewards)
  folder = setup.run_folder(c)
  found = json.loads((folder / 'results.json').read_text())
  lock.release(folder / 'LOCK')  # as the door does: its heartbeat is a thread of this process
  assert (folder / 'report.html').exists() and run_lib.Run(folder).is_done()
  return found['facts'], {(row['here'], row['trained']): row for row in found['agreement']}


def test_what_trained_agrees_with_itself(made, capsys):
  c, _ = made
  facts, rows = rescored(c)
  assert facts['batches'] == '2 of 2, steps 0 to 2' and facts['samples'] == 16
  assert facts['judged by'] == 'length x 1; balanced'
  same = rows['length', 'length']
  assert (same['tau']['mean'], same['tau']['num']) == (1.0, 4)
  assert (same['best_changes']['mean'], same['silent'], same['failed']) == (0.0, 0, 0.0)
  final = rows['advantage', 'advantage']  # the run's two rewards cancel, but for the masked sample
  assert final['silent'] >= 3
  said = capsys.readouterr().out
  assert '| length | length | 4 | 0 | 1.000 | [1.000, 1.000] |' in said


def test_the_reverse_changes_every_best_and_a_failed_judge_masks(made):
  c, _ = made

  def reverse(samples):
    words = np.array([len(s.parsed.answer.split()) for s in samples], float)
    return np.where(words == 2, np.nan, 1 / words)

  c.reward.weights = {'length': 1.0}
  c.reward.weights.update({'reverse': 1.0})
  c.reward.functions = {'reverse': 'a digest'}
  facts, rows = rescored(c, {'reverse': components.per_answer(reverse)})
  assert ('reverse', 'reverse') not in rows  # it did not train
  assert rows['length', 'length']['tau']['mean'] == 1.0
  assert rows['reverse', 'advantage']['failed'] == 0.25
  assert 'reverse x 1' in facts['judged by']


def test_a_composition_is_tried_before_it_is_paid_for(made):
  c, folder = made
  record = json.loads((folder / 'config.json').read_text())
  record['config']['reward']['weights'] = {'length': 1.0, 'other': 0.0}
  del record['config']['rl']['composition']  # of a run that is older than the key
  (folder / 'config.json').write_text(json.dumps(record))
  _, rows = rescored(c)
  assert rows['advantage', 'advantage']['tau']['mean'] == 1.0
  c.name, c.rl.advantage, c.rl.composition = 'composed', 'mean_reward', 'product'
  facts, rows = rescored(c)
  assert facts['judged by'] == 'length x 1; product, mean_reward'
  assert facts['trained by'] == 'length x 1, other x 0; balanced'
  assert rows['advantage', 'advantage']['tau']['mean'] == 1.0  # a product of one


def test_a_second_start_asks_the_judge_nothing(made, monkeypatch):
  c, _ = made
  c.reward.weights = {'sibling': 1.0}
  c.reward.judge = 'scripted-length-loving-5'
  facts, rows = rescored(c)
  assert facts['judge of sibling'] == 'scripted-length-loving-5'
  (setup.run_folder(c) / 'DONE').unlink()

  def reply(*_):
    raise AssertionError('asked again')

  monkeypatch.setattr(scripted, 'reply', reply)
  assert rescored(c) == (facts, rows)


def test_a_policy_that_moved_judges_no_archive(made):
  c, _ = made
  c.reward.weights, c.reward.judge = {'sibling': 1.0}, 'policy'
  with pytest.raises(ValueError, match=r'reward\.judge=policy: only a GRPO run has a policy'):
    stage.check(c)


def test_a_budget_stops_it_between_two_requests_and_what_is_all_paid_for_is_written(made):
  """Of 4 groups of 4 answers each is compared in 3 x 2 questions, which cost 1 each."""
  c, _ = made
  c.reward.weights, c.judge.price_in, c.judge.concurrency = {'sibling': 1.0}, 1e5, 1
  with server_lib.serve(lambda number, payload: '[[A]]') as server:
    c.reward.judge, c.reward.judge_budget = f'm@{server.url}', 7.5
    with pytest.raises(RuntimeError, match=r'has cost 8\.00, and .*budget=7\.5: raise it to go on'):
      stage.run(c)
    lock.release(setup.run_folder(c) / 'LOCK')
    assert len(server.seen) == 8
    c.reward.judge_budget = 24.0
    _, rows = rescored(c)
    assert len(server.seen) == 24 and rows['sibling', 'advantage']['silent'] == 4


def test_some_batches_are_enough(made):
  c, _ = made
  c.rescore.batches = 1
  facts, rows = rescored(c)
  assert facts['batches'] == '1 of 2, steps 0 to 0' and rows['length', 'length']['tau']['num'] == 2


@pytest.mark.parametrize(
  'name, message',
  [
    ('', 'rescore.run is empty: name a GRPO run'),
    ('nowhere', 'no config.json in nowhere; name a GRPO run'),
    ('EMPTY', 'no archived rollouts in .*name a GRPO run that has begun'),
  ],
)
def test_what_cannot_be_rescored_is_named(made, tmp_path, name, message):
  c, folder = made
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'empty/config.json').write_text((folder / 'config.json').read_text())
  c.rescore.run = name.replace('EMPTY', str(tmp_path / 'empty'))
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    stage.check(c)


def test_a_run_that_has_gone_on_is_another_input(made):
  c, folder = made
  rescored(c)
  with open(folder / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 4}\n')
  with pytest.raises(ValueError, match=r'rescore\.run=.*metrics\.jsonl'):
    stage.run(c)
