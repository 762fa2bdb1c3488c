"""The referee: measures of held-out answers that trained nothing.

A reward that rises while the text gets worse is seen here: (a) a second reward model, which has
other documents and other kinds of damage than the one that trains, and its preference between now
and step 0 on the same prompts; (b) the log-probability of the answer under the model that the run
began from; (c) words that the corpus knows, words out of place, punctuation and distinct pairs of
words, beside the corpus'.
"""

import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from lwz import text as words_lib
from lwz import types
from lwz.data import corpus, templates, tokenizer
from lwz.evals import position
from lwz.model import config as config_lib
from lwz.programs import language_model
from lwz.reward import length
from lwz.reward.hacking import grammar
from lwz.rl import registry
from lwz.runtime import setup, sources, trainer
from lwz.store import atomic

READS = (*setup.DOCUMENTS, 'data.row_length', 'data.template', 'reward', 'train.chunk')

CORPUS = 'corpus'  # beside the modes of an evaluation: the passages of the same titles
MEASURES = ('referee', 'logp', 'known', 'disorder', 'marks', 'distinct')
_DOCUMENTS = 20_000  # of the corpus, whose words count as known
WIN_RATE, PAIRS, OUTCOME = 'referee_win_rate', 'referee_pairs', 'outcome'
TITLES = {
  WIN_RATE: ('the referee prefers now to step 0', 'share'),
  'logp': ('log-probability, first model', 'nats per token'),
  'known': ('words that the training documents have', 'share'),
  'referee': ('score by the referee, valid answers', 'in [0, 1]'),
  OUTCOME: ('score by the referee, all answers', 'broken: 0'),
  'disorder': ('words out of place', '0 in prose, 1 if shuffled'),
  'marks': ('punctuation marks per word', ''),
  'distinct': ('distinct pairs of words', 'share'),
}


class Answer(NamedTuple):
  """An answer to judge; `text` is '' where the format is broken, which has no marks at all."""

  request: str
  text: str


def names(modes: Sequence[str]) -> list[str]:
  """Returns the names of all metrics, of every mode."""
  of_all = [f'eval/{name}/{mode}' for name in MEASURES for mode in (*modes, CORPUS)]
  return of_all + [f'eval/{name}/{mode}' for name in (WIN_RATE, PAIRS, OUTCOME) for mode in modes]


def plots(modes: Sequence[str]) -> list[dict[str, Any]]:
  """Returns the curves of the referee, as arguments of `curves.draw`."""
  shown: list[dict[str, Any]] = []
  for name, (title, unit) in TITLES.items():
    keys = [*modes, *([CORPUS] if name in MEASURES else [])]
    shown.append({'keys': [f'eval/{name}/{key}' for key in keys], 'title': title, 'unit': unit})
  return shown


