"""The page of the bench of reward forms, of folders as runs leave them."""

import pytest

from benchmarks import reward_forms
from lwz import sweep
from lwz.report import groups
from lwz.runtime import setup
from lwz.store import by_prompt, metrics, run
from tests import jobs

MORE = jobs.ROOT / 'experiments/sweeps/reward_forms_more.py'
LOSSES = {
  'perfect': 0.0,
  'gullible': 0.3,
  'noisy-0.3': 0.001,
  'mine/lists.py': 0.2,
}  # of the outcome, of `rubric`


@pytest.fixture
def swept(tmp_path, monkeypatch):
  """The folder of runs in which `rubric` pays more and more, and loses by its judge's flaw."""
  monkeypatch.chdir(jobs.ROOT)
  arms = sweep.Sweep(MORE, 'micro', [f'--config.runs_dir={tmp_path}']).arms
  further = [f'--config.runs_dir={tmp_path}', '--config.reward.judge=mine/lists.py']
  for arm in [*arms, *sweep.Sweep(reward_forms.FURTHER, 'micro', further).arms]:
    c, judge = arm.config, arm.config.reward.judge.removeprefix('scripted-')
    weights = c.reward.weights
    if judge not in LOSSES or weights.get('ladder') or weights.get('likelihood'):
      continue
    identity = run.Identity(includes=lambda key: True)
    opened = run.open_run(setup.run_folder(c), c.to_dict(), identity=identity, command=[])
    outcome = 0.5 + 0.01 * c.seed**2 - LOSSES[judge] * (1 + 0.01 * c.seed)
    with metrics.Writer(setup.run_folder(c), start_step=0) as writer:
      for step in range(c.train.num_steps):
        told = {groups.OUTCOME: outcome, 'reward/rubric': 0.2 + 0.1 * step, 'alarm/few_words': 1.0}
        writer.write(step, told)
    rows = [
      {'mode': 'sampled', 'prompt': str(i), 'outcome': i * (judge == 'perfect')} for i in (0, 1)
    ]
    by_prompt.write(setup.run_folder(c) / 'evaluations', 2, rows)
    opened.mark_done({})
    opened.close()
  return tmp_path


def test_the_page_says_what_each_form_says_and_which_flaw_it_survives(swept, tmp_path):
  arms, out = reward_forms.read(str(swept), 'micro', [MORE]), tmp_path / 'out'
  told = {(arm.form, arm.judge) for arm in arms}
  assert len(arms) == 12 and ('diversity', reward_forms.NOBODY) in told
  found = {one.judge.removeprefix('scripted-'): one for one in reward_forms.flaws(arms)}
  assert {judge: one.says for judge, one in found.items()} == {
    'gullible': 'harmed',
    'noisy-0.3': 'survives',
  }
  assert found['gullible'].by_seed.mean == pytest.approx(0.303)
  assert found['gullible'].by_prompt.mean == pytest.approx(0.5) and found['gullible'].by_prompt.num
  reward_forms.write(arms, out)
  page = (out / 'README.md').read_text()
  assert '* harmed: rubric, gullible\n' in page and '* survives: rubric, noisy-0.3\n' in page
  assert '| rubric | gullible | 3 | 0.200 [0.200, 0.200] | 0.400 [0.400, 0.400] | 0.214 [' in page
  assert 'few_words 3 |' in page and str(tmp_path) not in page
  for name in ('forms', 'flaws'):
    assert (out / f'{name}.svg').read_text().startswith('<svg xmlns=')


def test_a_further_judge_stands_on_the_page_by_its_name(swept, tmp_path):
  judges, out = ['mine/lists.py'], tmp_path / 'out'
  arms = reward_forms.read(str(swept), 'micro', [MORE], judges)
  assert len(arms) == 12 + 3 * 3  # rubric, sibling, ranking by three seeds
  found = {one.form: one for one in reward_forms.flaws(arms) if one.judge == judges[0]}
  said = {'rubric': 'harmed', 'sibling': 'cannot tell', 'ranking': 'cannot tell'}
  assert {form: one.says for form, one in found.items()} == said  # of two forms perfect is not run
  assert 0.2 < found['rubric'].by_seed.mean < 0.21
  reward_forms.write(arms, out, judges)
  page = (out / 'README.md').read_text()
  assert '* harmed: rubric, gullible; rubric, lists\n' in page and '| sibling | lists | 3 |' in page
  assert 'reward_forms_judge.py --config.reward.judge=mine/lists.py\n' in page
  assert 'reward_forms.py --judge mine/lists.py --runs_dir' in page


def test_a_wide_interval_and_a_single_seed_say_nothing():
  assert reward_forms.verdict(groups.interval([-0.2, 0.2, 0.1])) == 'cannot tell'
  assert reward_forms.verdict(groups.interval([0.2])) == 'cannot tell'
  assert reward_forms.verdict(groups.interval([0.01, 0.012, 0.011])) == 'survives'
  assert reward_forms.verdict(groups.interval([0.1, 0.12, 0.11])) == 'harmed'
  assert reward_forms.verdict(groups.interval([0.0, 0.0, 0.0])) == 'never met'
