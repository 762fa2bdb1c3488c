"""Every config key with its default, its meaning and its unit; one function per group of keys.

An experiment takes this config and changes some values. Sizes are `micro` (seconds, for tests),
`tiny` (minutes on any CPU; the default), `small` (a real model of up to 2B parameters, which
`base_model` names), those of Qwen2.5, `0.5b` to `72b`, and those of Qwen3.
"""

from ml_collections import ConfigDict

POCKET = ('micro', 'tiny')
DATA = f'{__file__.rpartition("/")[0]}/data'  # found from any working directory
REQUESTS = f'{DATA}/requests.jsonl'  # of 60 to 150 words
QWEN3 = tuple(f'qwen3-{size}' for size in ('0.6b', '1.7b', '4b', '8b', '14b', '32b'))
SIZES = (*POCKET, 'small', '0.5b', '1.5b', '3b', '7b', '14b', '32b', '72b', *QWEN3)

# Overrides at the two small sizes. The values further down are the paper's wherever it states one.
TINY = {
  'needs_policy': 'run',
  'needs_parallel': 2,  # pocket models hardly use more than one core
  **{'data.lower': 25, 'data.upper': 80, 'data.template': 'pocket', 'data.row_length': 256},
  **{'mesh.fsdp': 1, 'train.rows': 8, 'train.micro_rows': 8, 'train.learning_rate': 3e-3},
  **{'train.remat': 'dots', 'rl.overlong_margin': 40},
  **{'rollout.max_prompt_tokens': 48, 'rollout.max_tokens': 208, 'rollout.exact': True},
  **{
    'data.heldout': 0.2,
    'reward.max_words': 160,
    'reward.refresh_pairs': 16,
    'reward.refresh_rate': 3e-4,
    'eval.rivals': True,
    'eval.lengths': (10, 20, 40, 80),
    'eval.window': 10,
    'preflight.at_start': False,
  },
  **{'checkpoint.minutes': 0, 'debug.watchdog': 600},
}
MICRO = TINY | {
  'needs_parallel': 1,  # starts of processes would take most of the time
  **{'data.lower': 10, 'data.upper': 24, 'prompts.embedded': 400},
  **{'rollout.max_prompt_tokens': 112, 'rollout.max_tokens': 96},
  **{'eval.prompts': 4, 'eval.slots': 4, 'eval.pairs': 60},
}

# A real model of 100M to 2B parameters on one device, the one that `base_model` names. What is 0
# here follows from the model and the prompts, see lwz/runtime/sizing.py.
SMALL = {
  'needs_policy': 'run',
  'init': 'base_model',
  **{
    'data.prompts': REQUESTS,
    'data.template': 'chat_short',
    'data.heldout': 0.2,
    'data.tested': 0.3,
  },
  **{'data.folder': 'passages:small', 'data.lower': 0, 'data.upper': 0, 'data.row_length': 0},
  'data.plan': 'countdown',
  **{'train.rows': 8, 'train.micro_rows': 1, 'train.remat': 'dots', 'reward.max_words': 0},
  'train.dtype': 'bfloat16',  # a gradient in 0.6 of the time, on a CPU with AMX
  **{'rollout.max_prompt_tokens': 0, 'rollout.max_tokens': 0},
  **{'eval.prompts': 16, 'eval.slots': 16, 'eval.every': 20, 'rl.overlong_margin': 40},
}


def begin(size: str) -> str:
  """Returns the model that training begins from: our own at the small sizes, else Qwen's base."""
  if size in POCKET:
    return f'base_model:{size}'
  if size == 'small':
    return 'base_model'  # the one that the key of this name holds
  if size == 'qwen3-32b':
    return 'Qwen/Qwen3-32B'  # its base model is not published
  family, _, number = size.rpartition('-')
  return f'Qwen/Qwen3-{number.upper()}-Base' if family else f'Qwen/Qwen2.5-{size.upper()}'


def sample_as_published(c) -> None:
  """Sets the sampling of LongWriter-Zero-32B's model card, from the size `0.5b` on."""
  if c.size not in (*POCKET, 'small'):
    c.rollout.temperature, c.rollout.top_p, c.rollout.max_tokens = 0.6, 0.95, 15_500


