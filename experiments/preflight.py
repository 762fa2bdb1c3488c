"""Does it fit, and what will it cost? An experiment compiled for devices that need not be there.

The argument is the experiment and its size, or the size alone for grpo_think; every other key is
the experiment's own. TPUs need `pip install 'lwz[tpu]'` but no TPU, GPUs 'lwz[cuda13]' but no GPU;
where there is neither, set JAX_PLATFORMS=cpu.

  python -m lwz.launch --config=experiments/preflight.py:32b --config.preflight.topology=v5p:4x4x4
  python -m lwz.launch --config=experiments/preflight.py:pretrain:7b \\
    --config.preflight.topology=gpu:h100:2x8 --config.mesh.tensor=4
  python -m lwz.launch --config=experiments/preflight.py:recipe:v5e-8   # of experiments/recipes/
  python -m lwz.launch --config=experiments/preflight.py
"""

from experiments import base_model, grpo_nothink, grpo_think, pretrain, reward_model, sft
from experiments.recipes import grpo as recipes

EXPERIMENTS = {
  'base_model': base_model,
  'grpo_nothink': grpo_nothink,
  'grpo_think': grpo_think,
  'pretrain': pretrain,
  'recipe': recipes,
  'reward_model': reward_model,
  'sft': sft,
}


def get_config(size: str = 'tiny'):
  name, _, size = size.rpartition(':')
  name = name or 'grpo_think'
  if name not in EXPERIMENTS:
    raise ValueError(f'no experiment {name!r}: choose one of {", ".join(EXPERIMENTS)}')
  c = EXPERIMENTS[name].get_config(size)
  name = f'{name}-{size}' if name == 'recipe' else name
  c.experiment = 'preflight'
  c.preflight.experiment, c.preflight.stage, c.stage = name, c.stage, 'preflight'
  c.name = f'preflight-{name}-{c.size}'
  c.needs = ()  # nothing is run
  if '/' in c.init:
    c.init = 'random'  # the shapes of a size are known: nothing is downloaded
  return c
