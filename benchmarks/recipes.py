"""A table of the recipes in experiments/recipes/: what preflight says of each, compiled one by one.

  JAX_PLATFORMS=cpu python benchmarks/recipes.py            # all; an hour of two cores
  JAX_PLATFORMS=cpu python benchmarks/recipes.py v5e-1      # one; rows of the others stay
  python benchmarks/recipes.py --table                      # none: the table alone

Needs `pip install 'lwz[tpu]'` for TPUs and 'lwz[cuda13]' for GPUs, but neither of these themselves.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

from experiments.recipes import grpo as recipes
from lwz.programs.cost import hardware

FOLDER = pathlib.Path('results/recipes')
_LONGEST = 240  # characters of a message
HEADER = (
  *('recipe', 'devices', 'model', 'trained', 'prompts x samples', 'tokens', 'rows a pass'),
  *('fits', 'write', 'learn', 'of', 'seconds a step', 'bound by', f'hours for {recipes.STEPS}'),
)
INTRO = f"""# Recipes

`JAX_PLATFORMS=cpu python benchmarks/recipes.py` has made this table from what
`experiments/preflight.py:recipe:NAME` says; each row's record lies beside it. The programs of the
run were compiled for the devices, and nothing was run on them.

write, learn: the most that one device holds (GiB) while answers are sampled, and in an update; of:
what it has, on a GPU by default three quarters of its memory. tokens: of a prompt and of an answer,
at most. Seconds are of the longest answers, without those of the reward server.

Seconds: {hardware.MODEL}
"""


def compile_one(name: str) -> None:
  """Runs preflight over a recipe; of one that is refused, keeps the message."""
  config = f'experiments/preflight.py:recipe:{name}'
  command = [sys.executable, '-m', 'lwz.launch', f'--config={config}']
  command += [f'--config.runs_dir={FOLDER.parent}', f'--config.name={FOLDER.name}']
  done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
  refused = FOLDER / f'{name}.refused'
  refused.unlink(missing_ok=True)
  if done.returncode:
    FOLDER.mkdir(parents=True, exist_ok=True)
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    raised = [line for line in said if re.match(r'[\w.]*Error: ', line)]
    message = (raised or said or [f'status {done.returncode}'])[-1]
    refused.write_text(f'{message[:_LONGEST].replace("|", "/")}\n')
    print(f'{name}: {refused.read_text()}', end='')


def trained(c) -> str:
  """Returns what of the model a recipe trains, and how."""
  kept = '' if c.lora.frozen == 'float' else f' over {c.lora.frozen}'
  said = f'adapters of rank {c.lora.rank}{kept}' if c.lora.rank else 'all'
  said += f', {c.train.moments} moments' if c.train.moments != 'float32' else ''
  return said + (', offloaded' if c.train.offload else '')


def row(name: str) -> tuple[str, ...]:
  """Returns the row of a recipe."""
  c = recipes.get_config(name)
  of = (
    *(name, c.preflight.topology, f'Qwen2.5 {c.size.upper()}', trained(c)),
    f'{c.rl.prompts_per_step} x {c.rl.group_size}',
    f'{c.rollout.max_prompt_tokens:,} + {c.rollout.max_tokens:,}',
    str(c.train.micro_rows),
  )
  found = list(FOLDER.glob(f'recipe-{name}-{c.size}_*.json'))
  if not found:
    refused = FOLDER / f'{name}.refused'
    said = refused.read_text().strip() if refused.exists() else 'not compiled yet'
    return (*of, said, *('-',) * (len(HEADER) - len(of) - 1))
  record = json.loads(found[0].read_text())
  bounds: dict[str, float] = {}
  programs = record['phases']
  for one in programs:
    for bound, seconds in one['seconds'].items():
      if seconds == max(one['seconds'].values()):
        bounds[bound] = bounds.get(bound, 0.0) + one['calls'] * seconds
  took, known = sum(bounds.values()), all(one['seconds'] for one in programs)
  return (
    *of,
    'yes' if record['fits'] else 'no',
    *(_most(record, part) for part in ('write', 'learn')),
    f'{record["capacity"] / 2**30:.1f}',
    *((f'{took:.3g}', max(bounds, key=bounds.__getitem__)) if known else ('-', '-')),
    f'{took * recipes.STEPS / 3_600:.3g}' if known else '-',
  )


def _most(record: dict, part: str) -> str:
  """Returns the most that a part of a step needs of a device, GiB."""
  needed = [one['needed'] for one in record['phases'] if one['phase'] == part]
  return '?' if None in needed else f'{max(needed) / 2**30:.1f}'


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('names', nargs='*', metavar='NAME', help=', '.join(recipes.RECIPES))
  parser.add_argument('--table', action='store_true', help='compile nothing')
  asked = parser.parse_args()
  if strange := set(asked.names) - recipes.RECIPES.keys():
    parser.error(f'no recipe {strange.pop()!r}: choose from {", ".join(recipes.RECIPES)}')
  for name in () if asked.table else asked.names or recipes.RECIPES:
    compile_one(name)
  FOLDER.mkdir(parents=True, exist_ok=True)
  rows = [HEADER, ('---',) * len(HEADER), *map(row, recipes.RECIPES)]
  lines = [f'| {" | ".join(one)} |' for one in rows]
  (FOLDER / 'table.md').write_text(f'{INTRO}\n' + '\n'.join(lines) + '\n')
  print(f'table: {FOLDER / "table.md"}')


if __name__ == '__main__':
  main()
