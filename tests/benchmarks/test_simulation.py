"""The simulation counts the steps that the scheduler runs, and shows the gain of an order."""

import json
import re

import numpy as np
import pytest

from benchmarks import simulation
from lwz.programs import rollout as program
from lwz.rollout import queue, sampler, scheduler
from lwz.rollout import spec as spec_lib
from tests import fakes

CONFIG = fakes.config()


def built(num_slots, max_tokens, num_steps, exact=False, unstack=None):
  spec = spec_lib.EngineSpec(
    *(CONFIG, num_slots, 64, max_tokens, sampler.Sampling(), exact),
    num_steps=num_steps,
    unstack=unstack,
  )
  return program.engine(spec)


@pytest.mark.parametrize(
  'exact', [pytest.param(False, marks=pytest.mark.slow), True], ids=['buckets', 'exact']
)
def test_it_counts_what_is_computed(exact):
  lengths = [3, 11, 2, 7, 5, 1, 12]
  engine = built(4, 12, 4, exact)
  asked = [
    scheduler.Request(np.arange(1, 5), np.array([0, i], np.uint32), n, n, float(n))
    for i, n in enumerate(lengths)
  ]
  ran = scheduler.Stats()
  params = engine.reshard(fakes.params(CONFIG))
  assert len(list(scheduler.run(engine, params, asked, stats=ran))) == len(lengths)
  said = simulation.simulate(
    engine,
    lengths,
    queue.longest_first(lengths),
    num_steps=4,
    prompt_tokens=4,
    step_seconds=lambda rows, read: 1.0,
  )
  for name in ('tokens', 'steps', 'computed', 'capacity', 'blocks'):
    assert getattr(said, name) == getattr(ran, name), name
  assert said.seconds == said.steps


def seconds(lengths, indices, **changes):
  settings = {
    'num_steps': 32,
    'prompt_tokens': 64,
    'step_seconds': lambda rows, read: 1.0 + rows / 8 + rows * read / 4_000,
  } | changes
  by_length = built(32, 2_048, 32, unstack=False)  # as an accelerator has it: several read lengths
  return simulation.simulate(by_length, lengths, indices, **settings).seconds


def test_a_guess_of_the_length_shortens_a_heavy_tailed_rollout():
  """256 trajectories through 32 slots; the guess is off by up to a half, each way."""
  rng = np.random.default_rng(0)
  gains = []
  for _ in range(5):
    lengths = np.clip(rng.lognormal(np.log(256), 1.1, 256), 16, 2_048).astype(int).tolist()
    guesses = lengths * rng.uniform(0.5, 1.5, 256)
    gains.append(seconds(lengths, range(256)) / seconds(lengths, queue.longest_first(guesses)))
  assert min(gains) > 0.99 and np.mean(gains) > 1.05


def test_every_trajectory_starts_once():
  with pytest.raises(ValueError, match='every trajectory once'):
    seconds([3, 4], [0, 0])


def test_a_step_takes_the_longer_for_the_bytes_it_reads():
  def spec(num_slots, **changes):
    return spec_lib.EngineSpec(
      CONFIG, num_slots, 64, 400, sampler.Sampling(), exact=False, num_steps=4, **changes
    )

  decode = {'seconds': {'compute': 0.004, 'memory': 8.0, 'network': 0.1}}
  weights, cache = simulation.held(spec(4))
  found = simulation.roofline(spec(4), spec(4), decode)
  capacity = spec(4).cache_layout.capacity
  assert found(4, capacity) == pytest.approx(2.0)
  assert found(4, 0) == pytest.approx(2.0 * weights / (weights + cache))
  twice = simulation.roofline(spec(8), spec(4), decode)
  assert twice(8, capacity) - twice(8, 0) == pytest.approx(2 * (2.0 - found(4, 0)))
  rounded = simulation.roofline(spec(4, weights='int8'), spec(4), decode)
  assert rounded(4, capacity) - rounded(4, 0) == pytest.approx(2.0 - found(4, 0))
  assert rounded(4, 0) / found(4, 0) == pytest.approx(
    simulation.held(spec(4, weights='int8'))[0] / weights
  )
  decode['seconds']['compute'] = 16.0
  assert simulation.roofline(spec(8), spec(4), decode)(8, capacity) == 8.0


@pytest.mark.slow
def test_prompts_of_like_length_leave_fewer_slots_empty():
  record = {
    'devices': 8,
    'shapes': {'rl.group_size': 32, 'data.row_length': 16_384},
    'phases': [{'phase': part, 'calls': 2, 'seconds': {'a': 1.0}} for part in ('judge', 'learn')],
  }
  found = {}
  for alike in (False, True):
    plan = simulation.Plan(4, 128, alike=alike)
    spec = spec_lib.EngineSpec(
      CONFIG, plan.slots, 2_048, simulation.MOST, sampler.Sampling(), exact=False
    )
    found[alike] = simulation.measure(plan, lambda rows, read: 1e-3, spec, record, 16)
    seconds, share = found[alike]['seconds'], found[alike]['share']
    tokens = found[alike]['per_device'] * seconds * 8
    assert share == pytest.approx(seconds / (seconds + 4 * tokens / (32 * 16_384)))
  assert found[True]['active'] > found[False]['active'] + 0.05
  assert found[True]['per_device'] > found[False]['per_device']


@pytest.mark.parametrize(
  'given, said',
  [
    (['--steps=20'], '--steps=20: choose up to 16, or a multiple of 16'),
    (['--record=RECORD'], r"the plans are for .*, and \['rl\.group_size'\] differ"),
  ],
)
def test_a_record_of_other_shapes_is_refused(tmp_path, monkeypatch, capsys, given, said):
  path = tmp_path / 'record.json'
  path.write_text(json.dumps({'shapes': simulation.SHAPES | {'rl.group_size': 16}}))
  given = [one.replace('RECORD', str(path)) for one in given]
  monkeypatch.setattr('sys.argv', ['simulation.py', *given])
  with pytest.raises(SystemExit):
    simulation.main()
  assert re.search(said, capsys.readouterr().err)
