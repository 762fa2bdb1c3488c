"""The door for notebooks and programs: `lwz.load_config`, `lwz.run`, `lwz.steps`, `lwz.generate`.

  c = lwz.load_config('grpo_think:micro', {'train.num_steps': 20})
  for record in lwz.steps(c, rewards={'brevity': brevity}):
    print(record['reward/brevity'])   # break: the run is saved, and goes on at the next start

Runs are those of `lwz.launch`, in the same folders: complete ones are not run again, others go on.
"""

import contextlib
import dataclasses
import html
import os
import pathlib
import re
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from lwz import door as door_lib
from lwz.reward import function
from lwz.rl import registry
from lwz.runtime import command_line, compilation, interrupts, keys, places, refusal, setup, sizing
from lwz.stages import generate as generate_stage
from lwz.store import metrics as metrics_lib
from lwz.store import model_source
from lwz.store import run as run_lib
from lwz.store import samples as samples_lib

Rewards = Mapping[str, function.Function | tuple[function.Function, str]]
_PLOT = re.compile(r'<svg [^>]*aria-label="([^"]*)".*?</svg>', re.DOTALL)
# By folder: the iterators of `steps` that may be open.
_OPEN: weakref.WeakValueDictionary[str, Generator] = weakref.WeakValueDictionary()


class Plot(str):
  """An SVG, which a notebook shows."""

  def _repr_svg_(self) -> str:
    return str(self)


@dataclasses.dataclass(frozen=True)
class Run:
  """The results of a run, so far; each access reads its folder again."""

  folder: pathlib.Path | epath.Path

  @property
  def metrics(self) -> dict[str, np.ndarray]:
    """Each metric over the steps of 'step', which is one of them; NaN where it was not measured."""
    records = metrics_lib.read(self.folder) if (self.folder / 'metrics.jsonl').exists() else []
    names = dict.fromkeys(name for record in records for name in record)
    return {n: np.array([record.get(n) for record in records], np.float64) for n in names}

  @property
  def samples(self) -> dict[int, list[dict[str, Any]]]:
    """The samples of each step that has some on disk."""
    return samples_lib.read(self.folder)

  @property
  def plots(self) -> dict[str, Plot]:
    """The plots of the report by their titles; none before the run is done."""
    page = self.folder / 'report.html'
    text = page.read_text('utf-8') if page.exists() else ''
    return {html.unescape(found[1]): Plot(found[0]) for found in _PLOT.finditer(text)}

  @property
  def summary(self) -> dict[str, Any]:
    """The results of a run that is done, else {}."""
    opened = run_lib.Run(epath.Path(self.folder))
    return opened.read_done()['summary'] if opened.is_done() else {}


def load_config(experiment: str | os.PathLike, overrides: Mapping[str, Any] | None = None):
  """Returns the config of `name[:size]`, or of the path of its file, with other values by key.

  Raises ValueError or FileNotFoundError for a key, a value or an experiment that there is not.
  """
  name, _, size = os.fspath(experiment).partition(':')
  path = pathlib.Path(name) if name.endswith('.py') else places.experiments() / f'{name}.py'
  if not path.exists():
    known = ', '.join(sorted(p.stem for p in path.parent.glob('[!_]*.py') if p.stem != 'base'))
    raise FileNotFoundError(f'{path}: there is no such experiment; choose from {known or "none"}')
  c = door_lib.load(path, *([size] if size else []))
  for key, value in (overrides or {}).items():
    if key in keys.RENAMED:
      raise ValueError(f'{key} is called {keys.RENAMED[key]} now')
    try:
      keys.set_value(c, key, tuple(value) if isinstance(value, list) else value)
    except (AttributeError, KeyError) as error:
      raise ValueError(command_line.explained(error)) from None
    except TypeError as error:
      raise ValueError(f'{key}={value!r}: {error}') from None
  return c


def run(c, rewards: Rewards | None = None, *, quiet: bool = False) -> Run:
  """Runs what `c` needs and then `c`, each unless it is complete; see `steps`."""
  c = c.copy_and_resolve_references()
  sizing.settle(c)  # its folder, too
  for _ in steps(c, rewards, quiet=quiet):
    pass
  return Run(setup.run_folder(c))


