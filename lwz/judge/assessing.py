"""Questions to the judge of a prompt set about each request, and what becomes of the request.

Verdicts stand in a journal under the judge, its sampling parameters, the question and the request.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lwz.data import prompts as prompt_lib
from lwz.data.funnel import assessor, offline_rules, prompt_set
from lwz.judge import journal
from lwz.judge import judge as judge_lib

_SURE = 20  # verdicts, from which the share of failures may stop the run

Record = dict[str, Any]  # of `sift.read`


def check(c) -> None:
  """Raises ValueError if the judge cannot be asked for what the config wants."""
  judge_lib.check(c)
  if c.prompts.references and judge_lib.name(c) == offline_rules.NAME:
    raise ValueError(
      f'prompts.references={c.prompts.references}: {offline_rules.NAME} write no texts; name a '
      'model as judge.model, or leave the key out'
    )


def settled(
  c, record: Record, kept: journal.ReplyJournal, written: Iterable[str] = prompt_lib.MORE
) -> tuple[Record | None, tuple[str, str]]:
  """Returns `prompt_set.settle` of a request, with what was `written` for it and is wanted."""
  value = functools.partial(_value, c, kept, record['text'])
  found: dict[str, Any] = {}
  for name in written:
    if values := [value(question) for question in _questions(c)[name]]:
      whole = values[0] if name == 'criteria' else values
      found[name] = None if None in values else whole
  keep, judged = value(assessor.FILTER), value(assessor.ASSESS)
  limits = {'judge': judge_lib.name(c), 'shortest': c.prompts.shortest}
  return prompt_set.settle(record, keep, judged, **limits, written=found)


def ask(c, records: Callable[[], Iterable[Record]], kept: journal.ReplyJournal) -> None:
  """Asks each question about every request of `records` that needs it, and is not in the journal.

  References are asked for from the worst to the best, each with the one before it in its question.
  """
  asked: list[tuple[str, Callable[[str], Any]]] = []
  asked += [(assessor.FILTER, assessor.parse_keep), (assessor.ASSESS, assessor.parse_range)]
  asked += [(question, assessor.parse_criteria) for question in _questions(c)['criteria']]
  asked += [(question, assessor.parse_reference) for question in _questions(c)['references']]
  for question, parse in asked:
    if not (total := sum(1 for _ in _missing(c, question, records(), kept))):
      continue
    is_text = parse is assessor.parse_reference
    verdicts = judge_lib.stream(
      *(c, _missing(c, question, records(), kept), parse, kept),
      total=total,
      sure=_SURE,
      again=None if is_text else functools.partial(assessor.again, question),
      whole=False,
    )
    with contextlib.closing(verdicts):
      for _ in verdicts:
        pass  # kept in the journal


def _questions(c) -> dict[str, list[str]]:
  """Returns the questions by which each of `prompts.MORE` is written; [] if it is not."""
  rungs = map(assessor.reference, range(c.prompts.references))
  return {'criteria': [assessor.CRITERIA] * c.prompts.criteria, 'references': [*rungs]}


def _key(c, text: str, question: str) -> str:
  return journal.key(judge_lib.name(c), judge_lib.sampling(c), question, text)


def _value(c, kept: journal.ReplyJournal, text: str, question: str) -> Any:
  """Returns the verdict on a question about a request, None if there is none."""
  key = _key(c, text, question)
  return kept[key]['value'] if key in kept else None


def _missing(
  c, question: str, records: Iterable[Record], kept: journal.ReplyJournal
) -> Iterator[judge_lib.Question]:
  """Yields the question about each request that needs it, and whose verdict is not there."""
  for record in records:
    key = _key(c, record['text'], question)
    if key not in kept and (chat := _chat(c, question, record, kept)):
      yield judge_lib.Question(chat, functools.partial(offline_rules.reply, chat), key)


def _chat(
  c, question: str, record: Record, kept: journal.ReplyJournal
) -> list[dict[str, str]] | None:
  """Returns the chat that asks about a request; None if it needs no answer, or one is missing."""
  text, own = record['text'], record.get('more', {})
  if question == assessor.FILTER:
    return assessor.messages(question, text)
  if question == assessor.ASSESS:
    wanted = _value(c, kept, text, assessor.FILTER) and not record['range'][1]
    return assessor.messages(question, text) if wanted else None
  if question == assessor.CRITERIA:
    wanted = not own.get('criteria') and settled(c, record, kept, ())[0]
    return assessor.messages(question, text) if wanted else None
  rungs = _questions(c)['references']
  worse = rungs[: rungs.index(question)]
  before = _value(c, kept, text, worse[-1]) if worse else ''
  line, _ = settled(c, record, kept, ('criteria',))
  if own.get('references') or before is None or line is None:
    return None
  if line['language'] != 'zh' and line['lower'] > c.judge.max_tokens:  # a word is a token or more
    raise ValueError(
      f'judge.max_tokens={c.judge.max_tokens} hold no text of {line["lower"]:,} words, which '
      f'prompts.references asks for ({text[:40]!r}...): raise it; '
      'what was judged so far is asked anew then'
    )
  return assessor.messages(question, text, f'{line["lower"]} to {line["upper"]}', before)
