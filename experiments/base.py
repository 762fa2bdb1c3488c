"""Every key of every experiment, grouped by the room that it concerns.

An experiment is this plus what differs. Three kinds of size: `micro` (seconds, for tests), `tiny`
(minutes on any CPU, the default), and the real ones, `0.5b` to `72b`.
"""

from ml_collections import ConfigDict

POCKET = ('micro', 'tiny')
SIZES = (*POCKET, '0.5b', '1.5b', '3b', '7b', '14b', '32b', '72b')

# What the small sizes have instead of the values below, which are the paper's where it has one.
TINY = {
  'needs_policy': 'run',
  **{'data.lower': 25, 'data.upper': 80, 'data.template': 'pocket', 'data.row_length': 256},
  **{'mesh.fsdp': 1, 'train.rows': 8, 'train.micro_rows': 8, 'train.learning_rate': 3e-3},
  **{'train.remat': 'dots', 'rl.overlong_margin': 40, 'rollout.temperature': 1.0},
  **{'rollout.max_prompt_tokens': 48, 'rollout.max_tokens': 208, 'rollout.exact': True},
  **{'reward.max_words': 160, 'eval.rivals': True, 'preflight.at_start': False},
  **{'checkpoint.minutes': 0, 'debug.watchdog': 600},
}
MICRO = TINY | {
  **{'data.lower': 10, 'data.upper': 24, 'prompts.embedded': 400},
  **{'rollout.max_prompt_tokens': 112, 'rollout.max_tokens': 96},
  **{'eval.prompts': 4, 'eval.slots': 4},
}


def get_config(size: str) -> ConfigDict:
  if size not in SIZES:
    raise ValueError(f'no size {size!r}: choose one of {", ".join(SIZES)}')
  c = ConfigDict()

  c.experiment = ''  # set by the experiment: the name of its file
  c.size = size
  c.stage = ''  # the verb: lwz/stages/<stage>.py
  c.name = ''  # of the run folder; '' is experiment-size, plus -s<seed> where the seed is not 0
  c.seed = 0
  c.runs_dir = 'runs'  # where run folders live; may be gs://...
  c.needs = ()  # dotted keys whose values, where they read experiment:size, must be run before
  c.needs_policy = 'stop'  # 'run' what is missing, or 'stop' with the commands
  # Where parameters begin: 'random', experiment:size, a run's folder, a Hugging Face model.
  c.init = 'random'

  c.prompt = ''  # what experiments/generate.py asks for

  for add in (_data, _mesh, _prompts, _train, _rl, _rollout, _reward, _evaluation, _operation):
    add(c)
  _tools(c)
  c.update_from_flattened_dict({'micro': MICRO, 'tiny': TINY}.get(size, {}))
  return c


def _data(c) -> None:
  """Texts, prompts and preference pairs."""
  c.data = ConfigDict()
  c.data.folder = ''  # .txt, .md and .jsonl files; '' is the text that comes with every Python
  c.data.tokenizer = ''  # a folder or hub id; '' is that of `init`, or trained where that is random
  c.data.heldout = 0.1  # share of documents that no training sees; GRPO's titles come from them
  c.data.tested = 0.15  # share of these that GRPO does not ask for: evaluations do
  c.data.lower, c.data.upper = 500, 9_000  # words
  c.data.template = 'paper'  # or 'pocket': the paper's prompt has 250 tokens
  c.data.style = 'think'  # 'think' or 'direct': what prompts ask for
  c.data.row_length = 32_768  # tokens of a packed row
  c.data.formatted_share = 0.0  # of the tokens: documents in the asked format
  c.data.slack = 0.25  # a prompt's range is its document's own length, this much less or more
  c.data.prompts = ''  # JSONL of prompts; '' makes them from held-out titles
  c.data.preferences = ''  # JSONL of pairs; '' makes them by damaging passages
  c.data.long = 'refuse'  # texts longer than a row, by reward models; 'window' reads them in parts
  c.data.skip_broken = False  # count and skip unreadable lines of `preferences`, don't stop


