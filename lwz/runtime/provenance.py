"""The provenance of a model: what its run keeps of data, rewards, prompt and sampling."""

import json
import os
import pathlib
import re
from typing import Any

import ml_collections
from etils import epath

from lwz import jsonl
from lwz.data import templates
from lwz.report import model_card, summary
from lwz.runtime import keys, setup
from lwz.store import gguf_header, metrics, model_source
from lwz.store import run as run_lib
from lwz.store.hf import peft

# Of data and training, what a card names where the run's stage reads it.
SHOWN = (
  *('data.folder', 'data.prompts', 'data.examples', 'data.preferences', 'data.lower', 'data.upper'),
  *('train.num_steps', 'train.learning_rate', 'rl.prompts_per_step', 'rl.group_size'),
  *('rl.advantage', 'rl.loss', 'rl.kl_weight', 'reward.model', 'reward.judge'),
  *('reward.max_words', 'seed'),
  *('lora.rank', 'lora.alpha', 'lora.targets', 'lora.frozen'),
)
# What stands for a key that names no file.
_EMBEDDED = {
  'data.folder': "Python's own documentation",
  'data.prompts': 'made from the titles of held-out documents',
}
# In the front matter of a card, which ends with a line of dashes.
_LICENSE = re.compile(r'\A---\n(?:(?!---).*\n)*?license:[ \t]*["\']?([\w.-]+)')
_LONGEST = 20  # runs that begin with each other; a circle has no end
_SAMPLING = {
  'rollout.temperature': 'temperature',
  'rollout.top_p': 'top_p',
  'rollout.top_k': 'top_k',
  'rollout.max_tokens': 'max_new_tokens',
}


def of(source: str, shown: tuple[str, ...] = ()) -> model_card.Provenance:
  """Returns the provenance of a model, named as `setup.reference` returns it.

  `shown` are the metrics that come first; those of the run's own summary follow.

  Raises ValueError if its config.json is none of lwz.
  """
  if not model_source.is_run(source):
    name = epath.Path(source).name or source
    return model_card.Provenance(name, _public(source), _license(source))
  opened = run_lib.Run(epath.Path(source))
  style, template = opened.settings('data', 'style', 'template')
  flat = {key: json.loads(v) for key, v in keys.upgrade(run_lib.flatten(opened.config)).items()}
  lineage, base = _lineage(source)
  writes = flat['stage'] in keys.WRITING
  weights = {
    k.removeprefix('reward.weights.'): v for k, v in flat.items() if k.startswith('reward.weights.')
  }
  limits = ('rollout.max_prompt_tokens', 'rollout.max_tokens')
  return model_card.Provenance(
    name=epath.Path(source).name,
    base=_public(base) if base else '',
    license=_license(base) if base else '',
    stage=flat['stage'],
    lineage=lineage,
    settings={
      key: _public(flat[key] or _EMBEDDED.get(key, flat[key]))
      for key in SHOWN
      if key in flat and _matters(key, flat)
    },
    rewards=weights if flat['stage'] == 'grpo' else {},
    prompt=(style, template) if writes else None,
    sampling=_sampling(flat) if writes else {},
    context=sum(flat[key] for key in limits) if writes and all(k in flat for k in limits) else 0,
    results=_results(opened, shown),
  )


def _public(value: Any) -> str:
  """A value as a card shows it: of a path its name alone, where files lie is nobody's business."""
  text = str(value)
  is_path = (
    text.startswith(('/', '~', '.')) or '://' in text or ('/' in text and os.path.exists(text))
  )
  return epath.Path(text).name if is_path else text


def _matters(key: str, flat: dict[str, Any]) -> bool:
  """Whether the value says something of this run."""
  if key.startswith('lora.') and not flat['lora.rank']:
    return False
  of_grpo = key.startswith(('rl.', 'reward.')) or key == 'data.prompts'
  return (flat['stage'] == 'grpo' or not of_grpo) and (flat[key] != '' or key in _EMBEDDED)


def _sampling(flat: dict[str, Any]) -> dict[str, Any]:
  found = {theirs: flat[key] for key, theirs in _SAMPLING.items() if key in flat}
  if not found.get('temperature', 1.0):
    del found['temperature']  # transformers wants none where the likeliest token is taken
    found['do_sample'] = False
  else:
    found['do_sample'] = True
  return found | {'stop_strings': list(templates.STOPS)}


def _lineage(source: str) -> tuple[tuple[str, ...], str]:
  """Returns the runs that led to a run, itself first, and what the first of them began with.

  A run that is not there is named as it was asked for.
  """
  found: list[str] = []
  while model_source.is_run(source) and len(found) < _LONGEST:
    folder = epath.Path(source)
    found.append(folder.name)
    # The two keys that older runs do not hold.
    c = ml_collections.ConfigDict({'base_model': '', 'needs_seed': 0} | run_lib.Run(folder).config)
    if c.init == 'random':
      return tuple(found), ''
    c.runs_dir = str(folder.parent)  # where it lies now
    asked = c.base_model if c.init == 'base_model' else c.init
    source = setup.reference(c, asked)
    if source != asked and not model_source.is_run(source):
      return tuple(found), asked
  return tuple(found), source


def _license(source: str) -> str:
  """Returns the license that the files of a model name, '' where they do not."""
  try:
    if file := gguf_header.locate(source):
      return str(gguf_header.read(file).metadata.get('general.license', ''))
  except (OSError, ValueError, ModuleNotFoundError):  # a base need not be there any more
    return ''
  card = pathlib.Path(source) / 'README.md'
  found = _LICENSE.search(jsonl.contents(card).decode(errors='replace')) if card.is_file() else None
  if not found and (pathlib.Path(source) / peft.CONFIG).is_file():
    return _license(peft.base(pathlib.Path(source)))
  return found[1] if found else ''


def _results(opened: run_lib.Run, shown: tuple[str, ...]) -> tuple[summary.Row, ...]:
  if not (opened.folder / 'metrics.jsonl').exists():
    return ()
  own = tuple(opened.read_done()['summary']) if opened.is_done() else ()
  names = list(dict.fromkeys((*shown, *own)))
  return tuple(summary.first_last(metrics.read(opened.folder), names)[:12])
