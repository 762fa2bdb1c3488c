"""Protocols of reward servers: what is sent for (request, answer) pairs, and where the scores are.

  end of the address   sent                                      score of a pair
  /classify  (vLLM)    {"model", "input": [text]}                {"data": [{"index", "probs": [x]}]}
  /pooling  (vLLM)     {"model", "input": [text]}                {"data": [{"index", "data": [x]}]}
  /get_reward          {"query": [text], "prompts": [request]}   {"rewards": [x]}
  any other            {"pairs": [{"prompt", "answer"}]}         {"scores": [x]}

The third is OpenRLHF's. `text` is what our own reward models read. vLLM gives the probability of a
classifier's only class, or with /pooling the raw score, of the last token where it gives all. For a
reward model that has a chat template of its own, both take {"model", "messages"}, one chat a call.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Pair = tuple[str, str]  # request and answer


class Protocol(NamedTuple):
  """The body of a request for some pairs, the scores in an answer, and its form for readers.

  `scores` raises LookupError, TypeError or ValueError where the answer has another form.
  """

  body: Callable[[Sequence[Pair], str], dict[str, Any]]
  scores: Callable[[Any], Any]
  form: str


def _text(pair: Pair) -> str:
  return '\n\n'.join(pair)


def _inputs(pairs: Sequence[Pair], model: str) -> dict[str, Any]:
  return {'model': model, 'input': [_text(pair) for pair in pairs]}


def _chat(pairs: Sequence[Pair], model: str) -> dict[str, Any]:
  ((asked, answer),) = pairs
  said = {'user': asked, 'assistant': answer}
  return {'model': model, 'messages': [{'role': r, 'content': t} for r, t in said.items()]}


def _only(values: Any) -> Any:
  """Returns the element of a list of one; a class of several has no single score."""
  (value,) = values
  return value


def _data(field: str) -> Callable[[Any], list]:
  """Returns the scores of vLLM's data, by their index."""

  def scores(answer: Any) -> list:
    found = {entry['index']: entry[field] for entry in answer['data']}
    values = [found[i] for i in range(len(answer['data']))]
    # Of a model that gives every token's score the last one counts.
    return [_only(one[-1] if isinstance(one[-1], list) else one) for one in values]

  return scores


PROTOCOLS = {
  '/classify': Protocol(_inputs, _data('probs'), '{"data": [{"index": 0, "probs": [0.7]}]}'),
  '/pooling': Protocol(_inputs, _data('data'), '{"data": [{"index": 0, "data": [0.7]}]}'),
  '/get_reward': Protocol(
    lambda pairs, model: {'query': [*map(_text, pairs)], 'prompts': [asked for asked, _ in pairs]},
    lambda answer: answer['rewards'],
    '{"rewards": [0.7]}',
  ),
  '': Protocol(
    lambda pairs, model: {'pairs': [{'prompt': one, 'answer': other} for one, other in pairs]},
    lambda answer: answer['scores'],
    '{"scores": [0.7]}',
  ),
}


def of(url: str, *, chat: bool = False) -> Protocol:
  """Returns the protocol of a server's address.

  Raises ValueError if it takes no chats and should.
  """
  end = next(end for end in PROTOCOLS if url.rstrip('/').endswith(end))
  if not chat:
    return PROTOCOLS[end]
  if end not in ('/classify', '/pooling'):
    raise ValueError(
      f'reward.server_chat: {url} takes no messages; name an address that ends with /classify or '
      '/pooling, or leave the key out'
    )
  return PROTOCOLS[end]._replace(body=_chat)


def read(answer: Any, num: int, protocol: Protocol) -> list[float | None]:
  """Returns `num` scores, None where the server has none; raises ValueError for another answer."""
  found: list[float | None] | None = None
  with contextlib.suppress(LookupError, TypeError, ValueError, OverflowError):
    scores = protocol.scores(answer) if isinstance(answer, Mapping) else None
    if isinstance(scores, list) and all(x is None or type(x) in (int, float) for x in scores):
      found = [None if x is None else float(x) for x in scores]  # True is no score
  if found is None or len(found) != num:
    raise ValueError(
      f'a reward server was asked for {num} scores and gave '
      f'{"" if found is None else f"{len(found)}, "}{str(answer)[:120]!r}'
    )
  return found