def _mesh(c) -> None:
  """Devices."""
  # How the devices are laid out: rows are cut over data and fsdp, parameters over fsdp and tensor,
  # tokens of a row over context; -1 is what remains. With fewer than there are, the first are used.
  c.mesh = ConfigDict()
  c.mesh.data = 1
  c.mesh.fsdp = -1
  c.mesh.tensor = 1
  c.mesh.context = 1


def _prompts(c) -> None:
  """The funnel from conversations to a prompt set."""
  c.prompts = ConfigDict()
  # Folders and files of conversations, WildChat-1M and LMSYS-Chat-1M as they are published, or JSON
  # lines; () makes a few up from the text that comes with every Python.
  c.prompts.sources = ()
  c.prompts.embedded = 4_000  # how many are made up
  c.prompts.benchmarks = ()  # files of prompts that are tested on, to be kept out
  # Where a record holds what, as in 'prompt.0.content'; '' knows the schemas that are about.
  c.prompts.text_path = ''
  c.prompts.language_path = ''
  c.prompts.lower_path = ''  # of a range in words that the set itself names: no assessor is asked
  c.prompts.upper_path = ''
  c.prompts.languages = ('en', 'zh')
  c.prompts.min_words = 4  # of a request
  c.prompts.max_chars = 8_000  # of a request: 2,048 tokens, or 8,000 characters of Chinese
  c.prompts.shortest = 300  # words of an answer that counts as long
  c.prompts.similarity = 0.7  # estimated Jaccard, from which an earlier request is repeated
  c.prompts.overlap = 0.7  # share of a benchmark prompt's runs of words that a request may not hold
  c.prompts.examples = 3  # per reason, in the report


def _train(c) -> None:
  """Optimisation."""
  c.train = ConfigDict()
  c.train.num_steps = 0
  c.train.rows = 512  # packed rows per step (pairs per step, for reward models)
  c.train.micro_rows = 64  # rows of a micro-batch, for each of mesh.data x mesh.fsdp
  c.train.learning_rate = 1e-5
  c.train.warmup_steps = 10
  c.train.decay_steps = 0  # of the optimiser, until its cosine ends; 0 keeps the rate constant
  c.train.final_share = 0.1  # of the learning rate, where the cosine ends
  c.train.b1 = 0.9
  c.train.b2 = 0.95
  c.train.weight_decay = 0.1
  c.train.max_norm = 1.0  # of the gradient, clipped above
  c.train.moments = 'float32'  # Adam's, between steps; 'bfloat16' is 4 bytes a parameter less
  c.train.offload = False  # Adam's moments wait in the memory of the host between steps
  c.train.halvings = 0  # of the row length, at most, where all trajectories of a step are short
  c.train.centring = 0.0  # weight of (r(chosen) + r(rejected))^2, which pulls scores to mean 0
  c.train.chunk = 2_048  # tokens per block of the log-probabilities: chunk x vocabulary in memory
  # What is computed again in the backward pass: 'none', 'dots' (attention), 'full'; with 'offload',
  # what 'full' keeps waits in the memory of the host.
  c.train.remat = 'full'
  c.train.attention = 'auto'  # or 'xla', 'chunked', 'splash' (TPU), 'triton', 'cudnn' (GPU)


