"""Whether a higher or a lower value of a metric is better: declared, never guessed from its name.

Reports colour changes by it, and `checkpoint.best` keeps checkpoints by it. A metric that is not
listed has no direction. `{}` stands for one part of a name, such as that of a reward.
"""

import re

from lwz.report import number

HIGHER_IS_BETTER = (
  *('accuracy', 'margin', 'heldout/accuracy'),
  *('reward/{}', 'valid_only/{}', 'valid_format', 'heldout/mean', 'tokens/finished'),
  *('eval/rating/greedy', 'eval/rating/sampled', 'eval/win_rate/{}'),
  *('eval/finished/{}', 'eval/valid_format/{}', 'eval/openings/{}'),
  *('eval/outcome/{}', 'eval/referee/{}', 'eval/referee_win_rate/{}', 'eval/known/{}'),
  *('tokens/per_second', 'learn/tokens_per_second', 'rollout/tokens_per_second', 'learn/mfu'),
)
LOWER_IS_BETTER = (
  *('loss', 'heldout/loss', 'heldout/perplexity'),
  *('heldout_formatted/loss', 'heldout_formatted/perplexity'),
  *('eval/disorder/{}', 'redundancy', 'fault/{}', 'heldout/gap', 'heldout/gap_rise'),
  *('eval/fall/{}', 'eval/failed'),
  *('eval/similarity/{}', 'eval/sibling_similarity', 'eval/shared_name/{}'),
  *('judge_failures', 'eval/judge_failures', 'learn/logp_gap', 'skipped', 'learn/skipped'),
  *('seconds', 'seconds/{}', 'rollout/seconds_to_first', 'rollout/seconds_to_last'),
)


def of(name: str) -> int:
  """Returns +1 if a higher value of the metric is better, -1 if a lower one is, 0 if undeclared."""
  return _is_in(name, HIGHER_IS_BETTER) - _is_in(name, LOWER_IS_BETTER)


def moved(first: float, last: float) -> int:
  """Returns +1 if a value rose, -1 if it fell, and 0 if it hardly moved.

  A change below 1e-6, or a thousandth of the larger value, is noise.
  """
  change = last - first
  is_noise = not abs(change) > max(1e-6, 1e-3 * max(abs(first), abs(last)))
  return 0 if is_noise else 1 if change > 0 else -1


def verdict(name: str, first: float, last: float) -> int:
  """Returns +1 if a metric got better, -1 if worse, 0 if it hardly moved or has no direction."""
  return of(name) * moved(first, last)


def change(first: float, last: float) -> str:
  """Returns how far a value went, for readers: '+0.250', '−12.00', or '≈ 0' for noise."""
  if not moved(first, last):
    return number.show(last - first) if not abs(last - first) > 0 else '≈ 0'
  return f'{"+" if last > first else "−"}{number.show(abs(last - first))}'


def check(key: str, name: str) -> None:
  """Raises ValueError, listing the choices, if the metric that a key names has no direction."""
  if not of(name):
    known = ', '.join(HIGHER_IS_BETTER + LOWER_IS_BETTER).replace('{}', 'NAME')
    raise ValueError(f'{key}={name}: not a metric that has a better direction; choose from {known}')


def _is_in(name: str, templates: tuple[str, ...]) -> bool:
  return any(
    re.fullmatch(re.escape(template).replace(r'\{\}', '[^/]+'), name) for template in templates
  )
