"""Curves, heat maps and facts of a run's evaluations, for its report."""

from typing import Any

import jax
from etils import epath

from lwz.evals import offline
from lwz.judge import judge as judge_lib
from lwz.judge import systems
from lwz.report import heatmap
from lwz.rl import evaluator, judged, rating
from lwz.store import evaluations, metrics


def plots(c) -> list[dict[str, Any]]:
  """Returns the curves of a run's evaluations, as arguments of `curves.draw`."""
  if not c.eval.every:
    return []
  by = offline.NAME if c.judge.model == offline.NAME else systems.name(c, c.judge.model)
  by += judged.mark(c, judge_lib.name(c))
  siblings = evaluator.SIBLINGS
  return [
    {
      'keys': _both('rating'),
      'band': evaluator.INTERVAL,
      'title': 'held-out rating',
      'unit': f'Elo scale, by {by}',
    },
    {'keys': _both('win_rate'), 'title': 'held-out win rate', 'unit': f'by {by}'},
    {'keys': ['words/think', *_both('think')], 'title': 'words of thoughts, and held-out ones'},
    {'keys': _both('plan'), 'title': 'outline followed, in order', 'unit': 'share'},
    {'keys': _both('words_finished'), 'title': 'words of held-out answers that were not cut'},
    {'keys': _both('valid_format'), 'title': 'share of valid format, held-out prompts'},
    {'keys': [*_both('similarity'), siblings], 'title': 'similarity of answers, and of siblings'},
  ]


def _both(name: str) -> list[str]:
  return [f'eval/{name}/{mode}' for mode in evaluator.MODES]


def heat_maps(folder: epath.Path) -> list[tuple[str, str]]:
  """Returns the measures by position at every evaluation of a run, as plots of a page."""
  found = evaluations.read(folder) if jax.process_index() == 0 else {}
  positions = {step: one.get('positions', {}) for step, one in found.items()}
  return heatmap.of_measures(positions, rating.POSITIONS)


def facts(c, folder: epath.Path) -> dict[str, str]:
  """Returns facts that a reader of the curves needs, and of a run what could not be judged."""
  if not c.eval.every:
    return {}
  said = 'length and repetition, no meaning' if c.judge.model == offline.NAME else ''
  name = judge_lib.name(c) + judged.mark(c, judge_lib.name(c))
  found = {'judge of the evaluations': ': '.join(filter(None, [name, said]))}
  if c.rollout.weights != 'float':
    found['policy of the evaluations'] = f'with weights rounded to {c.rollout.weights}'
  evaluated = {} if jax.process_index() else evaluations.read(folder)
  if evaluated:
    lines = metrics.read(folder)
    spent = sum(r.get(key) or 0 for r in lines for key in r if key.startswith('seconds/eval_'))
    found['time of evaluations'] = f'{spent / sum(r["seconds"] for r in lines):.1%}'
  if failed := [one for one in evaluated.values() if one.get('fault')]:
    steps = ', '.join(str(one['step']) for one in failed)
    found['evaluations that failed'] = f'step {steps}: {failed[-1]["fault"]}'
  return found
