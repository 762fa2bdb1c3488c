"""The answer in a model's output, without thoughts and tags."""

from lwz import types


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
