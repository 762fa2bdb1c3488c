# %% [markdown]
# # On a free GPU or TPU
# What the runtime has is detected: Qwen2.5 from the hub on an accelerator, the pocket model anywhere else, by the same code.
#
# In Colab, choose *Runtime > Change runtime type* for a GPU or TPU. If the cell above installed
# another version of JAX than was there, restart the runtime once.
#
# The outputs kept in this file are of the size `tiny`, on a CPU; the environment variable
# `LWZ_SIZE=micro` runs everything in a minute, and learns nothing.

# %%
import os
import pathlib

import huggingface_hub
import jax
import matplotlib.pyplot as plt
from IPython import display

import lwz

SIZE = os.environ.get('LWZ_SIZE', 'tiny')  # of the pocket model; 'micro' takes seconds
plt.rcParams |= {'axes.spines.top': False, 'axes.spines.right': False, 'axes.grid': True}
plt.rcParams |= {'grid.alpha': 0.25, 'font.size': 9, 'figure.dpi': 90, 'legend.frameon': False}

# %% [markdown]
# ## 1. What is here?
#
# Full training in float32 takes 16 bytes per parameter: weights, gradients and two moments. With
# bfloat16 moments it is 12, so 6 GB for 0.5B and 19 GB for 1.5B, before activations and logits.

# %%
device = jax.devices()[0]
memory = (device.memory_stats() or {}).get('bytes_limit', 0) / 1e9
MODEL = 'Qwen/Qwen2.5-1.5B' if memory > 35 else 'Qwen/Qwen2.5-0.5B'


def hub_answers():
  """Whether the model can be had: there is a network, and the hub knows the model."""
  try:
    huggingface_hub.model_info(MODEL, timeout=10)
  except Exception as error:
    print(f'no {MODEL}: {type(error).__name__}')
    return False
  return True


has_accelerator = device.platform in ('gpu', 'tpu') and memory > 12
is_real = has_accelerator and hub_answers()
print(f'{jax.device_count()} x {device.device_kind}; jax {jax.__version__}')
print('model:', MODEL if is_real else f'pocket, size {SIZE}')

# %% [markdown]
# ## 2. One config for each
#
# The real model has no reward model of its size here, so length and format alone reward it: two of
# the paper's three, and the answers show it. The steps are few: this is a first look, not a result.

# %%
if is_real:
  c = lwz.load_config(
    f'grpo_think:{MODEL.rpartition("-")[2].lower()}',
    {
      **{'init': MODEL, 'name': 'colab', 'needs': (), 'reward.model': ''},
      **{'train.num_steps': 20, 'train.micro_rows': 1, 'train.moments': 'bfloat16'},
      **{'data.lower': 80, 'data.upper': 300, 'reward.max_words': 600, 'data.row_length': 1_536},
      **{'rollout.max_prompt_tokens': 512, 'rollout.max_tokens': 1_024, 'rl.overlong_margin': 128},
      **{'rl.prompts_per_step': 2, 'rl.group_size': 8, 'eval.every': 0, 'log.samples_every': 5},
      **{'data.heldout': 0.3, 'train.chunk': 512},
    },
  )
  del c.reward.weights['writing']
else:
  steps = {'micro': 2, 'tiny': 40}[SIZE]
  c = lwz.load_config(
    f'grpo_think:{SIZE}',
    {
      **{'name': f'colab-{SIZE}', 'train.num_steps': steps, 'eval.every': 0},
      'reward.heldout': '',
    },
  )
folder = pathlib.Path(c.runs_dir, c.name)

# %% [markdown]
# ## 3. Run
#
# Before its first step a run at a real size compiles its programs and says whether they fit. In
# Colab, `c.runs_dir` may be a folder of a mounted Drive: a runtime that was lost then goes on.


# %%
def plot(m):
  figure, axes = plt.subplots(1, 2, figsize=(9, 2.7), layout='constrained')
  for name in c.reward.weights:
    axes[0].plot(m['step'], m[f'reward/{name}'], label=name)
  axes[0].set(title='rewards', ylim=(-0.03, 1.03), xlabel='step', xlim=(0, c.train.num_steps))
  axes[0].legend(fontsize=8)
  axes[1].plot(m['step'], m['tokens/per_second'], color='C4')
  axes[1].set(title='tokens written per second', ylim=(0, None), xlabel='step')
  axes[1].set_xlim(0, c.train.num_steps)
  plt.close(figure)
  return figure


screen = display.display(display.Markdown('…'), display_id=True)
for _ in lwz.steps(c, quiet=True):
  screen.update(plot(lwz.Run(folder).metrics))
run = lwz.run(c, quiet=True)
screen.update(plot(run.metrics))

# %% [markdown]
# ## 4. What it writes

# %%
best = sorted(run.samples[max(run.samples)], key=lambda s: -sum(s['rewards'].values()))[0]
print(best['prompt'][-400:], '\n')
text = ''.join(x if x.isprintable() or x == '\n' else ' ' for x in best['text'])
print(text[:1_500])