def get_config(size: str) -> ConfigDict:
  if size not in SIZES:
    raise ValueError(f'no size {size!r}: choose one of {", ".join(SIZES)}')
  c = ConfigDict()

  c.experiment = ''  # name of the experiment's file, without .py; each experiment sets it
  c.size = size
  c.stage = ''  # what to run: lwz/stages/<stage>.py; 'score' tries the rewards of any experiment
  c.name = ''  # of the run's folder; '': <experiment>-<size>, with -s<seed> if the seed is not 0
  c.seed = 0  # determines all randomness: parameters, order of the data, sampling
  c.runs_dir = 'runs'  # parent of all run folders; a gs://... bucket works too
  c.needs = ()  # keys whose values name other runs (experiment:size), which must be complete first
  c.needs_seed = 0  # the seed of those runs
  c.needs_policy = 'stop'  # if such a run is missing: 'stop' and print its command, or 'run' it
  # Missing runs at a time; several are processes that share the cores, where there is only a CPU.
  c.needs_parallel = 1
  # Initial parameters: 'random', experiment:size, a run's folder, a Hugging Face folder or hub id,
  # FILE.gguf, or gguf:PACKAGE/FILE for one that a Python package ships; at the size small also
  # 'base_model', for that of the next key.
  c.init = 'random'
  c.base_model = ''  # what all runs of the size small begin with: a folder, a hub id, a GGUF file
  c.prompt = ''  # the request that experiments/generate.py answers

  for add in (
    _data,
    _pairs,
    _mesh,
    _prompts,
    _train,
    _lora,
    _rl,
    _rollout,
    _reward,
    _eval,
    _judge,
    _run,
    _tools,
    _serve,
  ):
    add(c)
  c.update_from_flattened_dict({'micro': MICRO, 'tiny': TINY, 'small': SMALL}.get(size, {}))
  c.lock()  # an experiment that sets a key which is not here stops
  c.reward.weights.unlock()  # of rewards to come
  return c


def _data(c) -> None:
  """Texts, prompts and preference pairs."""
  c.data = ConfigDict()
  # Of .txt, .md, .jsonl, JSON arrays (.json), .parquet, .gz of them, or a run of `passages`; '':
  # Python's documentation.
  c.data.folder = ''
  c.data.tokenizer = ''  # folder or hub id; '': that of `init`, or a new one if `init` is 'random'
  c.data.heldout = 0.1  # share of documents never trained on; their titles become GRPO's prompts
  c.data.tested = 0.15  # share of the held-out documents that is kept for evaluations
  c.data.lower, c.data.upper = 500, 9_000  # words of a passage of the corpus, and of an answer
  # Prompt template: 'paper'; 'pocket', which is short (the paper's takes some 500 tokens of a
  # pocket tokenizer); or the same instructions as a user's message to a model that has learnt to
  # chat: 'chat', 'chat_short'.
  c.data.template = 'paper'
  c.data.chat_template = ''  # file of a chat template (Jinja); '': that of the tokenizer
  c.data.style = 'think'  # prompts ask for thoughts, then an answer; 'direct': for an answer alone
  c.data.row_length = 32_768  # tokens per packed row
  # Pretraining learns from these sources alone: patterns of file names, as 'books/*'; of the
  # embedded corpus 'reference' and 'stdlib'. (): from all. A new tokenizer, and held-out documents,
  # are of all.
  c.data.sources = ()
  c.data.formatted_share = 0.0  # share of pretraining tokens from documents in the answer format
  # Thoughts of formatted documents: 'short', a plan of four sentences at most; 'full', of all,
  # which repeats the length that is asked for and counts the words; 'countdown', those left, which
  # a small model follows, see LOG.md.
  c.data.plan = 'short'
  c.data.slack = 0.25  # a prompt's range of words is its document's length +- this share
  # JSONL, Parquet or a run of `prompts`; '': made from held-out titles. Of preference pairs, or of
  # those of a run of `reward_model`: which answer is better, for the reward 'verdict'.
  c.data.prompts = ''
  # Fine-tuning: prompts and answers, JSONL (.gz) or Parquet, or a GRPO run, for the best of its own
  # rollouts (rejection sampling), or a run of `reward_model`, for verdicts on its pairs; '':
  # formatted documents, as in pretraining.
  c.data.examples = ''
  c.data.threshold = 0.5  # of a run's groups of samples: least mean reward of the best one
  c.data.preferences = ''  # JSONL (.gz) or Parquet of preference pairs; '': by damaging passages
  # Dotted paths to a pair's texts; ('prompt', 'chosen_story', 'rejected_story') in LitBench,
  # ('prompt', 'chosen.response', 'rejected.response') in WritingPreferenceBench.
  c.data.pair_paths = ('prompt', 'chosen', 'rejected')
  c.data.written = ''  # a run of `policy_pairs`, whose pairs are added to those made by damage
  c.data.damages = ()  # kinds of damage, see lwz/data/damages.py; (): those of the reward model
  # Pairs whose request names this many terms and whose worse side covers fewer; 0: no such pairs.
  c.data.requirements = 0
  c.data.share_from = 0.0  # pairs are made of the requests whose hash lies in
  c.data.share_to = 1.0  # [share_from, share_to): disjoint shares have no document in common
  c.data.tests = ''  # JSONL file of further test pairs, such as cheats that a policy found
  c.data.long = 'refuse'  # reward models refuse a text longer than a row; 'window': read in parts
  c.data.skip_broken = False  # skip and count broken lines of preferences, examples; False: stop


