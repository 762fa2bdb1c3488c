"""Criteria and references of a prompt whose true text is known, without a model that writes.

prompt = Prompt('p', 'Write about Rivers.', 40, 60, references=('Rivers carry silt. ...',))
guided = guidance.add(prompt)
guided.criteria[0].text == 'Covers "silt".'
guided.references == (truncated, with words out of place and some left out; truncated; true)
"""

import dataclasses
import zlib

import numpy as np

from lwz import types
from lwz.data import damages, requirements, templates

NUM = 6  # criteria of a prompt
RUNGS = (('cut',), ('scramble', 'drop'))  # what each worse reference lacks of the next better one


def add(prompt: types.Prompt) -> types.Prompt:
  """Returns the prompt with criteria and references of rising quality out of its last reference.

  Each criterion asks for a term of that text which the request does not name, of different
  sentences first. Below the text stand damaged copies, each of which is damaged once more than the
  one above it; a text that a damage leaves as it is counts once. Random choices follow from the
  request alone.
  """
  key = np.array([zlib.crc32(prompt.text.encode(errors='surrogatepass')), 0], np.uint64)
  rng, true = np.random.Generator(np.random.Philox(key=key)), prompt.references[-1]
  form = '提到“{}”。' if templates.language(prompt.text) == 'zh' else 'Covers "{}".'
  named = requirements.named(true, prompt.text, NUM, rng)
  texts = [true]
  for kinds in RUNGS:
    worse = texts[-1]
    for kind in kinds:
      worse = damages.DAMAGES[kind](worse, rng, '')
    texts.append(worse)
  return dataclasses.replace(
    prompt,
    criteria=tuple(types.Criterion(f'c{i}', form.format(n)) for i, n in enumerate(named, start=1)),
    references=tuple(reversed(dict.fromkeys(filter(str.strip, texts)))),
  )
