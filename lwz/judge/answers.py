"""Answers of a system to prompts, kept in a journal as they arrive."""

import contextlib
import re
from collections.abc import Mapping

from etils import epath

from lwz import types
from lwz.evals import answers
from lwz.judge import journal, systems
from lwz.judge import judge as judge_lib
from lwz.report import terminal
from lwz.store import atomic, record


def ask(
  c, system: systems.System, prompts: Mapping[int, str], kept: journal.ReplyJournal
) -> answers.Answers:
  """A system's answers without thoughts; answers in the journal are not requested."""
  if systems.is_file(system.source):
    return answers.load(epath.Path(system.source), prompts)
  limits = {
    'temperature': c.rollout.temperature,
    'top_p': c.rollout.top_p,
    'max_tokens': c.rollout.max_tokens,
  }
  if c.rollout.top_k:  # not in the protocol, but supported by most servers
    limits['top_k'] = c.rollout.top_k
  stops = [] if system.style == 'chat' else [types.ANSWER_CLOSE]
  sampling = limits | ({'stop': stops} if stops else {})
  keys = {
    i: journal.key(system.identity, system.style, system.template, question, sampling, c.seed)
    for i, question in prompts.items()
  }
  todo = [i for i in prompts if keys[i] not in kept]
  faults = {}
  if todo:
    write = systems.connect(c, system.source, c.eval, stops=stops, **limits)
    asked = (system.request(prompts[i], sampling) for i in todo)
    with (
      terminal.Progress(len(todo), label=system.name) as bar,
      contextlib.closing(write(asked)) as replies,
    ):
      for done, reply in enumerate(replies, start=1):
        i = todo[reply.index]
        text = answers.final(reply.text)
        thinks = systems.is_endpoint(system.source) and not reply.finished and not text
        if reply.fault or thinks:
          faults[i] = reply.fault or 'nothing but reasoning: cut at rollout.max_tokens'
        else:
          kept.add(keys[i], system=system.name, index=i, text=reply.text, finished=reply.finished)
        bar.update(done, failed=len(faults))
        num_failed = sum(map(judge_lib.is_failure, faults.values()))
        judge_lib.stop_on_failures(
          c, num_failed, len(prompts), f'{system.name}: {faults.get(i, "")}'
        )
  found = {i: kept[keys[i]] for i in prompts if keys[i] in kept}
  return answers.Answers(
    {i: answers.final(reply['text']) for i, reply in found.items()},
    faults,
    frozenset(i for i, reply in found.items() if not reply.get('finished', True)),
    {i: answers.thought(reply['text']) for i, reply in found.items()},
  )


def keep(folder: epath.Path, name: str, found: answers.Answers, prompts: Mapping[int, str]) -> None:
  """Writes the answers of a system as answers-NAME.jsonl, which `answers.load` reads again."""
  before, after = types.ANSWER_OPEN, types.ANSWER_CLOSE  # what stands between is no thought
  rows = [
    {
      **{'index': i, 'prompt': prompts[i]},
      'response': f'{types.THINK_OPEN}{thought}{types.THINK_CLOSE}{before}{text}{after}'
      if thought or types.THINK_OPEN in text or types.THINK_CLOSE in text
      else text,
      'finish_reason': 'length' if i in found.cut else 'stop',
    }
    for i, text in found.texts.items()
    for thought in [found.thoughts.get(i, '')]
  ]
  atomic.write_text(folder / f'answers-{plain(name)}.jsonl', ''.join(map(record.encode, rows)))


def plain(name: str) -> str:
  """Returns a system's name as it stands in the name of its file."""
  return re.sub(r'[^\w.-]+', '-', name)
