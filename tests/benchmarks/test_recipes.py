"""The table of recipes says what preflight has said, and nothing of what was not compiled."""

import json

import pytest

from benchmarks import recipes


@pytest.fixture
def table(tmp_path, monkeypatch):
  monkeypatch.setattr(recipes, 'FOLDER', tmp_path)
  return recipes


def program(part, calls, needed, **seconds):
  return {'phase': part, 'calls': calls, 'needed': needed * 2**30, 'seconds': seconds}


def test_a_row_adds_up_the_calls_of_a_step(table, tmp_path):
  programs = [
    program('write', 10, 5, compute=0.1, memory=0.2, network=0),
    program('write', 1, 7, compute=1.0, memory=0.5, network=0),
    program('learn', 1, 6, compute=9.0, memory=0.2, network=0),
  ]
  record = {'phases': programs, 'fits': True, 'capacity': 15.75 * 2**30}
  (tmp_path / 'recipe-v5e-1-3b_v5e-1x1.json').write_text(json.dumps(record))
  found = dict(zip(table.HEADER, table.row('v5e-1'), strict=True))
  assert (found['write'], found['learn'], found['of']) == ('7.0', '6.0', '15.8')
  assert (found['seconds a step'], found['bound by']) == ('12', 'compute')
  assert found['hours for 300'] == '1' and found['fits'] == 'yes'
  assert found['trained'] == 'adapters of rank 32 over int8'


def test_what_was_not_compiled_has_no_number(table, tmp_path):
  (tmp_path / 't4.refused').write_text('gpu:t4:1x1: needs the CUDA plugin\n')
  refused, unknown = table.row('t4'), table.row('h100x8')
  assert refused[7:] == ('gpu:t4:1x1: needs the CUDA plugin', *'------')
  assert unknown[7:] == ('not compiled yet', *'------')