def _rl(c) -> None:
  """GRPO."""
  c.rl = ConfigDict()
  c.rl.prompts_per_step = 1
  c.rl.group_size = 32  # samples per prompt
  # Dynamic sampling (DAPO): further batches of a step, at most, until prompts_per_step groups have
  # spread. Metrics of rewards are those of the first batch, which is not selected by them.
  c.rl.max_resamples = 0
  # 'balanced' is Eq. 5, 'batch_balanced' has a second normalisation (GDPO); the others compare the
  # mean reward: 'mean_reward' is the paper's ablation, 'centred' Dr. GRPO, 'leave_one_out' RLOO.
  c.rl.advantage = 'balanced'
  c.rl.num_epochs = 1  # sweeps over a rollout
  c.rl.num_minibatches = 1  # optimiser steps per sweep
  c.rl.loss = 'grpo'  # or 'gspo' (clips of 3e-4 and 4e-4), 'cispo' (clip_low of 1)
  c.rl.clip_low = 0.2  # epsilon
  c.rl.clip_high = 0.2
  c.rl.ratio_cap = 0.0  # of dual clip, which bounds the punishment of a token, often 3; 0 is none
  c.rl.aggregate = 'token'  # 'token', 'sequence' or 'budget': what weighs the same in the loss
  c.rl.kl_weight = 0.0  # beta, towards the parameters of `init`; 0, the paper's, loads no reference
  c.rl.entropy_weight = 0.0  # of a bonus for entropy
  c.rl.tis_cap = 0.0  # truncated importance weight pi / pi_sampler of each token; 0 is none
  c.rl.overlong = 'keep'  # texts cut at max_tokens; 'mask' leaves them out, 'penalise' comes before
  c.rl.overlong_margin = 2_800  # tokens before max_tokens where that begins


def _rollout(c) -> None:
  """Generation by our own engine."""
  c.rollout = ConfigDict()
  c.rollout.temperature = 0.8
  c.rollout.max_prompt_tokens = 2_048
  c.rollout.max_tokens = 14_000  # think and answer together
  c.rollout.min_tokens = 0  # no end before these; 0 in training, whose scorer knows no minimum
  c.rollout.top_p = 1.0  # share of the most likely tokens to sample; 1 in training, as in the
  c.rollout.top_k = 0  # paper, and their number, where 0 is all
  # One batch shape whoever is still writing, so that a resumed run is the same bit for bit; else
  # the batch shrinks as the tail thins out, and the cache is read as far as it is filled. On a GPU
  # all that such a command runs is deterministic, and slower.
  c.rollout.exact = False
  c.rollout.slots = 0  # trajectories at a time; 0 is all of a step
  c.rollout.block = 32  # steps between two looks at what has ended
  c.rollout.int8 = False  # keys and values in int8, which makes log-probabilities inexact
  # Who reads the cache: 'auto', 'xla', or a kernel that stops where a row does, 'mosaic' (TPU) or
  # 'triton' (GPU). 'auto' is XLA: the kernels have not been timed on the machines they are for.
  c.rollout.attention = 'auto'


def _reward(c) -> None:
  """Rewards."""
  c.reward = ConfigDict()
  # experiment:size, a run's folder, a Hugging Face sequence classifier, or a server, http://...
  c.reward.model = ''
  c.reward.ensemble = ()  # further ones, whose rewards count as mean - caution x spread over all
  c.reward.caution = 1.0
  c.reward.heldout = ''  # another, that trains nothing: the monitor watches how the two part
  c.reward.mean = 0.0  # of the scores of a model that is no run of ours, whose rewards are
  c.reward.std = 0.0  # sigmoid((score - mean) / std); 0: a server gives rewards in [0, 1]
  c.reward.key_env = ''  # the environment variable with the API key of a server; '' sends none
  c.reward.weights = ConfigDict({'length': 1.0, 'writing': 1.0, 'format': 1.0})
  c.reward.max_words = 14_000  # L_max of Eq. 3, where the length reward is 0
  c.reward.writing_floor = 0.0  # writing reward of an answer that cannot be parsed
  c.reward.max_failures = 0.1  # share of samples without a judgement, above which the run stops


