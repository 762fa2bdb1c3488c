"""Texts ranked by a reward model: the drafts of `generate`, the choices of a server."""

from collections.abc import Sequence

from lwz.evals import answers
from lwz.reward import writing

_BATCH = 32  # texts that the reward model reads at a time


def marks(scorer: writing.Scorer, pairs: Sequence[tuple[str, str]]) -> list[float]:
  """Returns the reward of each (request, text), NaN where the reward model cannot read it.

  Of a text the answer is judged, without thought and tags.
  """
  judged = [(request, answers.final(text)) for request, text in pairs]
  parts = (judged[start : start + _BATCH] for start in range(0, len(judged), _BATCH))
  return [float(mark) for part in parts for mark in scorer(part)]
