"""WritingBench's files, of either version, and what its critic is asked."""

import json

import pytest

from lwz.evals import writingbench

CRITERION = {'name': 'Tone', 'criteria_description': 'It fits.', '1-2': 'no', '9-10': 'yes'}
ROW = {
  'index': 1,
  'domain1': 'Education',
  'domain2': 'Essay',
  'query': 'Write.',
  'criteria': [CRITERION],
}


def load(folder, *rows, name='benchmark_all.jsonl'):
  (folder / name).write_text('\n'.join(json.dumps(row) for row in rows))
  return writingbench.load(folder / name)


def test_both_versions(tmp_path):
  for version, field in writingbench.FIELDS.items():
    row = {k: v for k, v in ROW.items() if k != 'criteria'} | {field: [CRITERION], 'lang': 'zh'}
    found = load(tmp_path, row)
    assert found.version == version and found.rejects == ()
    assert found.queries == (
      writingbench.Query(1, 'Education', 'Essay', 'Write.', 'zh', (CRITERION,)),
    )


def test_what_cannot_be_used_is_explained(tmp_path):
  found = load(
    tmp_path,
    ROW,
    ROW,
    ROW | {'index': None},
    ROW | {'index': 2, 'query': ''},
    ROW | {'index': 3, 'criteria': []},
    {'index': 4, 'query': 'other version', 'checklist': [CRITERION]},
    {'index': '5', 'query': '写', 'criteria': [[CRITERION], [[CRITERION, 'Depth'], 3, None, {}]]},
  )
  assert [(q.index, q.domain1, q.language) for q in found.queries] == [
    (1, 'Education', 'en'),
    (5, 'unknown', 'zh'),
  ]
  assert [c['name'] for c in found.queries[1].criteria] == ['Tone', 'Depth']
  reasons = [reject.reason for reject in found.rejects]
  assert len(reasons) == 5
  for said in ('index 1 was there', "'index' is None", "'query'", "'criteria'", 'version v1'):
    assert any(said in reason for reason in reasons), said


def test_a_file_without_a_query_is_refused(tmp_path):
  with pytest.raises(ValueError, match='no usable query'):
    load(tmp_path, {'a': 1})
  with pytest.raises(FileNotFoundError, match='no benchmark_all'):
    writingbench.load(_empty(tmp_path))


def _empty(tmp_path):
  (tmp_path / 'empty').mkdir()
  return tmp_path / 'empty'


def test_the_folder_of_the_repository(tmp_path):
  place = tmp_path / 'benchmark_query'
  style = place / 'requirement' / 'style'
  style.mkdir(parents=True)
  for name in ('link', 'another'):
    (tmp_path / name).symlink_to(tmp_path)  # these lead back, 2^40 ways before the system refuses
  load(place, ROW, ROW | {'index': 2})
  (style / 'style_subset.jsonl').write_text(json.dumps(ROW) + '\nbroken\n')
  (style / 'style_subset_C.jsonl').write_text(json.dumps(ROW | {'criteria': [CRITERION]}))
  prompt = 'Braces {{"score": 1}}; {criteria} {query} {response} {criteria}'
  (tmp_path / 'prompt.py').write_text(
    f'evaluate_system = """\nJudge.\n""".strip()\nevaluate_prompt = """\n{prompt}\n""".strip()\n'
    'raise SystemExit("never run")\n'
  )
  found = writingbench.load(tmp_path)
  assert found.subsets == {'style': {1: ('Tone',)}} and len(found.rejects) == 1
  assert found.prompt_source == 'the benchmark’s prompt.py'
  system, user = writingbench.messages(found, found.queries[0], CRITERION, 'R {query} {{x}}')
  assert system['content'] == 'Judge.'
  said = str(CRITERION)
  assert user['content'] == f'Braces {{"score": 1}}; {said} Write. R {{query}} {{{{x}}}} {said}'


@pytest.mark.parametrize('text', ['not python (', 'evaluate_prompt = "{query} alone"', ''])
def test_a_prompt_file_that_is_none_leaves_our_own(tmp_path, text):
  load(tmp_path, ROW)
  (tmp_path / 'prompt.py').write_text(text)
  found = writingbench.load(tmp_path)
  assert found.prompt == writingbench.OWN['v1'] and found.prompt_source == 'own wording'


def test_our_own_prompts_hold_everything(tmp_path):
  found = load(tmp_path, ROW)
  (_, user) = writingbench.messages(found, found.queries[0], CRITERION, 'The response.')
  assert user['content'].count(str(CRITERION)) == 2
  assert '{"score": an integer' in user['content'] and 'The response.' in user['content']
  assert 'strict' in writingbench.OWN['later'] and 'strict' not in writingbench.OWN['v1']


@pytest.mark.parametrize(
  'held, names',
  [
    (json.dumps([CRITERION]), ['Tone']),
    ({'Tone': {'criteria_description': 'd'}, 'Depth': 3}, ['Tone', 'Depth']),
    (CRITERION, ['Tone']),
    (['Tone', [['Depth']]], ['Tone', 'Depth']),
    ([CRITERION, CRITERION | {'1-2': 'other'}], ['Tone']),
  ],
)
def test_criteria_in_any_shape(tmp_path, held, names):
  (query,) = load(tmp_path, ROW | {'criteria': held}).queries
  assert [c['name'] for c in query.criteria] == names
