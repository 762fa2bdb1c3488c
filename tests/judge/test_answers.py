"""Answers that are kept for another evaluation are read again as they were."""

from lwz.evals import answers as answers_lib
from lwz.judge import answers


def test_answers_survive_their_file(tmp_path):
  texts = ['plain', 'a </think> b', 'so <think> he said', '', 'with a plan', 'a <think>x</think>']
  found = answers_lib.Answers(
    dict(enumerate(texts)), {}, frozenset([1]), dict.fromkeys(range(6), '') | {4: 'the plan'}
  )
  prompts = dict.fromkeys(range(6), 'Write  an ode.')  # equal texts are told apart by their index
  answers.keep(tmp_path, 'a/b', found, prompts)
  assert answers_lib.load(tmp_path / 'answers-a-b.jsonl', prompts) == found
