"""Criteria and references of a prompt whose true text is known, without a model that writes.

prompt = Prompt('p', 'Write about Rivers.', 40, 60, references=('Rivers carry silt. ...',))
guided = guidance.add(prompt)
[criterion.text for criterion in guided.criteria] == ['Covers "Rivers".', 'Covers "silt".', ...]
guided.references == (truncated with its words out of place, truncated, true)
"""

import dataclasses
import zlib

import numpy as np

from lwz import types
from lwz.data import damages, requirements, templates

NUM = 6  # criteria of a prompt
RUNGS = ('cut', 'scramble')  # what is done to each reference for the next worse one


def add(prompt: types.Prompt) -> types.Prompt:
  """Returns the prompt with criteria and references of rising quality out of its last reference.

  Each criterion asks for a term of that text: up to half of them for those that the request names,
  the others for terms of different sentences. Below the text stand damaged copies, each of which is
  damaged once more than the one above it; a text that a damage leaves as it is counts once. Random
  choices follow from the request alone.
  """
  key = np.array([zlib.crc32(prompt.text.encode(errors='surrogatepass')), 0], np.uint64)
  rng, true = np.random.Generator(np.random.Philox(key=key)), prompt.references[-1]
  form = '提到“{}”。' if templates.language(prompt.text) == 'zh' else 'Covers "{}".'
  asked = requirements.terms(prompt.text).values()
  named = [term for term in asked if requirements.covered(true, [term])][: NUM // 2]
  named += requirements.named(true, prompt.text, NUM - len(named), rng)
  texts = [true]
  for kind in RUNGS:
    texts.append(damages.DAMAGES[kind](texts[-1], rng, ''))
  return dataclasses.replace(
    prompt,
    criteria=tuple(types.Criterion(f'c{i}', form.format(n)) for i, n in enumerate(named, start=1)),
    references=tuple(reversed(dict.fromkeys(filter(str.strip, texts)))),
  )
