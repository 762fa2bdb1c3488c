"""Answers: in a model's output, without thoughts and tags, or in a file of answers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from etils import epath

from lwz import jsonl, types
from lwz.evals import records


class Answers(NamedTuple):
  """Answers by the prompt's index; why there is none; those that were cut; thoughts before them."""

  texts: dict[int, str]
  faults: dict[int, str]
  cut: frozenset[int] = frozenset()
  thoughts: Mapping[int, str] = MappingProxyType({})


def final(text: str) -> str:
  """The answer without thoughts and tags.

  It is the last answer segment, closed or not (servers strip the stop string); without one, the
  text after the thoughts; '' if the thoughts never end.

    final('<think>plan</think> <answer>work') -> 'work'
    final('plain text') -> 'plain text'
  """
  if types.ANSWER_OPEN in text:
    text = text.rpartition(types.ANSWER_OPEN)[2]
    return text.partition(types.ANSWER_CLOSE)[0].strip()
  _, closed, rest = text.rpartition(types.THINK_CLOSE)
  if not closed and types.THINK_OPEN in text:
    return text.partition(types.THINK_OPEN)[0].strip()
  return rest.partition(types.ANSWER_CLOSE)[0].strip()


def thought(text: str) -> str:
  """The thoughts of a model's output, '' if it has none, or if they never end.

  thought('<think>plan</think> <answer>work') -> 'plan'
  """
  text, closed, _ = text.partition(types.THINK_CLOSE)
  return text.rpartition(types.THINK_OPEN)[2].strip() if closed else ''


def load(path: epath.PathLike, prompts: Mapping[int, str]) -> Answers:
  """The answers to prompts in a file of JSON lines with a `response` each.

  A record names its prompt by `index`, as for WritingBench, or repeats it as `prompt`, as in
  LongWriter's pred.jsonl. An empty response is an answer, null is none; with `finish_reason`
  'length' it was cut.

  Raises ValueError if a line is broken or says nothing of its prompt, if a prompt has two answers,
  or if none of these prompts has one; FileNotFoundError if there is no file.
  """
  found, rejects = records.read(path)
  if rejects:
    raise ValueError(f'{rejects[0].where}: {rejects[0].reason}; mend or delete the record')
  by_text = {' '.join(text.split()): i for i, text in prompts.items()}
  places: dict[int, str] = {}
  texts, faults, cut = {}, dict.fromkeys(prompts, f'no answer in {path}'), set()
  thoughts: dict[int, str] = {}
  for where, record in found:
    given = records.number(record.get('index', record.get('idx')))
    prompt = ' '.join(records.text(record, 'prompt', 'query', 'question').split())
    if given is None and not prompt:
      raise ValueError(f'{where}: {jsonl.missing(record, "index")}, and no prompt; add the index')
    index = by_text.get(prompt, -1) if given is None else given
    if index not in prompts:
      continue
    if prompt and ' '.join(prompts[index].split()) != prompt:
      raise ValueError(f'{where}: its prompt is not that of index {index}: of another benchmark?')
    if index in places:
      raise ValueError(f'{where}: {places[index]} answers the same prompt; delete one of the two')
    places[index] = where
    if isinstance(text := record.get('response'), str):
      texts[index] = final(records.clean(text))
      thoughts[index] = thought(records.clean(text))
      del faults[index]
      if record.get('finish_reason') == 'length':
        cut.add(index)
    else:
      faults[index] = jsonl.missing(record, 'response')
  if not texts:
    unanswered = next((f'{where}: {faults[index]}' for index, where in places.items()), '')
    raise ValueError(
      unanswered
      or f'{path}: {len(found)} records, and none answers one of the {len(prompts)} prompts; is it '
      'of this benchmark?'
    )
  return Answers(texts, faults, frozenset(cut), thoughts)
