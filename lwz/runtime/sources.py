"""Documents and prompts that a config names: to train on, held out, and kept for evaluations."""

from collections.abc import Iterable, Iterator

from lwz import types
from lwz.data import corpus, formatted, prompts, templates
from lwz.runtime import setup


def stream(c) -> Iterator[types.Document]:
  """Returns the documents of the corpus, one at a time."""
  return corpus.stream(setup.input_file(c, 'data.folder'))


def documents(c) -> tuple[list[types.Document], list[types.Document]]:
  """Returns the training and the held-out documents of the corpus."""
  return corpus.split(stream(c), c.data.heldout)


def heldout(c) -> tuple[list[types.Document], list[types.Document]]:
  """Returns the held-out documents in two parts: for the prompts of GRPO, and for evaluations."""
  found = (d for d in stream(c) if corpus.is_heldout(d, c.data.heldout))
  return corpus.split(found, c.data.heldout * c.data.tested)


def formatted_pairs(c, documents: Iterable[types.Document]) -> list[tuple[templates.Prompt, str]]:
  """Returns (request, completion) of each document in both styles, as the config shapes them."""
  shape = {name: c.data[name] for name in ('template', 'lower', 'upper', 'plan')}
  return formatted.examples(documents, types.STYLES, **shape)


def writing_prompts(c) -> list[types.Prompt]:
  """Returns the prompts to train on: titles that no training has seen before, or those of a file.

  A share `data.tested` of the latter is kept for evaluations, whatever evaluations there are: they
  may change when a run is resumed, and its prompts may not.
  """
  if c.data.prompts:
    return prompts.split(prompts.load(setup.input_file(c, 'data.prompts')), c.data.tested)[0]
  return prompts.from_documents(
    heldout(c)[0], lower=c.data.lower, upper=c.data.upper, slack=c.data.slack
  )
