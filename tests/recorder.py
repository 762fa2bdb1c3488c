"""`python -m tests.recorder FILE ...` is `python -m lwz.launch ...` that writes down what is read.

Every leaf that code of lwz reads of a config while a stage is checked or run is a line of FILE:
the stage, and the dotted key. The table of keys and the door are left out: they read all keys, for
bounds and identity, whatever the stage.
"""

import atexit
import json
import runpy
import sys

import ml_collections

NOT_A_STAGE = ('lwz.runtime.keys', 'lwz.runtime.compilation', 'lwz.door', 'lwz.launch', '__main__')
WHOLE = ('to_dict', 'items', 'copy_and_resolve_references', 'update_from_flattened_dict', 'keys')

READ = set()
PLACES = {}  # id of a group: (the config that it belongs to, its dotted name)
KEPT = []  # what PLACES names stays alive, so that no id is used twice


def reader():
  """The module of lwz that is reading, or '' where a config reads itself or a test does."""
  frame = sys._getframe(2)
  while frame and frame.f_globals.get('__name__', '').startswith('ml_collections'):
    if frame.f_code.co_name in WHOLE:
      return ''
    frame = frame.f_back
  name = frame.f_globals.get('__name__', '') if frame else ''
  if name == 'lwz.runtime.keys' and frame.f_code.co_name == 'get':  # on behalf of its caller
    name = frame.f_back.f_globals.get('__name__', '')
  return name if name.startswith('lwz.') and name not in NOT_A_STAGE else ''


def install():
  plain = ml_collections.ConfigDict.__getitem__

  def getitem(self, key):
    value = plain(self, key)
    root, prefix = PLACES.get(id(self), (self, ''))
    dotted = f'{prefix}{key}'
    is_group = isinstance(value, ml_collections.ConfigDict)
    if is_group:
      PLACES[id(value)] = root, f'{dotted}.'
      KEPT.append(value)
    if reader() and (not is_group or dotted == 'reward.weights'):  # a dict is its value
      READ.add((plain(root, 'stage'), dotted))
    return value

  ml_collections.ConfigDict.__getitem__ = getitem


if __name__ == '__main__':
  path, *arguments = sys.argv[1:]
  install()

  def write():
    with open(path, 'a', encoding='utf-8') as file:
      file.writelines(json.dumps(pair) + '\n' for pair in sorted(READ))

  atexit.register(write)
  sys.argv = ['lwz.launch', *arguments]
  runpy.run_module('lwz.launch', run_name='__main__', alter_sys=True)
