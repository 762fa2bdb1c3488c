"""Pairs that a policy wrote: of which requests, at which temperatures, and what is an answer."""

import collections

import pytest

from experiments import policy_pairs, referee, reward_model
from lwz.data import preferences
from lwz.judge import client
from lwz.runtime import preference_pairs, setup, sources
from lwz.stages import policy_pairs as stage
from tests import jobs


@pytest.fixture
def writes(monkeypatch):
  """The engine: an answer names its temperature; every fifth is empty, every ninth fails."""
  asked = []

  def by_engine(c, source, *, temperature, max_tokens):
    def write(requests):
      for index, request in reversed(list(enumerate(requests))):
        asked.append((temperature, request.messages))
        fault = 'request: too long' if index % 9 == 0 else ''
        text = f'<answer>{"word " * 6}{temperature}</answer>' if index % 5 else '<answer></answer>'
        yield client.Reply(index, '' if fault else text, fault)

    return write

  monkeypatch.setattr(stage.systems, 'by_engine', by_engine)
  return asked


def config(tmp_path, **changes):
  c = policy_pairs.get_config('tiny')
  c.runs_dir = str(tmp_path)
  for name, value in changes.items():
    c.pairs[name] = value
  return c


def test_titles_are_held_out_and_parts_are_apart(tmp_path, writes):
  c = config(tmp_path, temperatures=3, coldest=0.5, hottest=1.0)
  stage.run(c)
  folder = setup.run_folder(c)
  train, tests = (preferences.load(folder / name)[0] for name in preferences.WRITTEN)
  assert {temperature for temperature, _ in writes} == {0.5, 0.75, 1.0}
  trained = {document.title for document in sources.documents(c)[0]}
  assert len(train) > 300 and len(tests) > 50
  assert not {pair.prompt for pair in train} & {pair.prompt for pair in tests}
  assert not any(f'about {title} ' in pair.prompt for pair in tests for title in trained)
  assert all(pair.source == 'model' and 'word word' in pair.rejected for pair in train + tests)
  styles = collections.Counter('<think>' in prompt for _, prompt in writes)
  assert abs(styles[True] - styles[False]) <= 6
  assert len(train) + len(tests) < len(writes) * 0.75  # empty and failed ones are no pairs


def test_the_reward_model_and_its_referee_share_nothing(tmp_path, writes):
  stage.run(config(tmp_path, temperatures=1))
  pairs = []
  for experiment in (reward_model, referee):
    c = experiment.get_config('tiny')
    c.runs_dir = str(tmp_path)
    train, tests = preference_pairs.from_corpus(c)
    assert not {p.prompt for p in train} & {p.prompt for p in tests}
    assert not {p.chosen for p in train} & {p.chosen for p in tests}
    pairs.append(train)
  kinds = [{pair.source for pair in train} - {'model'} for train in pairs]
  assert all(kinds) and not kinds[0] & kinds[1]
  assert not {p.prompt for p in pairs[0]} & {p.prompt for p in pairs[1]}
  assert [any(p.source == 'model' for p in train) for train in pairs] == [False, True]
  assert {'cheat of step 150', 'echo'} <= {pair.source for pair in tests}


def test_a_kind_of_damage_that_is_none(tmp_path):
  output = jobs.launch(
    'reward_model:micro', tmp_path, "--config.data.damages=('shufle',)", fails=True
  )
  assert "data.damages: there is no 'shufle'; choose from shuffle, repeat" in output
