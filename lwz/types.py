"""Data types shared by the packages, the letters of their shapes, and names that both use.

Letters (a tensor carries its logical shape as a suffix, `logp_BT`; einsum uses them in lower case):

  P  prompts in a step            L  layers                  T  time (query position)
  G  samples per prompt           D  model width             S  time (key position)
  B  sequences, B = P * G         F  feed-forward width      V  vocabulary
  N  packed rows                  H  query heads             R  reward components
  C  head width                   K  key-value heads

"Axis" is a mesh word (`AXES`), "dimension" a tensor word.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import numpy as np

# Mesh axes, outermost first.
AXES = ('data', 'fsdp', 'tensor', 'context')

# Arrays on devices or on the host.
AnyArray = jax.Array | np.ndarray

# The output protocol of the paper (section 4): one think segment, then one answer segment.
THINK_OPEN, THINK_CLOSE = '<think>', '</think>'
ANSWER_OPEN, ANSWER_CLOSE = '<answer>', '</answer>'
STYLES = ('think', 'direct')


@dataclasses.dataclass(frozen=True)
class Document:
  """A titled text of the corpus: `Document('str.join', 'Concatenate any number ...', 'stdlib')`.

  `request` is what the text answers, word for word; '' where only the title is known.
  """

  title: str
  text: str
  source: str
  request: str = ''


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A writing request and the length, in words, that a good answer to it has.

  `Prompt('p0', 'Write a 2,000-word essay on rivers.', 1800, 2200)`
  """

  id: str
  text: str
  lower: int
  upper: int
  language: str = 'en'
  source: str = ''
  references: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Preference:
  """Two answers to one request, the better one first. `source` names the origin of the pair.

  `margin` is the least difference that their scores should have, 0 by default.
  """

  prompt: str
  chosen: str
  rejected: str
  source: str = ''
  margin: float = 0.0


@flax.struct.dataclass
class Rollout:
  """Trajectories sampled from the policy. A stop token is part of its trajectory, and trained.

  Sequence b is `ids_BT[b, :lengths_B[b]]`; beyond it is padding of any value, so masks are made
  from `lengths_B`, never from ids.
  """

  ids: jax.Array | np.ndarray  # int32 [B, T]
  logp: jax.Array | np.ndarray  # float32 [B, T], of the distribution sampled from
  lengths: jax.Array | np.ndarray  # int32 [B], stop token included
  finished: jax.Array | np.ndarray  # bool [B], False if cut at the token limit


@dataclasses.dataclass(frozen=True)
class Scores:
  """Rewards of a step: `values[p, g, r]` in [0, 1], and whether sample (p, g) counts."""

  values: np.ndarray  # float32 [P, G, R]
  valid: np.ndarray  # bool [P, G], False if a judge failed


@flax.struct.dataclass
class TrainState:
  """Everything that training changes: the step, fp32 master parameters, the optimiser's state."""

  step: jax.Array  # int32 []
  params: Any
  opt_state: Any
