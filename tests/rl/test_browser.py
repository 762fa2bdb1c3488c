"""The browser's files hold what a run has, whether it is written as the run goes on or later."""

import json

import numpy as np
import pytest

from experiments import grpo_think, report
from lwz import types
from lwz.data import tokenizer
from lwz.report import browser as pages
from lwz.reward import length
from lwz.reward.hacking import alarms, signals
from lwz.rl import archived, browser, comparison, sampling, scoring
from lwz.runtime import sources
from lwz.store import lock, metrics
from tests import fakes

P, G, STEPS = 2, 4, 3
PROMPTS = [types.Prompt(f'p{i}', f'Write about {i} </script>.', 3, 9) for i in range(12)]
TEXTS = [
  '<think>Plan a.</think>\n<answer>Text of 海 and 😀.</answer>',
  '<think>Plan b.</think>\n<answer></script><script>bad()</script></answer>',
  '<answer>No thought.</answer>',
  '<think>Plan d.</think>\n<answer>' + 'Over and over. ' * 9,
]
CODES = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'


def decoded(code):
  return [CODES.index(a) * 64 + CODES.index(b) for a, b in zip(code[::2], code[1::2], strict=True)]


@pytest.fixture
def made(tmp_path, monkeypatch):
  """A run with its archive, and a function that gives a step's batches and what trained."""
  c = grpo_think.get_config('micro')
  c.train.num_steps, c.rl.prompts_per_step, c.rl.group_size = STEPS, P, G
  c.rl.max_resamples, c.runs_dir = 1, str(tmp_path)
  folder = tmp_path / 'run'
  folder.mkdir()
  tok = tokenizer.train(TEXTS + [prompt.text for prompt in PROMPTS], 300)
  tokenizer.save(tok, folder / 'tokenizer')
  fakes.keep_config(folder, c.to_dict())
  monkeypatch.setattr(sources, 'writing_prompts', lambda c: PROMPTS)
  archive, decode = archived.archive(c, folder), tokenizer.decoder(tok)
  T = c.rollout.max_tokens
  encoded = [[*row, tok.eos_token_id][:T] for row in tokenizer.encode(tok, TEXTS, end=False)]

  def of_step(step):
    batches = []
    for number in sampling.batch_numbers(c, step)[: 1 + step % 2]:  # an odd step samples again
      rng = np.random.default_rng(number)
      rows = [encoded[i] for i in rng.permutation(np.arange(P * G) % 4)]
      lengths = np.array([*map(len, rows)], np.int32)
      ids = np.array([row + [0] * (T - len(row)) for row in rows], np.int32)
      finished = np.array([row[-1] == tok.eos_token_id for row in rows])
      rollout = types.Rollout(ids, -rng.random(ids.shape).astype(np.float32), lengths, finished)
      values = rng.random((P, G, 3)).astype(np.float32)
      values[0] = 0.5 if step % 2 else values[0]  # one silent group in each batch of an odd step
      valid = np.ones((P, G), bool)
      valid[1, 2] = number != 0
      scores = types.Scores(values, valid)
      archive.write(number, 1, rollout, scores)
      chosen = sampling.take(c, PROMPTS, number)
      samples = scoring.samples(c, decode, chosen, rollout)
      batches.append(sampling.Batch([np.zeros(1)] * P, samples, rollout, scores))
    return batches

  return c, tok, folder, of_step


def advantages(c, batch):
  return comparison.trained(c, *comparison.advantages(c, None, batch.scores, batch.rollout))


def write(c, shown, step, batches, rang=()):
  informative = np.nan_to_num(np.concatenate([advantages(c, b) for b in batches])).any(axis=1)
  merged = sampling.merge(batches, informative)
  beyond = alarms.beyond(signals.measure(batches[0].samples))
  shown.write(step, batches, advantages(c, merged), informative, rang, beyond)


def index(folder):
  text = (folder / 'browser' / 'index-0000.js').read_text(encoding='utf-8')
  return [json.loads(line[len('lwz.batch(') : -3]) for _, line in pages.lines(text)]


def files(folder):
  return {path.name: path.read_bytes() for path in (folder / 'browser').iterdir()}


