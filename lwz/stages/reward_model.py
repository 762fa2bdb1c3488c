"""The writing reward model: Bradley-Terry on preference pairs (Eq. 4).

Pairs come from a JSONL file, or are made by damaging passages of the corpus, and of what a policy
wrote (`policy_pairs`). One step:

  1. take a batch of pairs, both sides of each packed into one micro-batch    data
  2. one optimiser step on - log sigmoid(r(chosen) - r(rejected))             programs.reward_model
  3. record, and save

At the end, on held-out pairs: accuracy by source and by length, against texts padded with
themselves, calibration, and how far the score is length; mean and spread of the scores, which give
the writing reward its scale; and the model in the Hugging Face form of a sequence classifier.
"""

import dataclasses
import json
from collections.abc import Iterator

import jax
import numpy as np

from lwz import hosts, types
from lwz import text as texts_lib
from lwz.data import epochs
from lwz.model import qwen
from lwz.programs import language_model, program, reward_model
from lwz.reward import calibration, length
from lwz.rl import registry
from lwz.runtime import adapters, closing, preference_pairs, replay, setup, trainer, validation
from lwz.store import atomic
from lwz.store.hf import checkpoint as hf

READS = (
  *(*setup.READS, *setup.MESH, *setup.MODEL, *trainer.READS),
  *(*preference_pairs.READS, 'data.row_length', 'data.long', 'train.rows', 'train.remat'),
  *('train.centring', 'eval.every', 'eval.pairs'),
)

HUGGING_FACE = 'huggingface'  # in the run's folder
EVERY = 8  # of so many test pairs one is used before the end


def check(c) -> None:
  validation.config(c, ['init'])
  validation.mesh(c, ['init'])
  adapters.check(c)
  preference_pairs.check(c)
  reward_model.max_micro(c.train.rows, _shape(c, setup.mesh(c)).num_rows)


def run(c) -> Iterator[dict[str, float]]:
  opened = setup.open_run(c, READS)
  train, heldout = preference_pairs.load(c, opened.folder)
  tok = setup.load_tokenizer(c, opened.folder)
  config = setup.model_config(c, opened.folder, tok, scalar_head=True)
  texts = preference_pairs.texts(c, tok, train)
  heldout, tests = preference_pairs.encoded(c, tok, preference_pairs.sampled(heldout, c.eval.pairs))

  mesh = setup.mesh(c)
  compiled = programs(c, {'policy': config}, mesh)
  setup.check_memory(c, compiled)
  if c.debug.replay:
    return replay.rerun(c, opened, config, mesh, compiled['reward_model'])
  for name in ('score', 'reward_model'):  # in the order in which they are called
    compiled[name].start()
  loop = trainer.Trainer(c, opened, config, mesh)
  step_fn, score_fn = (compiled[name].jit(*loop.frozen) for name in ('reward_model', 'score'))

  def evaluate(params, pairs, label: str = '') -> np.ndarray:
    return preference_pairs.scores(score_fn, params, pairs, _shape(c, mesh), label=label)

  def rng(epoch: int) -> np.random.Generator:
    return np.random.default_rng((c.seed, epoch))

  state = loop.state
  for step in loop:
    measured = {}
    if c.eval.every and step % c.eval.every == 0:
      scores_B2 = evaluate(state.params, tests[::EVERY])
      measured = {'heldout/accuracy': np.mean(scores_B2[:, 0] > scores_B2[:, 1])}
    batch = epochs.take(len(texts), step, c.train.rows, rng)
    pairs, margins = zip(*[texts[i] for i in batch], strict=True)
    minibatch, num_micro = reward_model.minibatch(pairs, margins, _shape(c, mesh))
    state, values = loop.update(step_fn, state, minibatch, num_micro)
    yield loop.record(step, state, values | measured, show=('loss', 'accuracy'))

  padded = preference_pairs.encoded(c, tok, _padded(heldout), drop=True)[1]
  tables, result = _judged(
    {pair.source for pair in train},
    heldout,
    evaluate(state.params, tests, 'held-out pairs'),
    evaluate(state.params, padded, 'texts padded with themselves'),
  )
  hf.save(
    opened.folder / HUGGING_FACE, config, adapters.whole(c, config, state.params, *loop.frozen), tok
  )
  scale = {key: result[key] for key in ('mean', 'std')}
  target = opened.folder / HUGGING_FACE / registry.SCALE
  hosts.first(lambda: atomic.write_text(target, json.dumps(scale) + '\n'))
  closing.finish(
    c,
    opened,
    shown=['loss', 'accuracy', 'margin', 'heldout/accuracy', 'grad_norm'],
    plots=[
      {'keys': ['loss'], 'title': 'Bradley-Terry loss', 'unit': 'nats per pair'},
      {'keys': ['accuracy', 'heldout/accuracy'], 'title': 'accuracy'},
      {'keys': ['margin'], 'title': 'r(chosen) - r(rejected)'},
    ],
    facts={
      **adapters.facts(c, config),
      'pairs': len(train),
      'held-out pairs': len(heldout),
      'calibration error': f'{result["calibration_error"]:.3f}',
      'correlation of score and length': f'{result["length_bias"]:.2f}',
    },
    tables=tables,
    result=result,
  )
  for _, _, rows in tables:
    for name, num, accuracy in rows:
      print(f'  held-out accuracy, {name}: {accuracy:.3f} of {num} pairs')