def _pairs(c) -> None:
  """The stage `policy_pairs`: answers of a policy as the worse sides of preference pairs."""
  c.pairs = ConfigDict()
  c.pairs.temperatures = 4  # number of temperatures; each request has one answer at each of them
  c.pairs.coldest, c.pairs.hottest = 0.5, 1.0  # they lie evenly from the one to the other
  # Of `passages`: openings of each answer, whose requests state their own lengths; 1: it alone, as
  # the prompt asks.
  c.pairs.openings = 1


def _mesh(c) -> None:
  """The device mesh: devices per axis, where -1 takes all that remain.

  Rows are sharded over data and fsdp, parameters over fsdp and tensor, the tokens of a row over
  context. If the product is smaller than the number of devices, the first ones are used.
  """
  c.mesh = ConfigDict()
  c.mesh.data = 1
  c.mesh.fsdp = -1
  c.mesh.tensor = 1
  c.mesh.context = 1


def _prompts(c) -> None:
  """The stage `prompts`: filters conversations down to a set of writing prompts."""
  c.prompts = ConfigDict()
  # Files and folders of conversations: WildChat-1M or LMSYS-Chat-1M as published, or JSON lines.
  c.prompts.sources = ()  # (): conversations made up from Python's own documentation
  c.prompts.embedded = 4_000  # number of conversations to make up
  c.prompts.benchmarks = ()  # files of test prompts; requests that overlap with them are rejected
  # Paths to the fields of a record, as in 'prompt.0.content'; '': found by the known schemas.
  c.prompts.text_path = ''
  c.prompts.language_path = ''
  c.prompts.lower_path = ''  # lower and upper number of words, for a set that states them: the
  c.prompts.upper_path = ''  # judge is then not asked for a length
  # Criteria and references, for rewards by a judge ('reward_model.rubrics' in RubricHub); '': none.
  c.prompts.criteria_path = ''
  c.prompts.references_path = ''
  c.prompts.criteria = False  # have the judge write criteria for prompts that come without
  # Have it write so many answers of rising quality, too; judge.max_tokens has to hold one.
  c.prompts.references = 0
  c.prompts.languages = ('en', 'zh')  # all other requests are rejected
  c.prompts.min_words = 4  # per request
  c.prompts.max_chars = 8_000  # per request; about 2,000 tokens of English, 8,000 of Chinese
  c.prompts.shortest = 300  # words; requests for shorter answers are rejected
  c.prompts.similarity = 0.7  # estimated Jaccard similarity from which two requests are duplicates
  c.prompts.overlap = 0.7  # share of a test prompt's word n-grams from which a request is rejected
  c.prompts.examples = 3  # rejected requests that the report shows for each reason