def _evaluation(c) -> None:
  """Evaluation, and the judge."""
  # What `evaluate` measures, and GRPO on its way (there `file` is an Arena-Write). A system is
  # experiment:size, a run's folder, a Hugging Face model, or MODEL@http://host/v1 for an
  # OpenAI-compatible endpoint.
  c.eval = ConfigDict()
  c.eval.benchmark = 'arena'  # or 'writingbench'
  c.eval.file = ''  # the benchmark, as published; '' makes a small one of held-out titles
  c.eval.systems = ()
  c.eval.prompts = 32  # how many of the benchmark's; 0 is all
  c.eval.style = 'chat'  # how systems that are no runs of ours are asked; or 'think', 'direct'
  c.eval.slots = 32  # answers that our own engine generates at a time
  c.eval.rivals = False  # systems are compared with each other, and not with baselines alone
  c.eval.key_env = ''  # the environment variable that holds the API key of systems
  c.eval.people = 60  # comparisons on the page for blind judging by people; 0 is all
  c.eval.arena = ''  # the run whose people.html was judged, for experiments/people.py
  c.eval.annotations = ''  # folder of what people exported from that page
  c.eval.every = 50  # steps of a training between two evaluations; 0 in GRPO: none
  c.eval.batches = 8  # held-out batches of train.rows rows

  # Who judges: a system as above, or 'offline-rules', which measures length and repetition alone.
  c.judge = ConfigDict()
  c.judge.model = 'offline-rules'
  c.judge.key_env = ''  # the environment variable that holds the API key
  c.judge.temperature = 0.0
  c.judge.top_p = 1.0
  c.judge.max_tokens = 2_048  # of a judgement
  c.judge.rounds = 3  # how often a question is asked whose reply cannot be read
  c.judge.max_failures = 0.1  # share of failed replies, above which the run stops
  c.judge.cache = ''  # SQLite file on a local disk; '' is .replies.sqlite in runs_dir
  # How endpoints are met, the judge's and those of systems.
  c.judge.concurrency = 16  # requests in flight
  c.judge.requests_per_minute = 0  # 0 is no limit
  c.judge.tokens_per_minute = 0
  c.judge.timeout = 600  # seconds without a byte
  c.judge.tries = 6  # of a request, with growing waits
  c.judge.price_in = 0.0  # per million tokens read, in any currency
  c.judge.price_out = 0.0


def _operation(c) -> None:
  """Logs, checkpoints, and what may go wrong."""
  c.log = ConfigDict()
  c.log.samples_every = 10  # steps between written-out samples
  c.log.tensorboard = True

  c.profile = ConfigDict()
  c.profile.steps = ()  # write a jax.profiler trace and a memory profile of these

  c.checkpoint = ConfigDict()
  c.checkpoint.every = 20  # steps
  c.checkpoint.minutes = 30  # or as soon as so many have passed; 0: by steps alone
  c.checkpoint.keep = 2  # the newest
  c.checkpoint.best = ''  # a metric of metrics.jsonl, by which the best ones stay besides
  c.checkpoint.keep_best = 1  # how many of these

  # Bad days.
  c.debug = ConfigDict()
  c.debug.max_skipped = 5  # steps in a row that are not finite, above which the run stops
  c.debug.replay = ''  # a folder faults/step-... of the run: run that step again, and nothing else
  c.debug.watchdog = 3_600  # seconds without a move before stacks are shown
  c.debug.heartbeat = 100  # seconds of silence after which a process is taken for dead

  return c


def _tools(c) -> None:
  """Stages beside training."""
  c.preflight = ConfigDict()
  c.preflight.at_start = True  # compile what a run will run, and stop where it does not fit
  c.preflight.topology = 'local'  # 'v5p:4x4x4', 'gpu:h100:8x8', or 'local': the attached devices
  c.preflight.experiment = (
    ''  # whose programs are compiled, and its stage: experiments/preflight.py
  )
  c.preflight.stage = ''

  c.export = ConfigDict()
  c.export.folder = ''  # where to; '' is the folder of the export itself
  c.export.dtype = 'bfloat16'  # or 'float32', 'float16'

  c.report = ConfigDict()
  c.report.runs = ()  # names of runs to put side by side
  c.report.metrics = (
    'valid_format',
    'reward/length',
    'reward/writing',
    'redundancy',
    'words/answer',
    'learn/entropy',
  )
