"""GRPO for one machine each: what to train of which model, how many samples, of which length.

The argument is the machine. Writing is scored by a server elsewhere, so that no reward model shares
the devices. What each recipe needs and takes, as compiled for its machine, is in
results/recipes/table.md; `python benchmarks/recipes.py` makes it.

  python -m lwz.launch --config=experiments/recipes/grpo.py:v5e-1 \\
    --config.reward.model=http://10.0.0.5:8000
  JAX_PLATFORMS=cpu python -m lwz.launch --config=experiments/preflight.py:recipe:v5e-1
"""

from experiments import grpo_think

STEPS = 300
_SERVER = 'http://localhost:8000'


def _tokens(prompt: int, answer: int) -> dict:
  """A prompt and its answer fill a row; answers have up to half as many words as tokens."""
  return {
    **{'rollout.max_prompt_tokens': prompt, 'rollout.max_tokens': answer},
    **{'data.row_length': prompt + answer, 'data.upper': answer // 2},
    'data.lower': min(480, answer // 16),  # the embedded documents have few longer ones
  }


def _adapters(rank: int, frozen: str = 'float') -> dict:
  return {
    **{'lora.rank': rank, 'lora.alpha': 2.0 * rank, 'lora.frozen': frozen},
    'train.learning_rate': 1e-5,
  }


# Machine -> size of Qwen2.5, and keys.
RECIPES = {
  't4': ('0.5b', {  # Colab's; it has no bfloat16
    **{'preflight.topology': 'gpu:t4:1x1', 'train.dtype': 'float32', 'rl.group_size': 8},
    **_adapters(16), **_tokens(512, 1_536),
  }),
  'rtx4090': ('3b', {  # or another GPU with 24 GB
    **{'preflight.topology': 'gpu:rtx4090:1x1', 'rl.group_size': 16},
    **_adapters(32, 'int8'), **_tokens(512, 3_584),
  }),
  'h100': ('14b', {  # or another GPU with 80 GB
    **{'preflight.topology': 'gpu:h100:1x1', 'rl.group_size': 16},
    **_adapters(32, 'int8'), **_tokens(512, 3_584),
  }),
  'h100x4': ('32b', {
    **{'preflight.topology': 'gpu:h100:1x4', 'mesh.tensor': 4, 'rl.group_size': 16},
    **_adapters(32, 'int8'), **_tokens(512, 7_680),
  }),
  'h100x8': ('14b', {
    **{'preflight.topology': 'gpu:h100:1x8', 'mesh.tensor': 8, 'train.moments': 'bfloat16'},
    **_tokens(512, 7_680),
  }),
  'v5e-1': ('3b', {  # Colab's
    **{'preflight.topology': 'v5litepod-1', 'rl.group_size': 16},
    **_adapters(32, 'int8'), **_tokens(512, 3_584),
  }),
  'v5e-8': ('7b', {  # Kaggle's
    **{'preflight.topology': 'v5litepod-8', 'mesh.tensor': 4, 'rl.group_size': 16},
    **_adapters(32, 'int8'), **_tokens(512, 7_680),
  }),
  'v5p-16': ('14b', {
    **{'preflight.topology': 'v5p-16', 'mesh.tensor': 4, 'train.moments': 'bfloat16'},
    **{'train.offload': True}, **_tokens(2_048, 14_336),
  }),
  'v5p-64': ('32b', {
    **{'preflight.topology': 'v5p-64', 'mesh.tensor': 4, 'train.moments': 'bfloat16'},
    **{'rl.prompts_per_step': 2}, **_tokens(2_048, 14_336),
  }),
  # Four prompts a step, of like length, and weights in int8 while texts are written: by simulation
  # 3.3 times as many tokens a second as one prompt a step in bfloat16 (results/rollout_32b.md).
  'h100x32': ('32b', {
    **{'preflight.topology': 'gpu:h100:4x8', 'mesh.tensor': 8, 'rl.prompts_per_step': 4},
    **{'rl.alike': 16, 'rollout.weights': 'int8', 'rl.tis_cap': 2.0}, **_tokens(2_048, 14_336),
  }),
}  # fmt: skip


def get_config(machine: str = 'v5e-1'):
  if machine not in RECIPES:
    raise ValueError(f'no recipe {machine!r}: choose one of {", ".join(RECIPES)}')
  size, keys = RECIPES[machine]
  c = grpo_think.get_config(size)
  c.name = f'recipe-{machine}'
  c.init = f'Qwen/Qwen2.5-{size.upper()}-Instruct'
  c.reward.model = _SERVER
  c.train.num_steps = STEPS
  c.update_from_flattened_dict(keys)
  return c