def _train(c) -> None:
  """Optimisation, in every training stage."""
  c.train = ConfigDict()
  c.train.num_steps = 0  # every experiment that trains sets it
  c.train.rows = 512  # batch size in packed rows; in pairs, for reward models
  c.train.micro_rows = 64  # rows of a micro-batch on each of the mesh.data x mesh.fsdp shards
  c.train.learning_rate = 1e-5  # peak, after the warm-up
  c.train.warmup_steps = 10  # updates of linear warm-up from 0
  c.train.decay_steps = 0  # updates until the cosine decay ends; 0: a constant rate
  c.train.final_share = 0.1  # share of the learning rate that is left when the decay ends
  c.train.b1 = 0.9
  c.train.b2 = 0.95
  c.train.weight_decay = 0.1
  c.train.max_norm = 1.0  # the gradient is scaled down to this global norm if it exceeds it
  c.train.optimizer = 'adamw'  # or 'muon', for the matrices of layers; nothing else decays then
  c.train.moments = 'float32'  # dtype of the moments; 'bfloat16' halves them
  c.train.offload = False  # keep the moments in host memory between updates
  c.train.halvings = 0  # GRPO may halve its rows this often when all trajectories are short
  c.train.centring = 0.0  # weight of (r(chosen) + r(rejected))^2, which keeps mean scores near 0
  c.train.chunk = 2_048  # tokens whose logits are in memory at once: chunk x vocabulary floats
  # What the backward pass recomputes: 'none'; 'dots', attention and elementwise operations; 'full',
  # all of a layer; 'offload', like 'full' with each layer's input in host memory meanwhile.
  c.train.remat = 'full'
  # Of products, 'bfloat16' or 'float32'; '': what the model's file names, for most of GGUF float32.
  c.train.dtype = ''
  c.train.attention = 'auto'  # or 'xla', 'chunked', 'splash' (TPU), 'triton', 'cudnn' (GPU)


def _lora(c) -> None:
  """Low-rank adapters, trained in place of all parameters; with them, a reward model's scalar head.

  Of `init` only a copy in the dtype of products is held then, without gradients or moments. Rates
  for adapters are about ten times those for all parameters.
  """
  c.lora = ConfigDict()
  c.lora.rank = 0  # columns of A and rows of B, whose product is added to a matrix; 0: no adapters
  c.lora.alpha = 32.0  # A B is added alpha / rank times
  c.lora.targets = ('q', 'k', 'v', 'o', 'gate', 'up', 'down')  # the matrices that have adapters
  # Matrices of the layers: 'float', in the dtype of products; 'int8', a scale per output channel;
  # 'int4', one per 64 inputs, too. They are read in that dtype first, then made smaller.
  c.lora.frozen = 'float'


