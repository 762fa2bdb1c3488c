# %% [markdown]
# # An ablation, with intervals
# Balanced against mean-reward advantage, by several seeds: a sweep of eight lines, run by one command, and its paired comparison.
#
# One run against another says little: two seeds of one config differ as well. A sweep runs every
# value by several seeds, and the report compares the values seed by seed.
#
# The outputs kept in this file are of the size `tiny`, on a CPU; the environment variable
# `LWZ_SIZE=micro` runs everything in a minute, and learns nothing.

# %%
import os
import pathlib
import subprocess
import sys

from IPython import display

import lwz

SIZE = os.environ.get('LWZ_SIZE', 'tiny')  # 'micro': everything in a minute, nothing is learnt
SEEDS, STEPS = {'micro': (2, 2), 'tiny': (3, 30)}[SIZE]

# %% [markdown]
# ## 1. The sweep
#
# A sweep file has `get_hyper(h)`, in the convention of big_vision and flax. Each arm is an ordinary
# run, named by what differs from its experiment.

# %%
pathlib.Path('advantage.py').write_text(f"""\
EXPERIMENT = 'grpo_think'


def get_hyper(h):
  return h.product([
    h.sweep('rl.advantage', ['balanced', 'mean_reward']),
    h.sweep('seed', range({SEEDS})),
  ])
""")
command = [
  *(sys.executable, '-m', 'lwz.sweep', f'--sweep=advantage.py:{SIZE}', '--parallel=2'),
  *(f'--config.train.num_steps={STEPS}', '--config.eval.every=0', '--config.reward.heldout='),
]


def run(*arguments):
  """What `!python -m lwz.sweep` would do, here in the notebook."""
  plain = os.environ | {'FORCE_COLOR': ''}  # which notebooks set: no colours, as in a log
  done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=plain)
  print((done.stdout + done.stderr).replace(os.getcwd(), '.'))
  return done.returncode


_ = run('--list')

# %% [markdown]
# What the arms need (a base, a reward model) is run once, before them. Stopped at any time, the same
# command goes on. A failed arm stops no other one.

# %%
assert run() == 0

# %% [markdown]
# ## 2. The comparison
#
# The report groups the arms by what differs, and takes differences of runs of equal seeds. Both arms
# have the same base and reward model here: the intervals are over the sampling of GRPO alone. (With
# `h.zipit` of `seed` and `needs_seed` each seed gets its own.)

# %%
report = lwz.run(
  lwz.load_config(
    f'report:{SIZE}',
    {
      **{'name': f'advantage-report-{SIZE}', 'report.runs': (f'advantage-{SIZE}',)},
      'report.metrics': ('reward/length', 'reward/writing', 'valid_format'),
    },
  ),
  quiet=True,
)
for plot in report.plots.values():
  display.display(plot)

# %%
text = (report.folder / 'table.md').read_text()
display.Markdown(text.split('\n**runs, first')[0])

# %% [markdown]
# *cannot tell* is an outcome: the interval of the paired difference includes 0. With so few steps at
# this size it is the usual one; more seeds, more steps or a larger model are numbers in the cells
# above. The paper's own claim (its Fig. 3 to 5 at 32B) is neither shown nor refuted here.
