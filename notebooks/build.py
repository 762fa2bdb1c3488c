"""Makes every notebook from its .py text, runs it in a fresh kernel, and keeps its outputs.

    python notebooks/build.py [--size=micro] [--only=01_ten_minutes] [--readme]

The .py texts, in jupytext's percent form, are the source: edit those. A first cell, which installs
lwz where it is missing, is added here. The table in README.md is written as well; with --readme,
nothing else is done.
"""

import argparse
import os
import pathlib
import re
import sys

import jupytext
import nbclient
import nbformat

# Address of the public repository, as in https://host/OWNER/lwz: install cells and badges have it.
REPOSITORY = ''
BRANCH = 'main'

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent
LARGEST = 300_000  # bytes of a notebook with its outputs
MARK = '<!-- notebooks: python notebooks/build.py --readme -->\n'

_INSTALL = """\
# Colab, or any machine without lwz: install it. Where it is installed, this does nothing.
import glob
import importlib.util
import shutil

REPOSITORY = {repository!r}  # address of the repository, or the path of a clone of it
if importlib.util.find_spec('lwz') is None:
  if not REPOSITORY:
    raise ModuleNotFoundError('lwz is not installed: set REPOSITORY in this cell, and run it again')
  tpu = glob.glob('/dev/accel*') + glob.glob('/dev/vfio/[0-9]*')
  extra = '[cuda12]' if shutil.which('nvidia-smi') else '[tpu]' if tpu else ''
  source = f'lwz{{extra}} @ git+{{REPOSITORY}}' if '://' in REPOSITORY else REPOSITORY + extra
  %pip install -q "{{source}}"
"""


def sources() -> list[pathlib.Path]:
  """Returns the .py texts of the notebooks, in order."""
  return sorted(FOLDER.glob('[0-9]*.py'))


def notebook(source: pathlib.Path, repository: str = REPOSITORY) -> nbformat.NotebookNode:
  """Returns the notebook of a .py text, without outputs."""
  found = jupytext.read(source, fmt='py:percent')
  install = nbformat.v4.new_code_cell(_INSTALL.format(repository=repository).rstrip('\n'))
  found.cells.insert(1, install)
  for number, cell in enumerate(found.cells):
    cell.id = f'cell-{number:02d}'  # else another one at every build
  found.metadata = {
    'kernelspec': {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'},
    'language_info': {'name': 'python'},
  }
  return found


def execute(found: nbformat.NotebookNode, folder: pathlib.Path, size: str) -> None:
  """Runs a notebook in a fresh kernel, whose working directory is `folder`.

  Raises CellExecutionError for the first cell that fails, ValueError for outputs that should not be
  kept: too large, or with paths of this machine.
  """
  environment = os.environ | {
    'LWZ_SIZE': size,
    'MPLBACKEND': 'module://matplotlib_inline.backend_inline',
    'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
  }
  client = nbclient.NotebookClient(
    found,
    timeout=3_600,
    record_timing=False,
    resources={'metadata': {'path': str(folder)}},
  )
  client.execute(env=environment)
  for cell in found.cells:
    if cell.cell_type == 'code':  # without the warnings of libraries
      cell.outputs = [one for one in cell.outputs if one.get('name') != 'stderr']
  found.metadata.language_info = {'name': 'python'}
  text = nbformat.writes(found)
  private = {str(folder), str(ROOT), sys.prefix, str(pathlib.Path.home()), '/tmp/'}
  if met := sorted(path for path in private if path in text):
    raise ValueError(f'an output names {", ".join(met)}: print paths relative to the notebook')
  if len(text) > LARGEST:
    raise ValueError(f'{len(text):,} characters: plot less, so that it stays below {LARGEST:,}')


def table(repository: str = REPOSITORY) -> str:
  """Returns README's table of the notebooks; with badges, if the repository has an address."""
  lines = ['| notebook | what it shows |', '| --- | --- |']
  for source in sources():
    title, says = re.findall(r'^# (?:# )?(\S.*)', source.read_text('utf-8'), re.M)[1:3]
    name = f'[{title}](notebooks/{source.stem}.ipynb)'
    if repository:
      path = f'{repository.split("://")[-1].partition("/")[2]}/blob/{BRANCH}'
      colab = 'https://colab.research.google.com'
      badge = f'[![open in Colab]({colab}/assets/colab-badge.svg)]'
      name += f' {badge}({colab}/github/{path}/notebooks/{source.stem}.ipynb)'
    lines.append(f'| {name} | {says} |')
  return '\n'.join(lines) + '\n'


def readme(text: str, repository: str = REPOSITORY) -> str:
  """Returns README with the table of today in place of the one that it has."""
  before, _, after = text.partition(MARK)
  rest = re.sub(r'\A\s*(\|.*\n)*', '', after)
  return f'{before}{MARK}\n{table(repository)}{rest and chr(10)}{rest.lstrip()}'


def main(argv) -> None:
  parser = argparse.ArgumentParser('python notebooks/build.py', description='Makes the notebooks.')
  parser.add_argument('--size', default='tiny', choices=('micro', 'tiny'))
  parser.add_argument('--only', default='', help='the beginning of a name; default: all')
  parser.add_argument('--readme', action='store_true', help='write the table in README.md only')
  options = parser.parse_args(argv)
  page = ROOT / 'README.md'
  page.write_text(readme(page.read_text('utf-8')), 'utf-8')
  for source in [] if options.readme else sources():
    if source.stem.startswith(options.only):
      found = notebook(source)
      execute(found, FOLDER, options.size)
      nbformat.write(found, source.with_suffix('.ipynb'))
      print(f'{source.stem}: {source.with_suffix(".ipynb").stat().st_size:,} bytes', flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