def _rl(c) -> None:
  """GRPO."""
  c.rl = ConfigDict()
  c.rl.prompts_per_step = 1
  c.rl.group_size = 32  # samples per prompt
  # Steps over which prompts grow from the shortest requests to all of them; 0: all from the start.
  c.rl.short_first = 0
  # Steps whose prompts are sorted together by the length that they ask for, so that the texts of a
  # step end at about the same time; 0: each step's prompts are as they come. Those of max_resamples
  # are as they come in any case.
  c.rl.alike = 0
  # Dynamic sampling (DAPO): a step samples up to this many further batches, until prompts_per_step
  # groups have unequal rewards. Reward metrics describe the first batch: the others are selected.
  c.rl.max_resamples = 0
  # 'balanced' normalises each reward in its group, then averages (Eq. 5); 'batch_balanced'
  # normalises once more over the batch (GDPO). The others compare the mean reward: 'mean_reward'
  # is the paper's ablation, 'centred' is Dr. GRPO's, 'leave_one_out' RLOO's.
  c.rl.advantage = 'balanced'
  # One reward out of all before it is normalised, with an advantage of one reward ('mean_reward',
  # 'centred', 'leave_one_out'): 'product' (GR3), 'veto', 'violators' below the mean (RLMR), 'sum'.
  c.rl.composition = ''  # '': none
  c.rl.constraints = ('format',)  # rewards that 'veto' and 'violators' hold against a sample
  c.rl.satisfied = 0.5  # the least value of such a reward that is no violation
  c.rl.num_epochs = 1  # passes over the samples of a step
  c.rl.num_minibatches = 1  # updates per epoch
  c.rl.loss = 'grpo'  # or 'gspo' (set the clips to 3e-4 and 4e-4), 'cispo' (set clip_low to 1)
  # Of the loss 'distill' (clips apply): A = log teacher - log policy, token by token, no rewards.
  c.rl.teacher = ''  # a model with the tokenizer of `init`, which it is to become like
  c.rl.clip_low = 0.2  # the probability ratio is clipped to [1 - clip_low, 1 + clip_high]
  c.rl.clip_high = 0.2
  c.rl.ratio_cap = 0.0  # dual clip: the largest ratio where the advantage is negative; 0: no cap
  c.rl.aggregate = 'token'  # mean over tokens, per 'sequence' first, or by a fixed 'budget'
  c.rl.kl_weight = 0.0  # beta of the KL to `init`; with 0, as in the paper, no reference is loaded
  c.rl.entropy_weight = 0.0  # weight of an entropy bonus
  c.rl.tis_cap = 0.0  # cap of the importance weight pi / pi_sampler of each token; 0: no weights
  # Samples cut off at max_tokens: 'keep' their rewards, 'mask' them from the loss, or 'penalise'
  # length, from 0 at max_tokens - overlong_margin down to -1 at max_tokens (with an advantage that
  # averages rewards first).
  c.rl.overlong = 'keep'
  c.rl.overlong_margin = 2_800  # tokens
  # Save and stop once such an alarm has rung in 3 steps in a row: 'high', all of that severity, or
  # names, 'loop,language'. The run goes on without the key.
  c.rl.stop_on_alarm = ''


def _rollout(c) -> None:
  """Generation by our own engine."""
  c.rollout = ConfigDict()
  c.rollout.temperature = 0.8
  c.rollout.max_prompt_tokens = 2_048
  c.rollout.max_tokens = 14_000  # thoughts and answer together
  # GRPO needs the defaults of the next three: its loss assumes that any token could be sampled.
  c.rollout.min_tokens = 0  # the stop token is not sampled before this many tokens
  c.rollout.top_p = 1.0  # sample from the most likely tokens with this total probability
  c.rollout.top_k = 0  # sample from this many most likely tokens; 0: from all
  # True: a resumed run is bit for bit the same. The decode batch then keeps one shape, and GPU
  # kernels are deterministic. False is faster: the batch and what is read of the cache shrink.
  c.rollout.exact = False
  c.rollout.slots = 0  # sequences decoded at a time; 0: all samples of a step
  c.rollout.block = 32  # decoding steps between two checks for sequences that have ended
  c.rollout.int8 = False  # store keys and values as int8: half the cache, inexact log-probabilities
  # Matrices of the layers while text is written, made anew from what is trained in every step:
  # 'float', in the dtype of products; 'int8' or 'int4', as in lora.frozen. With int8 a step of
  # decoding reads half the bytes on accelerators, and on a CPU for one text at a time; int4 takes
  # less memory and reads no fewer, since it is written out as floats first. GRPO needs rl.tis_cap
  # then: samples are of other weights than those that learn from them (`learn/logp_gap`).
  # Evaluations, and judges on our devices, write with rounded weights, too.
  c.rollout.weights = 'float'
  # Decode attention: 'xla', or 'mosaic' (TPU) or 'triton' (GPU), kernels that read a sequence's
  # cache only as far as it is filled. 'auto' is 'xla', since the kernels have not been timed yet.
  c.rollout.attention = 'auto'