def test_the_files_hold_what_the_run_has(made):
  c, tok, folder, of_step = made
  shown = browser.Browser(c, tok, folder)
  batches = of_step(0)
  write(c, shown, 0, batches, ['loop'])
  (line,), batch = index(folder), batches[0]
  wanted = advantages(c, batch).reshape(-1)
  for b, sample in enumerate(batch.samples):
    p, g = divmod(b, G)
    script = (folder / 'browser' / f'batch-000000-{line["pieces"][p]}.js').read_text('utf-8')
    _, held = json.loads(f'[{script[len("lwz.piece(") : -3]}]')
    group, n = held[p], int(batch.rollout.lengths[b])
    assert (group['prompt'], group['texts'][g]) == (sample.prompt.text, sample.text)
    logp = np.array(decoded(group['logp'][g])) / -100
    np.testing.assert_allclose(logp, batch.rollout.logp[b, :n], atol=0.005001)
    sizes = decoded(group['sizes'][g])
    assert len(sizes) == n and sum(sizes) == len(sample.text.encode('utf-16-le')) // 2
    assert line['words'][b] == length.count_words(sample.parsed.answer)
    if batch.scores.valid[p, g]:
      np.testing.assert_allclose(line['rewards'][b], batch.scores.values[p, g], atol=1e-4)
      assert line['advantage'][b] == pytest.approx(wanted[b], abs=1e-4)
    else:
      assert line['rewards'][b] is line['advantage'][b] is None and (p, g) == (1, 2)
  assert line['alarms'] == ['loop'] and line['faults'] == [s.parsed.fault for s in batch.samples]
  broken = [fault != '' for fault in line['faults']]
  assert ['broken_structure' in of for of in line['flags']] == broken and any(broken)
  assert line['finished'] == batch.rollout.finished.astype(int).tolist()
  assert '<' not in ''.join(path.read_text() for path in (folder / 'browser').iterdir())


def test_groups_that_a_step_did_not_learn_from_have_no_advantage(made):
  c, tok, folder, of_step = made
  write(c, browser.Browser(c, tok, folder), 1, batches := of_step(1))
  found = np.array([line['advantage'] for line in index(folder)], float).reshape(2, P, G)
  assert np.isnan(found[:, 0]).all()  # the silent ones
  for batch, one in zip(batches, found, strict=True):
    np.testing.assert_allclose(one[1], advantages(c, batch)[1], atol=1e-4)
  assert [line['number'] for line in index(folder)] == [2, 3]
  assert index(folder)[1]['flags'] is None  # alarms are of the first batch


def test_repeated_steps_replace_themselves_after_a_resume(made):
  c, tok, folder, of_step = made
  shown = browser.Browser(c, tok, folder)
  for step in range(STEPS):
    write(c, shown, step, of_step(step))
  before = files(folder)
  again = browser.Browser(c, tok, folder)
  for step in (1, 2):
    write(c, again, step, of_step(step))
  assert files(folder) == before and again.steps() == {0, 1, 2}
  write(c, again, 1, of_step(1)[:1])  # this time the first batch was enough
  assert [line['number'] for line in index(folder) if line['step'] == 1] == [2]


def test_what_is_written_from_the_archive_is_what_the_training_wrote(made):
  c, tok, folder, of_step = made
  shown = browser.Browser(c, tok, folder)
  with metrics.Writer(folder, start_step=0) as writer:
    for step in range(STEPS):
      write(c, shown, step, of_step(step), ['few_words'] * (step == 1))
      writer.write(step, {'alarm/few_words': 1.0} if step == 1 else {})
  written = files(folder)
  for path in (folder / 'browser').iterdir():
    path.unlink()
  browser.fill(report.get_config('micro'), folder)
  assert files(folder) == written and browser.links(folder)[0][1] == 'rollouts.html'
  write(c, shown, 0, of_step(2)[:1])  # what is there stays
  kept = files(folder)
  browser.fill(report.get_config('micro'), folder)
  assert files(folder) == kept and kept != written


def test_a_run_without_an_archive_or_that_is_being_written_is_left_alone(made, monkeypatch):
  _, _, folder, of_step = made
  browser.fill(report.get_config('micro'), folder)
  assert not (folder / 'browser').exists() and browser.links(folder) == []
  of_step(0)
  refused = RuntimeError('is writing this run')

  def acquire(path):
    raise refused

  monkeypatch.setattr(lock, 'acquire', acquire)
  with pytest.raises(RuntimeError, match='is writing this run'):
    browser.fill(report.get_config('micro'), folder)
  assert not (folder / 'browser').exists()
