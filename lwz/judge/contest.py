"""The matches of an arena, judged in both orders."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from lwz.evals import arena, offline
from lwz.judge import journal
from lwz.judge import judge as judge_lib


def judge(
  c,
  tasks: Sequence[arena.Task],
  answered: Mapping[str, Mapping[int, str]],
  kept: journal.ReplyJournal,
  *,
  rivals: bool,
  quiet: bool = False,
) -> tuple[list[arena.Match], judge_lib.Verdicts]:
  """The matches of an arena, see `arena.matches`, and the verdict on each: 'A', 'B', 'C' or ''."""
  by_idx = {task.idx: task for task in tasks}
  matches = arena.matches(tasks, answered, rivals=rivals)

  def question(match: arena.Match) -> judge_lib.Question:
    task = by_idx[match.idx]
    first, second = (
      answered[name][match.idx] if name in answered else task.baselines[name]
      for name in (match.first, match.second)
    )
    return judge_lib.Question(
      arena.messages(task.question, first, second),
      functools.partial(
        offline.compare, task.question, first, second, task.length, judge_lib.RULES
      ),
      given=arena.of_empty(first, second),
    )

  asked = [question(match) for match in matches]
  judged = judge_lib.ask(
    c, asked, arena.verdict, kept, again=judge_lib.ask_in('[[A]], [[B]] or [[C]]'), quiet=quiet
  )
  return matches, dataclasses.replace(judged, values=[said or '' for said in judged.values])
