"""This repository as the laws of test_house.py and test_setup.py read it: modules, imports."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1]


def name_of(path):
  """`lwz/reward/length.py` -> `lwz.reward.length`; a package is named by its folder."""
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def is_package(module):
  return ROOT.joinpath(*module.split('.'), '__init__.py').is_file()


def modules(folder):
  """{module: source} of every Python file under a folder of the repository."""
  paths = sorted((ROOT / folder).rglob('*.py'))
  return {name_of(path): path.read_text(encoding='utf-8') for path in paths}


def imported(source):
  """Every dotted name that a source imports: `from lwz import types` names `lwz.types`."""
  names = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      package = '.' * node.level + (node.module or '')
      names += [f'{package}.{alias.name}' for alias in node.names]
  return names


def roots(source):
  """The first names of what it imports: {'jax', 'lwz'}."""
  return {name.split('.')[0] for name in imported(source)}


def calls(source):
  return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