def _reward(c) -> None:
  """Rewards."""
  c.reward = ConfigDict()
  # experiment:size, a run's folder, a Hugging Face sequence classifier, or a server, http://... or
  # MODEL@http://..., whose protocol the end of the address tells, see lwz/reward/protocols.py.
  c.reward.model = ''
  c.reward.server_chat = False  # vLLM gets messages, for the chat template of its reward model
  c.reward.ensemble = ()  # further models; the reward is the mean - caution x standard deviation
  c.reward.caution = 1.0
  # Steps between two refreshes of the reward model, 0 for none: half of each batch are its first
  # pairs, half set a passage against a valid answer that the policy has given since.
  c.reward.refresh = 0
  c.reward.refresh_steps = 50  # updates each time
  c.reward.refresh_pairs = 64  # pairs in a batch
  c.reward.refresh_rate = 2e-6  # learning rate
  # The referee: a reward model that trains nothing. Held-out answers are compared with those of
  # step 0 by it, and by log-probability under `init`, which is loaded once more.
  c.reward.heldout = ''
  # Of the reward 'likelihood' (VR-CLI): the frozen model that reads thoughts and the true text of a
  # prompt, its last reference; '': that of `init`.
  c.reward.likelihood_model = ''
  # The reward is sigmoid((score - mean) / std). A model that we trained knows both; give them for
  # any other. With std = 0, the scores of a server are rewards in [0, 1] already.
  c.reward.mean = 0.0
  c.reward.std = 0.0
  c.reward.key_env = ''  # environment variable with the server's API key; '': no key is sent
  # By name: these; 'rubric', 'sibling', 'ranking', 'ladder', which ask reward.judge; 'likelihood',
  # 'diversity', 'verdict' (of a policy that judges). One whose weight is 0 is computed and shown.
  c.reward.weights = ConfigDict({'length': 1.0, 'writing': 1.0, 'format': 1.0})
  c.reward.functions = (
    ConfigDict()
  )  # set by lwz.run: what tells a reward given in Python by its name
  c.reward.max_words = 14_000  # L_max of Eq. 3: at this many words the length reward is 0
  c.reward.writing_floor = 0.0  # writing reward of a sample in a broken format
  # The judge of rewards: MODEL@http://host/v1, a run, a model, 'policy' (itself, as it is at each
  # step), rules with a known flaw, such as scripted-perfect, scripted-noisy-0.2, see
  # lwz/judge/scripted.py, or a Python file, see lwz/judge/own.py. Limits, sampling parameters that
  # it knows and prices are those of `judge`.
  c.reward.judge = ''
  c.reward.judge_key_env = ''  # environment variable with its API key
  c.reward.judge_temperature = 0.0
  c.reward.judge_tokens = 2_048  # per reply
  # Nothing more is sent once it has cost so much, by judge.price_*: the run is saved, and ends.
  # Of several processes each has an equal part of what is left at a step. 0: no limit.
  c.reward.judge_budget = 0.0
  c.reward.max_failures = 0.1  # stop if a larger share of a step's samples could not be scored


