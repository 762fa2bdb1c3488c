"""Pages of claims, of folders as runs leave them."""

import pathlib
import re

import pytest

from benchmarks import claims
from lwz import sweep
from lwz.runtime import setup
from lwz.store import by_prompt, metrics, run
from tests import jobs

THINK, ADVANTAGE = (jobs.ROOT / f'experiments/claims/{name}.py' for name in ('think', 'advantage'))


@pytest.fixture
def swept(tmp_path, monkeypatch):
  """The folder of runs of the claim `think`: thoughts add 0.2 to the outcome."""
  monkeypatch.chdir(jobs.ROOT)
  found = sweep.Sweep(THINK, 'micro', [f'--config.runs_dir={tmp_path}'])
  for arm in found.arms:
    folder, identity = setup.run_folder(arm.config), run.Identity(includes=lambda key: True)
    opened = run.open_run(folder, arm.config.to_dict(), identity=identity, command=[])
    value = 0.5 + 0.2 * (arm.config.data.style == 'think') + 0.01 * arm.config.seed**2
    with metrics.Writer(folder, start_step=0) as writer:
      for step in range(arm.config.train.num_steps):
        every = dict.fromkeys(claims.METRICS, value)
        writer.write(step, every)
    rows = [{'mode': 'sampled', 'prompt': str(i), 'outcome': value * i} for i in (1, 2, 3)]
    by_prompt.write(folder / 'evaluations', 2, rows)
    opened.mark_done({})
    opened.close()
  return tmp_path


def test_a_page_has_the_claim_its_sentence_commands_and_no_place_of_this_machine(swept, tmp_path):
  out = tmp_path / 'out'
  first, second = claims.write(str(swept), out, 'micro', [THINK, ADVANTAGE])
  assert first.verdict.startswith('holds at this size. Outcome: style=think minus style=direct 0.2')
  assert second.verdict == 'not run yet' and second.counted == '3 of 6'
  page, index = (out / 'think.md').read_text(), (out / 'README.md').read_text()
  assert '6 of 6 arms are complete, each of 3 GRPO steps' in page and 'seeds 0, 1, 2' in page
  assert '1221 with thoughts and 668 without' in page and 'Refuted if' in page
  assert '--sweep=experiments/claims/think.py' in page and '| 3 by prompt |' in page
  assert '[think](think.md)' in index and 'not run yet' in index
  assert re.search(r'\| style=think \| 3 \| 0\.717 \[', index)  # 0.7 + 0.05 / 3
  for path in map(pathlib.Path, out.iterdir()):
    assert str(tmp_path) not in path.read_text()
