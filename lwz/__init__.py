"""LongWriter-Zero end to end in pure-functional JAX (arXiv 2506.18841).

`load_config`, `run`, `steps` and `generate` are the door for notebooks and programs, see
`lwz.notebook`. They are loaded on first use: `import lwz` loads neither JAX nor a stage.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
  from lwz.notebook import Run, generate, load_config, run, steps

__all__ = ('Run', 'generate', 'load_config', 'run', 'steps')


def __getattr__(name: str):
  if name not in __all__:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module('lwz.notebook'), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
