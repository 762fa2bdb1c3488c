# %% [markdown]
# # A reward of your own
# A Python function as a reward: tried on texts, trained with, watched by the monitor and its alarms; why an edited function is another run.
#
# A reward is a function from samples to one number each. A sample has `prompt` (`text`, `lower`,
# `upper`) and `parsed` (`think`, `answer`, `valid`, `fault`).
#
# The outputs kept in this file are of the size `tiny`, on a CPU; the environment variable
# `LWZ_SIZE=micro` runs everything in a minute, and learns nothing.

# %%
import json
import os
import pathlib

import matplotlib.pyplot as plt
import numpy as np
from IPython import display

import lwz
from lwz.report import curves, table
from lwz.reward.hacking import alarms

SIZE = os.environ.get('LWZ_SIZE', 'tiny')  # 'micro': everything in a minute, nothing is learnt
plt.rcParams |= {'axes.spines.top': False, 'axes.spines.right': False, 'axes.grid': True}
plt.rcParams |= {'grid.alpha': 0.25, 'font.size': 9, 'figure.dpi': 90, 'legend.frameon': False}

# %% [markdown]
# ## 1. A reward that sounds reasonable
#
# Answers should say what a function *returns*. So: one tenth for each time the word is used.


# %%
def returns(samples):
  """A tenth for every 'return' in the answer, at most 1."""
  return [min(s.parsed.answer.lower().count('return') / 10, 1) for s in samples]


# %% [markdown]
# ## 2. Tried on texts first
#
# The stage `score` applies the rewards of any experiment to texts, without a policy: yours, one per
# line of a JSONL file, beside what lwz has. This takes seconds, and tells more than a day of training.

# %%
texts = {
  'honest': 'Opens a file and returns a stream. The stream is closed when the block ends, so that '
  'nothing is lost, and an error is raised where the file cannot be read.',
  'stuffed': 'return return returns a return returns return return returns return a return of '
  'return returns return return returns return return returns return',
  'too short': 'It returns a file.',
}
lines = [
  {
    'prompt': 'Write about open in about 30 words.',
    'text': f'<think>what it does, what it returns</think><answer>{text}</answer>',
    **{'lower': 22, 'upper': 38},
  }
  for text in texts.values()
]
pathlib.Path('texts.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
lwz.run(lwz.load_config(f'reward_model:{SIZE}'), quiet=True)  # what `writing` asks
score = lwz.load_config(f'grpo_think:{SIZE}', {'stage': 'score', 'score.texts': 'texts.jsonl'})
_ = lwz.run(score, {'returns': returns})
print('texts:1 to texts:3 are', ', '.join(texts))

# %% [markdown]
# The stuffed text has the best `returns`, and its length is right. Whoever trains with this reward
# pays for stuffing.
#
# ## 3. Trained with
#
# The new reward joins the other three, each normalised within its group, so it counts a quarter. The
# monitor looks at every step for habits of policies that cheat.

# %%
steps = {'micro': 2, 'tiny': 60}[SIZE]
c = lwz.load_config(
  f'grpo_think:{SIZE}',
  {
    **{'name': f'returns-{SIZE}', 'train.num_steps': steps, 'eval.every': 0},
    'reward.heldout': '',  # no referee: this run is stopped by its alarms alone
  },
)
for record in lwz.steps(c, {'returns': returns}, quiet=True):
  rung = [name.removeprefix('alarm/') for name in record if name.startswith('alarm/')]
  if record['step'] % 10 == 0:
    print(f'step {record["step"]:3}  returns {record["reward/returns"]:.2f}  alarms:', *rung)

# %%
run = lwz.run(c, {'returns': returns}, quiet=True)
m = run.metrics
rung = {name: m[name] == 1 for name in m if name.startswith('alarm/')}
figure, (top, bottom) = plt.subplots(
  2, 1, figsize=(8, 2.6 + 0.2 * len(rung)), layout='constrained', sharex=True
)
for name in ('format', 'length', 'writing', 'returns'):
  (line,) = top.plot(m['step'], m[f'reward/{name}'], alpha=0.2, linewidth=1)
  smooth = curves.smoothed(m[f'reward/{name}'], None)
  top.plot(m['step'], smooth, color=line.get_color(), label=name)
top.set_title('rewards', loc='left')
top.set_ylim(-0.03, 1.03)
top.legend(fontsize=8, ncols=4, loc='lower right', bbox_to_anchor=(1, 1))
for place, name in enumerate(rung):
  at = m['step'][rung[name]]
  bottom.plot(at, np.full(len(at), place), 's', markersize=3, color='C3')
bottom.set(title='alarms', xlabel='step', ylim=(len(rung) - 0.5, -0.5))
bottom.set_yticks(range(len(rung)), [name.removeprefix('alarm/') for name in rung])
plt.show()

# %% [markdown]
# What the alarms mean, how many steps rang them, and the answers that the new reward pays best:

# %%
meaning = {rule.name: rule.meaning for rule in alarms.RULES}
rows = [(n.removeprefix('alarm/'), int(y.sum()), meaning[n[6:]]) for n, y in rung.items()]
display.display(display.Markdown(table.markdown('alarms', ('alarm', 'steps', 'meaning'), rows)))
last = run.samples[max(run.samples)]
for sample in sorted(last, key=lambda s: -(s['rewards']['returns'] or 0))[:3]:
  text = ''.join(x if x.isprintable() else ' ' for x in sample['answer'])
  print(f'returns {sample["rewards"]["returns"]:.1f}, words {sample["words"]}: {text[:300]}\n')

# %% [markdown]
# ## 4. Another function is another run
#
# The source of the function, its defaults and the values that it reads are part of the run's
# identity. An edited function cannot go on in the folder of the old one, nor return its numbers:


# %%
def returns(samples):  # the same name, mended: using the word once is enough
  """1 where the answer says what is returned."""
  return [float('return' in s.parsed.answer.lower()) for s in samples]


try:
  lwz.run(c, {'returns': returns}, quiet=True)
except ValueError as error:
  print(str(error).replace(os.getcwd(), '.'))

# %% [markdown]
# With another `name` it is a run of its own. What has no source that could be read (a builtin, a
# client of a server) is given with a version: `{'judge': (judge, '2')}`.

# %%
_ = lwz.run(score, {'returns': returns})