class Referee:
  """Judges the answers of an evaluation. All processes call `scores`, the first one `measure`.

  `passages` are the corpus' own answers to the held-out requests; `start` is the file that keeps
  the scores of the first evaluation.
  """

  def __init__(
    self,
    c,
    tok,
    config: config_lib.QwenConfig,
    mesh,
    passages: Sequence[Answer],
    start: epath.Path,
  ):
    self._c, self._tok, self._start = c, tok, start
    self._shape = registry.score_shape(c, mesh)
    self._scorer = registry.scorer(c, mesh, c.reward.heldout)
    self._params = trainer.initial_params(c, config, mesh, config.dtype)
    program = language_model.token_logprob(config, self._shape, chunk=c.train.chunk, mesh=mesh)
    self._logprob = program.jit()
    asked = [passage.request for passage in passages]
    ids = templates.prompt_ids(tok, asked, 'direct', c.data.template)
    self._prompts = dict(zip(asked, ids, strict=True))
    self._vocabulary = vocabulary(sources.stream(c), c.data.heldout)
    self._corpus = self._of(passages, self.scores(passages, self.logprobs(passages)))

  def scores(self, answers: Sequence[Answer], logps: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the referee's scores and the mean of `logprobs` [B]; NaN for broken answers."""
    found = {'referee': np.full(len(answers), np.nan)}
    if sound := [i for i, answer in enumerate(answers) if answer.text]:
      found['referee'][sound] = self._scorer([(answers[i].request, answers[i].text) for i in sound])
    means = [logp_T.mean() if len(logp_T) else np.nan for logp_T in logps]
    return found | {'logp': np.array(means, np.float64)}

  def logprobs(self, answers: Sequence[Answer]) -> list[np.ndarray]:
    """Returns those of each answer's tokens, after its request alone; none of a broken one."""
    sound = [answer for answer in answers if answer.text]
    of = (self._logprob, self._params)
    found = iter(language_model.logprobs(*of, *self._texts(sound), self._shape) if sound else ())
    return [next(found) if answer.text else np.zeros(0, np.float32) for answer in answers]

  def _texts(self, answers: Sequence[Answer]) -> tuple[list[list[int]], list[int]]:
    """Returns the ids of requests with their answers, and how many are of the request."""
    opening = self._tok.encode(types.ANSWER_OPEN, add_special_tokens=False)
    prompts = [self._prompts[answer.request] for answer in answers]
    bodies = tokenizer.encode(self._tok, [types.ANSWER_OPEN + a.text for a in answers], end=False)
    texts = [prompt + body for prompt, body in zip(prompts, bodies, strict=True)]
    return texts, [len(prompt) + len(opening) for prompt in prompts]

  def within(
    self, answers: Sequence[Answer], logps: Sequence[np.ndarray], size: int
  ) -> dict[str, dict[int, position.Scored]]:
    """Returns the scores and the surprise inside answers, by the answer's place; broken ones not.

    `referee` scores windows of about `size` words, `position.PARTS` of a text at most, as answers
    to its request; `surprise` is -log p of each token, of `logprobs`. All processes call it, as
    `scores`.
    """
    sound = [
      (i, a, logp_T) for i, (a, logp_T) in enumerate(zip(answers, logps, strict=True)) if a.text
    ]
    cut = [position.windows(answer.text, size, position.PARTS) for _, answer, _ in sound]
    pairs = [(a.request, w.text) for (_, a, _), own in zip(sound, cut, strict=True) for w in own]
    scores = iter(self._scorer(pairs) if pairs else ())
    found: dict[str, dict[int, position.Scored]] = {'referee': {}, 'surprise': {}}
    for (i, answer, logp_T), own in zip(sound, cut, strict=True):
      values = list(itertools.islice(scores, len(own)))
      found['referee'][i] = position.placed(answer.text, own, values)
      at_T = (np.arange(len(logp_T)) + 0.5) / max(len(logp_T), 1)
      found['surprise'][i] = position.Scored(at_T, -logp_T)
    return found

  def measure(
    self, answered: Mapping[str, Sequence[Answer]], scores: Mapping[str, Mapping[str, np.ndarray]]
  ) -> dict[str, float]:
    """Returns all metrics: of each mode its answers and `scores`, in the order of the tasks."""
    now = {
      mode: {a.request: score for a, score in zip(answers, scores[mode]['referee'], strict=True)}
      for mode, answers in answered.items()
    }
    first = self._first(now)
    measured = {f'eval/{name}/{CORPUS}': value for name, value in self._corpus.items()}
    for mode, answers in answered.items():
      values = self._of(answers, scores[mode])
      pairs = [(score, first[mode].get(request)) for request, score in now[mode].items()]
      both = [(score, then) for score, then in pairs if np.isfinite(score) and then is not None]
      values[OUTCOME] = float(np.mean(outcome(scores[mode]['referee'])))
      values[PAIRS] = float(len(both))
      values[WIN_RATE] = win_rate(*np.array(both).reshape(-1, 2).T)
      measured |= {f'eval/{name}/{mode}': value for name, value in values.items()}
    return measured

  def _first(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Returns the scores of the run's first evaluation, which these are if there was none."""
    if not self._start.exists():
      found = {mode: {k: v for k, v in of.items() if np.isfinite(v)} for mode, of in scores.items()}
      atomic.write_text(self._start, json.dumps(found) + '\n')
    return json.loads(self._start.read_text())

  def _of(self, answers: Sequence[Answer], scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the means over sound answers; those of style are of all of them as one text."""
    whole = '\n\n'.join(answer.text for answer in answers if answer.text)
    marks = {name: mean(values) for name, values in scores.items()} | style(whole)
    return marks | {'known': known(whole, self._vocabulary)}


def rows(
  answers_by: Mapping[str, Sequence[Answer]], scores: Mapping[str, Mapping[str, np.ndarray]]
) -> list[dict[str, Any]]:
  """Returns a record of each answer, for differences between runs by prompt."""
  return [
    {
      'mode': mode,
      'prompt': answer.request,
      'valid_format': float(bool(answer.text)),
      'words': length.count_words(answer.text) if answer.text else None,
      **{name: values[i] for name, values in scores[mode].items()},
      OUTCOME: outcome(scores[mode]['referee'])[i],
    }
    for mode, answers in answers_by.items()
    for i, answer in enumerate(answers)
  ]


def outcome(scores_B: np.ndarray) -> np.ndarray:
  """Returns the referee's scores, 0 for broken answers, as the writing reward has it."""
  return np.nan_to_num(scores_B, nan=0.0)


def win_rate(now_B: np.ndarray, then_B: np.ndarray) -> float:
  """Returns the share of pairs whose present side is better, a tie as half; NaN without pairs."""
  wins_B = (now_B > then_B) + 0.5 * (now_B == then_B)
  return float(wins_B.mean()) if len(wins_B) else float('nan')


def mean(values_B: np.ndarray) -> float:
  """Returns the mean of the finite values, NaN without any."""
  finite = values_B[np.isfinite(values_B)]
  return float(finite.mean()) if len(finite) else float('nan')


def vocabulary(documents: Iterable[types.Document], heldout: float) -> frozenset[str]:
  """Returns the words of the training documents among the first 20,000 documents."""
  return frozenset(
    word
    for document in itertools.islice(documents, _DOCUMENTS)
    if not corpus.is_heldout(document, heldout)
    for word in words_lib.words(document.text.lower())
  )


def known(text: str, vocabulary: Collection[str]) -> float:
  """Returns the share of words that lie in the vocabulary; NaN of no words."""
  said = words_lib.words(text.lower())
  return sum(word in vocabulary for word in said) / len(said) if said else float('nan')


def style(text: str) -> dict[str, float]:
  """Returns `disorder`, marks of punctuation per word, and the share of distinct word pairs.

  The latter is of windows of 512 words: that of a longer text is smaller whatever it says.
  """
  said = words_lib.words(text.lower())
  windows = [said[i : i + 512] for i in range(0, len(said), 512)]
  pairs = [list(itertools.pairwise(w)) for w in windows if len(w) > 1]
  return {
    'disorder': grammar.disorder(text),
    'marks': len(re.findall(r'[^\w\s]', text)) / len(said) if said else float('nan'),
    'distinct': float(np.mean([len({*p}) / len(p) for p in pairs])) if pairs else float('nan'),
  }