def _judged(
  trained: set[str],
  heldout: list[types.Preference],
  scores_B2: np.ndarray,
  padded_B2: np.ndarray,
) -> tuple[list, dict]:
  """Returns tables of accuracies and the summary for DONE, from (chosen, rejected) scores.

  `trained` are the sources of training pairs; others are marked as unseen.
  """
  words_B2 = np.array(
    [[length.count_words(pair.chosen), length.count_words(pair.rejected)] for pair in heldout]
  )
  margin_B = scores_B2[:, 0] - scores_B2[:, 1]
  sources = calibration.by_group(
    margin_B, [p.source if p.source in trained else f'{p.source}, unseen' for p in heldout]
  )
  lengths = calibration.by_group(margin_B, calibration.length_groups(*words_B2.T))[1:]
  if len(padded_B2):
    accuracy = float(np.mean(padded_B2[:, 0] > padded_B2[:, 1]))
    lengths.append(('padded with itself, half as long again', len(padded_B2), accuracy))
  header = ('pairs of', 'pairs', 'accuracy')
  tables = [
    ('held-out accuracy by source', header, sources),
    ('held-out accuracy by length', header, lengths),
  ]
  result = {
    'mean': float(scores_B2.mean()),
    'std': float(scores_B2.std()),
    'heldout_by_source': {name: accuracy for name, _, accuracy in sources},
    'heldout_by_length': {name: accuracy for name, _, accuracy in lengths},
    'calibration_error': calibration.calibration_error(margin_B),
    'length_bias': calibration.length_bias(scores_B2.reshape(-1), words_B2.reshape(-1)),
  }
  return tables, result


def _padded(pairs: list[types.Preference]) -> list[types.Preference]:
  """Returns pairs of each chosen text and itself with its first half repeated."""
  found = []
  for pair in pairs:
    sentences = texts_lib.sentences(pair.chosen)
    again = ' '.join(sentences[: max(len(sentences) // 2, 1)])
    found.append(types.Preference(pair.prompt, pair.chosen, f'{pair.chosen} {again}', 'padded'))
  return found


def models(c) -> dict[str, qwen.QwenConfig]:
  """Returns the configurations of the models of a run, which need not exist yet."""
  return {'policy': dataclasses.replace(setup.expected(c, c.init), scalar_head=True)}


def programs(
  c, models: dict[str, qwen.QwenConfig], mesh: jax.sharding.Mesh
) -> dict[str, program.Program]:
  """Returns the programs that a run compiles: the training step, and scoring of held-out pairs."""
  shape, lora = _shape(c, mesh), adapters.of(c)
  train = reward_model.train_step(
    models['policy'],
    trainer.update_rule(c, models['policy'], lora=lora),
    shape,
    num_pairs=c.train.rows,
    remat=c.train.remat,
    centring=c.train.centring,
    offload=c.train.offload,
    lora=lora,
    mesh=mesh,
  )
  score = reward_model.score(models['policy'], shape, lora=lora, mesh=mesh)
  return {'reward_model': train, 'score': score}


def _shape(c, mesh: jax.sharding.Mesh) -> language_model.RowShape:
  """Returns the rows of a micro-batch, in training and in scoring, and their tokens."""
  return language_model.RowShape(setup.pass_rows(c, mesh, 2 * c.train.rows), c.data.row_length)
