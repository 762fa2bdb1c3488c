"""Preflight end to end on the devices at hand: every program of a run, a table, a record."""

import json

import pytest

from experiments import preflight as experiment
from lwz import door
from lwz.programs.cost import fit
from lwz.stages import preflight

GIB = 2**30


def test_the_argument_names_the_experiment():
  c = experiment.get_config('pretrain:7b')
  assert (c.preflight.experiment, c.preflight.stage, c.size) == ('pretrain', 'pretrain', '7b')
  assert experiment.get_config('32b').preflight.experiment == 'grpo_think'
  with pytest.raises(ValueError, match=r"no experiment 'grpo_thin'.*grpo_think"):
    experiment.get_config('grpo_thin:32b')


def preflown(name, folder, **train):
  """The record and the table of an experiment on the devices at hand."""
  c = experiment.get_config(name)
  c.runs_dir = str(folder)
  c.train.update(train)
  stage = door.stage_of(c)
  stage.check(c)
  stage.run(c)
  (table,) = folder.glob('*/*.md')
  return json.loads(table.with_suffix('.json').read_text()), table.read_text()


def test_a_run_at_micro(tmp_path):
  record, table = preflown('micro', tmp_path)
  assert record['fits'] and record['devices'] == 8 and 'jax' in record['versions']
  assert 'python -m lwz.launch' in record['command']
  programs = {one['name']: one for one in record['phases']}
  assert {'score', 'grpo'} < set(programs)
  for one in programs.values():
    assert one['needed'] == one['peak'] + sum(one['residents'].values()) > 0
    assert one['flops'] > 0 or one['name'] == 'reshard'
  assert set(programs['grpo']['residents']) == {'reward model'}
  assert set(programs['score']['residents']) == {'masters and optimiser'}
  assert table.startswith('# grpo_think:micro fits local')
  assert all(f'| {one["phase"]} | {name} |' in table for name, one in programs.items())


def test_what_does_not_fit_comes_with_what_to_change(monkeypatch, tmp_path):
  asked = []

  def estimate(entry, chip, *, per_host):
    """Too large at first; the second time that a program is asked about, it fits."""
    peak = (1 if entry.program.name in asked else 3) * GIB
    asked.append(entry.program.name)
    measured = fit.Fit(entry.program.name, {}, 8, True, 0, arguments=1 * GIB, peak=peak)
    return fit.Estimate(entry.part, measured, {}, capacity=2 * GIB)

  monkeypatch.setattr(preflight.fit, 'estimate', estimate)
  record, table = preflown('pretrain:micro', tmp_path, remat='full')
  assert not record['fits'] and 'does NOT fit' in table
  # 2 GiB to work in where 0.9 are free: 8 rows become 3, which is no divisor; then 4-way tensor.
  rows, tensor = record['remedies']['learn: pretrain'][:2]
  assert rows['keys'] == {'train.micro_rows': 3} and not rows['compiled']['fits']
  assert 'not a multiple' in rows['compiled']['refused']
  assert tensor['keys'] == {'mesh.tensor': 4} and tensor['compiled']['fits']
  assert '--config.mesh.tensor=4' in table.split('What to change:')[1]


def test_what_the_stage_refuses_is_refused():
  c = experiment.get_config('micro')
  c.rl.loss = 'nonsense'
  with pytest.raises(ValueError, match=r"rl\.loss: there is no 'nonsense'; choose from grpo"):
    door.stage_of(c).check(c)


def test_an_unknown_topology_stops_at_the_start():
  c = experiment.get_config('micro')
  c.preflight.topology = 'v5p'
  with pytest.raises(ValueError, match=r"no topology 'v5p'.*v5p:2x2x1\|"):
    door.stage_of(c).check(c)
