"""Every key of every experiment, grouped by the room that it concerns.

An experiment is this plus what differs. Three kinds of size: `micro` (seconds, for tests), `tiny`
(minutes on any CPU, the default), and the real ones, `0.5b` to `72b`.
"""

from ml_collections import ConfigDict

POCKET = ('micro', 'tiny')
SIZES = (*POCKET, '0.5b', '1.5b', '3b', '7b', '14b', '32b', '72b')

# Keys that a stage has no use for: with another value of one, a run is still the same run.
UNREAD = {
  'pretrain': (
    *('rl', 'rollout', 'reward'),
    *('data.preferences', 'data.prompts', 'data.skip_broken', 'data.slack', 'data.style'),
  ),
  'reward_model': (
    *('rl', 'rollout', 'reward'),
    *('data.formatted_share', 'data.prompts', 'data.slack', 'data.style', 'data.template'),
  ),
  'grpo': ('data.formatted_share', 'data.preferences', 'data.skip_broken'),
}


def get_config(size: str) -> ConfigDict:
  if size not in SIZES:
    raise ValueError(f'no size {size!r}: choose one of {", ".join(SIZES)}')
  pocket = size in POCKET
  micro = size == 'micro'
  c = ConfigDict()

  c.experiment = ''  # set by the experiment: the name of its file
  c.size = size
  c.stage = ''  # the verb: lwz/stages/<stage>.py
  c.name = ''  # of the run folder; '' is experiment-size, plus -s<seed> where the seed is not 0
  c.seed = 0
  c.runs_dir = 'runs'  # where run folders live; may be gs://...
  c.needs = ()  # dotted keys whose values, where they read experiment:size, must be run before
  c.needs_policy = 'run' if pocket else 'stop'  # 'run' what is missing, or 'stop' with the commands
  # Where parameters begin: 'random', experiment:size, a run's folder, a Hugging Face model.
  c.init = 'random'

  c.data = ConfigDict()
  c.data.folder = ''  # .txt, .md and .jsonl files; '' is the text that comes with every Python
  c.data.tokenizer = ''  # a folder or hub id; '' is that of `init`, or trained where that is random
  c.data.heldout = 0.1  # share of documents that no training sees; GRPO's titles come from them
  c.data.lower, c.data.upper = (10, 24) if micro else (25, 80) if pocket else (500, 9_000)  # words
  c.data.template = 'pocket' if pocket else 'paper'  # the paper's prompt has 250 tokens
  c.data.style = 'think'  # 'think' or 'direct': what prompts ask for
  c.data.row_length = 256 if pocket else 32_768  # tokens of a packed row
  c.data.formatted_share = 0.0  # of the tokens: documents in the asked format
  c.data.slack = 0.25  # a prompt's range is its document's own length, this much less or more
  c.data.prompts = ''  # JSONL of prompts; '' makes them from held-out titles
  c.data.preferences = ''  # JSONL of pairs; '' makes them by damaging passages
  c.data.skip_broken = False  # count and skip unreadable lines of `preferences`, don't stop

  # How the devices are laid out: rows are cut over data and fsdp, parameters over fsdp and tensor,
  # tokens of a row over context; -1 is what remains. With fewer than there are, the first are used.
  c.mesh = ConfigDict()
  c.mesh.data = 1
  c.mesh.fsdp = 1 if pocket else -1
  c.mesh.tensor = 1
  c.mesh.context = 1

  c.train = ConfigDict()
  c.train.num_steps = 0
  c.train.rows = 8 if pocket else 512  # packed rows per step (pairs per step, for reward models)
  c.train.micro_rows = 8 if pocket else 64  # rows per pass, for each of mesh.data x mesh.fsdp
  c.train.learning_rate = 3e-3 if pocket else 1e-5
  c.train.warmup_steps = 10
  c.train.decay_steps = 0  # of the cosine; 0 keeps the rate constant
  c.train.final_share = 0.1  # of the learning rate, where the cosine ends
  c.train.b1 = 0.9
  c.train.b2 = 0.95
  c.train.weight_decay = 0.1
  c.train.max_norm = 1.0  # of the gradient, clipped above
  c.train.chunk = 2_048  # tokens per block of the log-probabilities: chunk x vocabulary in memory
  c.train.remat = (
    'dots' if pocket else 'full'
  )  # recomputed backward: 'none', 'dots' (attention), 'full'

  c.rl = ConfigDict()
  c.rl.prompts_per_step = 1
  c.rl.group_size = 32  # samples per prompt
  c.rl.advantage = 'balanced'  # Eq. 5; 'mean_reward' is its ablation
  c.rl.num_epochs = 1  # sweeps over a rollout
  c.rl.num_minibatches = 1  # optimiser steps per sweep
  c.rl.clip_low = 0.2  # epsilon
  c.rl.clip_high = 0.2
  c.rl.aggregate = 'token'  # 'token', 'sequence' or 'budget': what weighs the same in the loss

  c.rollout = ConfigDict()
  c.rollout.temperature = 0.8 if not pocket else 1.0
  c.rollout.max_prompt_tokens = 112 if micro else 48 if pocket else 2_048
  c.rollout.max_tokens = 96 if micro else 208 if pocket else 14_000  # think and answer together

  c.reward = ConfigDict()
  c.reward.model = ''  # experiment:size or a run folder
  c.reward.weights = ConfigDict({'length': 1.0, 'writing': 1.0, 'format': 1.0})
  c.reward.max_words = 160 if pocket else 14_000  # L_max of Eq. 3, where the length reward is 0
  c.reward.writing_floor = 0.0  # writing reward of an answer that cannot be parsed
  c.reward.max_failures = 0.1  # share of samples without a judgement, above which the run stops

  c.eval = ConfigDict()
  c.eval.every = 50  # steps
  c.eval.batches = 8  # held-out batches of train.rows rows

  c.log = ConfigDict()
  c.log.samples_every = 10  # steps between written-out samples
  c.log.tensorboard = True

  c.profile = ConfigDict()
  c.profile.steps = ()  # write a jax.profiler trace and a memory profile of these

  c.preflight = ConfigDict()
  c.preflight.topology = 'local'  # 'v5p:4x4x4', 'gpu:h100:8x8', or 'local': the attached devices
  c.preflight.experiment = ''  # whose programs are compiled, and its stage: experiments/preflight.py
  c.preflight.stage = ''

  c.report = ConfigDict()
  c.report.runs = ()  # names of runs to put side by side
  c.report.figures = (
    'valid_format',
    'reward/length',
    'reward/writing',
    'redundancy',
    'words/answer',
    'learn/entropy',
  )

  c.checkpoint = ConfigDict()
  c.checkpoint.every = 20  # steps
  c.checkpoint.keep = 2

  # Keys that may change when a run is resumed; all others make it another run.
  c.outside_identity = (
    'runs_dir',
    'name',
    'needs_policy',
    'train.num_steps',
    'mesh',
    'eval',
    'log',
    'checkpoint',
    'profile',
    'preflight',
    'report',
    'outside_identity',
  )
  return c