def _eval(c) -> None:
  """The stage `evaluate`, and evaluations during a training.

  A system is experiment:size, a run's folder, a Hugging Face model, MODEL@http://host/v1, an
  OpenAI-compatible endpoint, or a .jsonl file of answers ("index" or "prompt", and "response").
  NAME=SYSTEM gives it a name in the tables.
  """
  c.eval = ConfigDict()
  # Or 'ruler', 'longgen', 'longbench', 'consistency', 'writingbench'; evaluations in GRPO are
  # always of Arena-Write.
  c.eval.benchmark = 'arena'
  c.eval.file = ''  # the benchmark as published; '': a small one made from held-out titles
  c.eval.systems = ()  # systems to compare
  c.eval.prompts = 32  # number of the benchmark's prompts to use; 0: all
  # Words that the benchmarks 'ruler' and 'longgen' ask for, if no file is given.
  c.eval.lengths = (100, 300, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000)
  # Models whose judgement of each window is measured: reward models, or language models, which are
  # asked how much the text surprises them.
  c.eval.scorers = ()
  c.eval.window = 200  # words of a window, for measures by position; `evaluate` may take more
  c.eval.style = 'chat'  # prompt style for models that we did not train; or 'think', 'direct'
  c.eval.slots = 32  # answers that our own engine generates at a time
  c.eval.rivals = False  # compare the systems with each other, too; False: with baselines only
  c.eval.key_env = ''  # environment variable with the API key of the systems' endpoints
  # Parameters that the systems' endpoints know; max_completion_tokens is sent for max_tokens, if it
  # is named here, or if the server asks for it.
  c.eval.sends = ('temperature', 'top_p', 'top_k', 'max_tokens', 'stop', 'seed')
  c.eval.people = 60  # comparisons on people.html, the page for blind human judges; 0: all
  c.eval.arena = ''  # name of the run whose people.html was judged, for experiments/people.py
  c.eval.annotations = ''  # folder of exported human judgements; '': annotations/ of that run
  c.eval.every = 50  # steps between two evaluations in a training; 0: none
  c.eval.greedy = 0  # prompts of one that are answered greedily, too; 0: all
  c.eval.inside = 16  # sampled answers of one that are measured by position; 0: none
  c.eval.siblings = 4  # prompts of one that get three more sampled answers, for their similarity
  # Seconds that the last step waits for the judge of evaluations; one on our own devices is waited
  # for at each, for as long as it takes.
  c.eval.wait = 900.0
  c.eval.batches = 8  # held-out batches per evaluation in pretraining
  c.eval.pairs = 2_000  # held-out pairs per evaluation of a reward model: a sample of them; 0: all


def _judge(c) -> None:
  """The judge, and the limits of every endpoint: the judge's and the systems'."""
  c.judge = ConfigDict()
  c.judge.model = 'offline-rules'  # length and repetition only, no meaning; or a system, see _eval
  c.judge.key_env = ''  # environment variable with the judge's API key
  c.judge.temperature = 0.0  # None, as of top_p: not sent, so that the server's own default holds
  c.judge.top_p = 1.0
  c.judge.max_tokens = 2_048  # per reply
  c.judge.rounds = 3  # how often a question is asked until its reply can be parsed
  c.judge.max_failures = 0.1  # stop if a larger share of questions has no verdict
  c.judge.cache = ''  # SQLite file for replies, on a local disk; '': .replies.sqlite in runs_dir
  c.judge.concurrency = 16  # simultaneous requests to an endpoint
  c.judge.requests_per_minute = 0  # 0: no limit
  c.judge.tokens_per_minute = 0  # 0: no limit
  c.judge.timeout = 600  # seconds without a byte from the server
  c.judge.deadline = 7_200  # seconds of a request's attempts together, of a call of a Python file
  c.judge.sends = ('temperature', 'top_p', 'max_tokens')  # parameters that its endpoint knows
  # Requests for this many tokens or more are streamed: gateways end a silent connection. 0: none.
  c.judge.stream = 4_096
  c.judge.tries = 6  # attempts per request, with growing pauses
  c.judge.price_in = 0.0  # price of a million input tokens, in any currency
  c.judge.price_out = 0.0  # price of a million output tokens


def _run(c) -> None:
  """Logs, checkpoints and faults of a run."""
  c.log = ConfigDict()
  c.log.samples_every = 10  # steps between two sets of samples on disk
  c.log.browser = True  # rollouts.html: all texts, token by token; 9 bytes on disk per token
  # Where metrics and samples go besides the run's files; also 'wandb' and 'trackio' (pip install
  # them), without a network by WANDB_MODE=offline and by trackio's default.
  c.log.sinks = ('tensorboard',)

  c.profile = ConfigDict()
  c.profile.steps = ()  # steps of which a jax.profiler trace and a memory profile are written

  c.checkpoint = ConfigDict()
  c.checkpoint.every = 20  # steps
  c.checkpoint.minutes = 30  # save once this many have passed, too; 0: by steps only
  c.checkpoint.keep = 2  # the latest checkpoints to keep
  # A metric of metrics.jsonl, whose best checkpoints are kept as well. For one of 'eval/' training
  # waits for the judge of every evaluation.
  c.checkpoint.best = ''
  c.checkpoint.keep_best = 1  # how many of these

  c.debug = ConfigDict()
  c.debug.max_skipped = 5  # stop after more steps in a row whose gradient is not finite
  c.debug.replay = ''  # a folder faults/step-... of this run: only repeat that step, and print it
  c.debug.watchdog = 3_600  # seconds without progress until all stacks are printed; 0: never
  c.debug.heartbeat = 100  # seconds of silence after which another process counts as lost


