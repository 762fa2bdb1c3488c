"""What was written, for machines and for people."""

import numpy as np
import pytest

from lwz.store import samples

SAMPLE = {
  'prompt': 'Write about rivers.',
  'think': 'First water.\n\nThen boats.',
  'answer': 'Rivers run.\u2028河流。',
  'text': '<think>First water.\n\nThen boats.</think><answer>Rivers run.\u2028河流。</answer>',
  'valid': True,
  'fault': '',
  'words': 2,
  'lower': 90,
  'upper': 110,
  'rewards': {'length': 0.25, 'writing': 0.5, 'format': 1.0},
}


def test_samples_come_back_with_their_step(tmp_path):
  samples.write(tmp_path, 10, [SAMPLE, {**SAMPLE, 'id': 'p0'}])
  samples.write(tmp_path, 9, [SAMPLE])
  found = samples.read(tmp_path)
  assert list(found) == [9, 10]
  assert found[10] == [{**SAMPLE, 'step': 10}, {**SAMPLE, 'id': 'p0', 'step': 10}]


def test_a_step_written_again_replaces_the_first(tmp_path):
  samples.write(tmp_path, 1, [SAMPLE, SAMPLE])
  samples.write(tmp_path, 1, [SAMPLE])
  assert len(samples.read(tmp_path)[1]) == 1


def test_files_have_the_name_of_their_step(tmp_path):
  samples.write(tmp_path, 10, [SAMPLE])
  names = sorted(p.name for p in (tmp_path / 'samples').iterdir())
  assert names == ['step-000010.jsonl', 'step-000010.md']


def test_the_page_shows_prompt_thought_answer_and_every_score(tmp_path):
  samples.write(tmp_path, 10, [SAMPLE])
  page = (tmp_path / 'samples' / 'step-000010.md').read_text()
  assert '# Step 10\n\n## 1. valid; 2 words, asked for 90 to 110' in page
  assert '**Prompt**\n\nWrite about rivers.' in page
  assert '**Think**\n\n> First water.\n>\n> Then boats.' in page
  assert '**Answer**\n\nRivers run.\u2028河流。' in page
  assert '| length | writing | format |\n| --- | --- | --- |\n| 0.2500 | 0.5000 | 1.0000 |' in page


def test_the_page_of_a_broken_structure_shows_fault_and_text(tmp_path):
  broken = {'think': None, 'answer': None, 'text': '<think>no end', 'valid': False, 'fault': 'open'}
  rewards = {'length': np.float32('nan'), 'format': 0.0}
  samples.write(tmp_path, 1, [{**SAMPLE, **broken, 'rewards': rewards}])
  page = (tmp_path / 'samples' / 'step-000001.md').read_text()
  assert 'not valid: open' in page and '**Text**\n\n<think>no end' in page
  assert '| - | 0.0000 |' in page and '**Think**' not in page
  assert samples.read(tmp_path)[1][0]['rewards'] == {'length': None, 'format': 0.0}


def test_a_missing_key_is_named(tmp_path):
  with pytest.raises(ValueError, match='sample 1 of step 3 has no words'):
    samples.write(tmp_path, 3, [SAMPLE, {k: v for k, v in SAMPLE.items() if k != 'words'}])
  assert samples.read(tmp_path) == {}


def test_samples_in_a_bucket(bucket):
  samples.write(bucket, 2, [SAMPLE])
  assert list(samples.read(bucket)) == [2]