def steps(c, rewards: Rewards | None = None, *, quiet: bool = False) -> Generator[dict[str, float]]:
  """Runs what `c` needs, and yields the record of each step of `c` that is left, as it ends.

  Whoever asks for no further step leaves a run that is saved, and goes on when it is started again;
  so does an interrupt, which waits for the end of the step. `rewards` are functions by the names of
  their metrics and weights (1 where `reward.weights` has none): each maps samples, with `prompt`
  and `parsed`, to one number each, NaN where it cannot say. See `lwz.reward.function` for functions
  that compare siblings, and for what cannot be read. `quiet` prints nothing.
  """
  c, made = _given(c, rewards or {})
  sizing.settle(c)
  folder = os.path.abspath(os.fspath(setup.run_folder(c)))
  if (before := _OPEN.pop(folder, None)) is not None:
    before.close()
  found = _steps(c, made, quiet)
  _OPEN[folder] = found
  return found


def _steps(c, rewards, quiet: bool) -> Generator[dict[str, float]]:
  compilation.prepare(c)
  door = door_lib.Door(places.experiments(), rewards).steps(c)
  try:
    while True:
      try:
        with _muted(quiet), interrupts.noted():
          record = next(door, None)
      except interrupts.Stopped as stopped:
        raise KeyboardInterrupt(stopped.message) from None
      except Exception as error:  # a sentence needs no stack
        if refusal.is_refusal(error):
          raise error.with_traceback(None) from None
        raise
      if record is None:
        return
      yield record
  finally:
    with _muted(quiet):
      door.close()


def generate(
  model: str | os.PathLike | Run,
  prompts: Sequence[str],
  *,
  max_tokens: int = 0,
  temperature: float | None = None,
  seed: int = 0,
  quiet: bool = False,
) -> list[str]:
  """Returns what a model writes to each prompt, thoughts and answer, without the prompt.

  `model` is a run, its folder, or a Hugging Face model. A run is asked as it was trained: its
  template, its temperature, at most its number of tokens; another model as experiments/generate.py
  says, at most to the end of its context.
  """
  asked = [prompts] if isinstance(prompts, str) else list(prompts)
  if not asked:
    return []
  source = os.fspath(model.folder if isinstance(model, Run) else model)
  c = _asked(source)
  c.init, c.prompt, c.seed = source, asked[0], seed
  if max_tokens:
    c.rollout.max_tokens = max_tokens
  if temperature is not None:
    c.rollout.temperature = temperature
  sizing.settle(c)
  compilation.prepare(c)
  with _muted(quiet):
    generate_stage.check(c)
    return [completion.text for completion in generate_stage.write(c, asked)]


def _asked(source: str):
  """Returns the config of experiments/generate.py for a model, with the limits of a run."""
  path = epath.Path(os.path.expanduser(source))
  if not model_source.is_run(path):
    c = load_config('generate:0.5b')
    room = model_source.config(source).num_positions
    c.rollout.max_prompt_tokens = min(c.rollout.max_prompt_tokens, room // 2)
    c.rollout.max_tokens = min(c.rollout.max_tokens, room - c.rollout.max_prompt_tokens)
    return c
  trained = run_lib.Run(path).config
  c = load_config(f'generate:{trained["size"]}')
  c.base_model = trained.get('base_model', '')  # names its size; an older run may not hold it
  c.generate.loop = 0
  limits = ('max_prompt_tokens', 'max_tokens', 'min_tokens')
  for key in ('temperature', 'top_p', 'top_k', 'exact', *limits):
    if key in trained['rollout']:  # an older run may not hold it
      c.rollout[key] = trained['rollout'][key]
  return c


def _given(c, rewards: Rewards):
  """Returns a copy of the config that names the rewards, and the rewards themselves."""
  c = c.copy_and_resolve_references()
  made = {}
  with c.unlocked():
    c.reward.functions = ml_collections.ConfigDict()
    for name, given in rewards.items():
      if name in registry.REWARDS:
        raise ValueError(f'rewards[{name!r}]: lwz has a reward of this name; choose another')
      made[name], c.reward.functions[name] = function.reward(name, given)
      if name not in c.reward.weights:
        c.reward.weights[name] = 1.0
  return c, made


@contextlib.contextmanager
def _muted(quiet: bool) -> Iterator[None]:
  if not quiet:
    yield
    return
  with (
    open(os.devnull, 'w') as nowhere,
    contextlib.redirect_stdout(nowhere),
    contextlib.redirect_stderr(nowhere),
  ):
    yield
