# %% [markdown]
# # The main job, live
# A pocket policy learns to answer in a format and at a length, on any CPU: rewards as they rise, samples before and after, a referee that trains nothing.
#
# LongWriter-Zero ([arXiv:2506.18841](https://arxiv.org/abs/2506.18841)) teaches a base model to write
# long texts by reinforcement learning alone. Here all of it runs at the size `tiny`: a Qwen2.5 of a
# million parameters, texts that come with every Python, answers of 25 to 80 words. It takes some
# fifteen minutes on two cores. A model of this size learns *when an answer begins, how it is built and
# how long it is*; its sentences stay babble.
#
# The outputs kept in this file are of the size `tiny`, on a CPU; the environment variable
# `LWZ_SIZE=micro` runs everything in a minute, and learns nothing.

# %%
import os
import pathlib
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from IPython import display

import lwz
from lwz.report import curves, table
from lwz.reward import format as format_lib
from lwz.reward import length

SIZE = os.environ.get('LWZ_SIZE', 'tiny')  # 'micro': everything in a minute, nothing is learnt
plt.rcParams |= {'axes.spines.top': False, 'axes.spines.right': False, 'axes.grid': True}
plt.rcParams |= {'grid.alpha': 0.25, 'font.size': 9, 'figure.dpi': 90, 'legend.frameon': False}

# %% [markdown]
# ## 1. What GRPO starts from
#
# A base model learns the language of the texts, continued pretraining the format
# `<think>plan</think><answer>text</answer>`. The writing reward model learns to prefer a passage to
# a damaged one; the **referee** learns the same from other documents and other kinds of damage. It
# never trains the policy, so it tells whether higher rewards are better texts. About ten minutes,
# once: what is complete is not run again.

# %%
for name in ('base_model', 'pretrain', 'reward_model', *(['referee'] if SIZE == 'tiny' else [])):
  run = lwz.run(lwz.load_config(f'{name}:{SIZE}'), quiet=True)
  shown = {k: v for k, v in run.summary.items() if k in ('heldout/loss', 'heldout/accuracy')}
  print(f'{name:13}', *(f'{k} {v:.3f}' for k, v in shown.items()))

# %% [markdown]
# ## 2. GRPO, live
#
# `lwz.steps` yields the record of each step as it ends. Whoever breaks the loop leaves a run that is
# saved, and goes on at the next start. The loop below stops when the last ten steps had nine answers
# of ten in a valid format, or at half of the steps.

# %%
c = lwz.load_config(f'grpo_think:{SIZE}', {'name': f'ten_minutes-{SIZE}'})
folder = pathlib.Path(c.runs_dir, c.name)


def panels(m):
  """Three plots of the metrics of a run."""
  figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 2.9), layout='constrained')
  for axes, names in ((left, ('format', 'length', 'writing')), (middle, ('words/answer',))):
    for i, name in enumerate(names):
      y = m[f'reward/{name}' if axes is left else name] if name in m or axes is left else []
      if len(y) and np.isfinite(y).any():
        axes.plot(m['step'], y, color=f'C{i}', alpha=0.25, linewidth=1)
        kept = np.isfinite(y)
        axes.plot(m['step'][kept], curves.smoothed(y[kept], None), color=f'C{i}', label=name)
  middle.fill_between(m['step'], m['words/lower'], m['words/upper'], alpha=0.2, label='asked')
  for name, style in (('sampled', 'o-'), ('corpus', 'k--')):
    y = m.get(f'eval/referee/{name}', np.full(len(m['step']), np.nan))
    kept = np.isfinite(y)
    label = {'sampled': 'answers', 'corpus': 'true passages'}[name]
    right.plot(m['step'][kept], y[kept], style, label=label)
  left.set(title='rewards', ylim=(-0.03, 1.03), xlabel='step')
  middle.set(title='words of valid answers', xlabel='step', ylim=(0, None))
  right.set(title='referee, held-out titles', xlabel='step', ylim=(0, 1))
  for axes in (left, middle, right):
    axes.legend(fontsize=8)
    axes.set_xlim(0, c.train.num_steps)
  plt.close(figure)
  return figure


def watch(is_enough):
  """Shows the run while it goes on, until it is complete or `is_enough(metrics)`."""
  screen = display.display(display.Markdown('…'), display_id=True)
  for record in lwz.steps(c, quiet=True):
    m = lwz.Run(folder).metrics
    if record['step'] % 4 == 0:
      screen.update(panels(m))
    if is_enough(m):
      break
  screen.update(panels(lwz.Run(folder).metrics))


def is_enough(m):
  done = len(m['step'])
  good = done >= 10 and m['valid_format'][-10:].mean() > 0.9
  return good or done >= c.train.num_steps // 2


watch(is_enough)
print(f'stopped and saved after step {lwz.Run(folder).metrics["step"][-1]:.0f}')

# %% [markdown]
# And on to the end, from where it stopped: the same numbers as without a stop.

# %%
watch(lambda m: False)
run = lwz.run(c, quiet=True)  # complete: nothing is run again
print(f'complete: {len(run.metrics["step"])} steps, in {run.folder.as_posix()}/')

# %% [markdown]
# ## 3. Before and after
#
# The policy that GRPO started from, and the one that it made, answer the same requests.

# %%
prompts = [f'Write about {what} words.' for what in ('files in about 40', 'errors in about 60')]
models = {'before': pathlib.Path(c.runs_dir, f'pretrain-{SIZE}'), 'after': run}


def show(text):
  """Prints a completion as the format reward reads it."""
  parsed = format_lib.parse(text, c.data.style)
  words = length.count_words(parsed.answer)
  print(f'  {f"broken: {parsed.fault}" if parsed.fault else f"valid, {words} words"}')
  # What no terminal shows is replaced, and a text of the size 'micro' cut.
  text = ''.join(x if x.isprintable() else ' ' for x in text)
  print(textwrap.indent(textwrap.fill(text[:700], 76), '  | ') + '\n')


texts = {when: lwz.generate(model, prompts, quiet=True) for when, model in models.items()}
for i, prompt in enumerate(prompts):
  for when in models:
    print(f'{prompt} [{when}]')
    show(texts[when][i])

# %% [markdown]
# ## 4. What the referee says
#
# The rewards above are what the policy is paid for. None of the following is: answers to all held-out
# titles, at the first and the last step. The win rate compares an answer with that of step 0 to the
# same title, where both are valid, by the referee. `log-probability` is that of the policy's texts
# under the model that GRPO began with: if it falls far, texts become strange.

# %%
m = run.metrics
rows = []
for name, key in {
  'valid format': 'eval/valid_format/sampled',
  'referee': 'eval/referee/sampled',
  'referee of true passages': 'eval/referee/corpus',
  'win rate against step 0': 'eval/referee_win_rate/sampled',
  'pairs of that win rate': 'eval/referee_pairs/sampled',
  'log-probability': 'eval/logp/sampled',
  'words out of place': 'eval/disorder/sampled',
}.items():
  y = m.get(key, np.array([np.nan]))
  y = y[np.isfinite(y)]
  rows.append((name, *([float(y[0]), float(y[-1])] if len(y) else ['–', '–'])))
display.Markdown(table.markdown(f'size {SIZE}', ('measure', 'first', 'last'), rows))

# %% [markdown]
# All plots of the run, alarms of the monitor and samples of every tenth step are in `report.html` of
# its folder; `run.plots` has them by title. Another length, loss or advantage is another value:
# `lwz.load_config('grpo_think', {'rl.advantage': 'mean_reward', 'name': 'mine'})`.
