"""Arguments of a command: how they are parsed, and what is said of those that do not fit."""

import os
import re
import sys

from absl import flags

from lwz.runtime import keys, refusal

# Parts of what the parser of flags says, and what is to be given.
_WANTED = {
  'int()': 'choose a whole number',
  'to float': 'choose a number',
  'boolean': 'choose True or False',
  'as tuple': "choose a tuple, as \"('a', 'b')\"",
  'ConfigDict': 'a group of keys; set them one by one',
}


def parse(argv):
  """Parses flags; a key or value that does not fit ends the process with a sentence."""
  try:
    for key in overrides(argv):
      if key in keys.RENAMED:
        raise ValueError(f'--config.{key} is called --config.{keys.RENAMED[key]} now')
      if key in ('experiment', 'size'):
        raise ValueError(f'--config.{key}: the config file sets it; choose --config=FILE.py:SIZE')
    for argument in argv[1:]:
      name, equal, value = argument.lstrip('-').partition('=')
      if name == 'config' and equal and not os.path.exists(value.split(':')[0]):
        raise ValueError(f'{value}: no such config file; experiments/ has one per experiment')
    rest = flags.FLAGS(argv)
    if len(rest) > 1:
      raise ValueError(f'unexpected argument {rest[1]!r}: keys are set by --config.key=value')
    return rest
  except (AttributeError, KeyError, OSError, TypeError, ValueError, flags.Error) as error:
    refusal.show(ValueError(explained(error)))
  sys.exit(refusal.STATUS)


def explained(error: Exception) -> str:
  """Returns a sentence about a flag, or a config file, that ml_collections could not take."""
  if not isinstance(error, AttributeError | KeyError):
    # What the config file itself raises comes with its stack, as text.
    said = re.split(r'\n(?:ValueError|TypeError): ', str(error))[-1].strip().removeprefix('flag ')
    wanted = [text for part, text in _WANTED.items() if part in said.partition(': ')[2]]
    return f'{said.partition(": ")[0]}: {wanted[0]}' if wanted else said
  message = re.sub(r'Other fields present: ".*?}"', '', str(error), flags=re.DOTALL)
  quoted = re.findall(r"""['"](\w+)['"]""", message.replace("\\'", "'"))
  name, *near = quoted or [message]
  near += [new for old, new in keys.RENAMED.items() if old.endswith(f'.{name}')]
  hint = f'Did you mean "{near[0]}"?' if near else 'experiments/base.py has every key.'
  return f'there is no key {name!r}. {hint}'


def overrides(argv) -> dict[str, str]:
  """Returns {dotted key: argument} of the `--config.key=value` of a command line."""
  given = [argument for argument in argv[1:] if argument.lstrip('-').startswith('config.')]
  return {a.lstrip('-').removeprefix('config.').partition('=')[0]: a for a in given}