def _tools(c) -> None:
  """The stages generate, score, rescore, preflight, export and report."""
  c.generate = ConfigDict()
  # JSONL or Parquet of prompts to answer: text; lower and upper, in words, if they are known.
  c.generate.prompts = ''  # '': the one of the key `prompt`
  c.generate.words = 0  # number of words that each is asked for; 0: none is added to the prompt
  c.generate.drafts = 1  # texts for each prompt; `reward.model`, if one is named, ranks them
  # Folder that keeps the texts while they are written: a second start goes on at the same token.
  c.generate.folder = ''  # '': a single text is shown, and not kept
  # A text ends once its last so many tokens are one unit over and over; 0: never.
  c.generate.loop = 0

  c.score = ConfigDict()
  # JSONL file of texts (text; prompt, lower, upper if given), or a run's folder, for its samples.
  c.score.texts = ''  # '': held-out passages, intact and damaged

  c.rescore = ConfigDict()
  # The GRPO run whose archived samples are judged by `reward`, `judge` and, of `rl`, the advantage
  # and the composition of this config: experiment:size, or a run's folder.
  c.rescore.run = ''
  c.rescore.batches = 0  # batches to judge, evenly spaced over that run; 0: all

  c.preflight = ConfigDict()
  c.preflight.at_start = True  # before a training: compile its programs, stop if they do not fit
  # 'local': the attached devices; or as 'v5p:4x4x4', 'v5litepod-8' (the cloud's), 'gpu:h100:8x8'
  c.preflight.topology = 'local'
  c.preflight.experiment = ''  # set by experiments/preflight.py: whose programs are compiled,
  c.preflight.stage = ''  # and the stage of that experiment

  c.export = ConfigDict()
  c.export.folder = ''  # where the model is written; '': the run folder of the export
  # 'huggingface': a folder for transformers and vLLM; 'gguf': for llama.cpp and Ollama; 'peft': the
  # adapters of a run alone, as PEFT loads them.
  c.export.format = 'huggingface'
  c.export.dtype = 'bfloat16'  # of a folder; or 'float32', 'float16'
  c.export.push = ''  # hub id, USER/NAME, to upload the folder to, with the token in HF_TOKEN
  c.export.private = True  # a repository that everybody can read is refused; False: one is made
  # Of the matrices of a GGUF file: 'F16', 'BF16', 'F32', or 8 or 4 bits each, 'Q8_0', 'Q4_0'.
  c.export.type = 'F16'

  c.report = ConfigDict()
  c.report.runs = ()  # names of the runs to compare
  c.report.metrics = (
    'valid_format',
    'reward/length',
    'reward/writing',
    'redundancy',
    'words/answer',
    'learn/entropy',
    'eval/outcome/sampled',
    'eval/referee_win_rate/sampled',
  )
  c.report.browser = False  # writes what the browsers of rollouts of these runs lack


def _serve(c) -> None:
  """The stage serve; how it samples is `rollout`: temperature, top_p and top_k of all replies."""
  c.serve = ConfigDict()
  c.serve.host = '127.0.0.1'  # another needs a key
  c.serve.port = 8_000  # 0: any that is free
  c.serve.key_env = ''  # environment variable with the API key that clients send; '': none is asked
  c.serve.model = ''  # its name for clients; '': that of the run or of the model
  c.serve.queue = 64  # choices of replies that wait for a slot; more are answered 429
  c.serve.choices = 8  # of one request, n or best_of; `reward.model`, if one is named, ranks them
  c.serve.messages = 64  # of one request
  c.serve.body = 1_000_000  # bytes of one request
  c.serve.deadline = 30  # seconds after SIGTERM or Ctrl-C until what is being written is cut
