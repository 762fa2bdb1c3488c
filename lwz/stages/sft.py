"""Supervised fine-tuning on prompts and answers, with the loss on answers alone.

  1. read examples from files, take the best rollouts of a GRPO run (rejection sampling), or make
     them of documents as in pretraining     data.examples, rl.best_samples, data.formatted
  2. render and encode them as rollouts are  data.templates
  3. train on packed rows                    runtime.next_token

A share `data.heldout` of the prompts is never trained on: evaluations are of their answers.
"""

import functools
from collections.abc import Iterator

from etils import epath

from lwz.data import comparisons, corpus, examples, prompts, templates, tokens
from lwz.rl import best_samples
from lwz.runtime import next_token, setup, sources
from lwz.store import model_source

READS = (
  *(*next_token.READS, *setup.DOCUMENTS, 'data.lower', 'data.upper', 'data.template'),
  'data.plan',
  *('data.style', 'data.examples', 'data.threshold', 'data.skip_broken'),
)

Pairs = list[tuple[templates.Prompt, str]]  # prompts and completions, as text


def check(c) -> None:
  next_token.check(c)
  if c.data.examples and not setup.is_experiment(c.data.examples):
    _pairs(c)


models = next_token.models
programs = functools.partial(next_token.programs, answers=True)


def run(c) -> Iterator[dict[str, float]]:
  opened = setup.open_run(c, READS)
  tok = setup.load_tokenizer(c, opened.folder)
  config = setup.model_config(c, opened.folder, tok)
  pairs, note = _pairs(c)
  print(f'{setup.run_name(c)}: {note}')
  parts = {name: _tokens(c, tok, found) for name, found in pairs.items()}
  facts = {'examples': f'{len(parts["train"]):,}', 'their source': note}
  yield from next_token.run(c, opened, tok, config, parts, answers=True, facts=facts)


def _is_run(c) -> bool:
  """Whether `data.examples` names a run, and no file."""
  return setup.is_experiment(c.data.examples) or model_source.is_run(c.data.examples)


def _pairs(c) -> tuple[dict[str, Pairs], str]:
  """Returns rendered examples to train on and held-out ones, and a note of where they are from."""
  if not c.data.examples:
    made = [sources.formatted_pairs(c, found) for found in sources.documents(c)]
    return dict(zip(('train', 'heldout'), made, strict=True)), 'formatted documents'
  source = epath.Path(setup.input_file(c, 'data.examples'))
  salt = 'heldout'
  if source.name == setup.PAIRS:
    if c.data.style == 'think':
      raise ValueError(
        f'data.examples={c.data.examples}: preference pairs have no thoughts, which '
        "data.style='think' learns; choose data.style='direct'"
      )
    salt = 'tested'  # as `prompts.split`; `reward_model` has set a share aside by the other one
    asked = prompts.load(source)
    found = [examples.Example(prompt.text, '', prompt.references[-1]) for prompt in asked]
    note = f'verdicts on pairs of {source.parent.name}'
  elif _is_run(c):
    source = source.parent  # the folder of DONE
    found, num = best_samples.load(c, source)
    note = f'the best of {len(found):,} of {num:,} groups of {source.name}'
  else:
    found, num = examples.load(source, c.data.style, skip_broken=c.data.skip_broken)
    note = f'{source.name}' + (f', {num:,} broken lines skipped' if num else '')
  pairs: dict[str, Pairs] = {'train': [], 'heldout': []}
  for example in found:
    is_heldout = corpus.fraction(comparisons.request(example.prompt), salt) < c.data.heldout
    part = pairs['heldout' if is_heldout else 'train']
    part.append(example.rendered(c.data.style, c.data.template))
  if not all(pairs.values()):
    raise ValueError(
      f'data.examples={c.data.examples}: data.heldout={c.data.heldout} of its {len(found)} '
      f'examples leaves {len(pairs["train"])} to train on and {len(pairs["heldout"])} held out: '
      'add examples, change the share, or, of a run, lower data.threshold'
    )
  return pairs, note


def _tokens(c, tok, pairs: Pairs) -> tokens.Tokens:
  """Returns the ids of examples. None is cut, which would teach a broken format.

  One that is longer than a row is refused where it is of the user's file, unless `skip_broken`;
  else it is left out.
  """
  kept = []
  for (prompt, _), ids in zip(pairs, next_token.encoded(tok, pairs), strict=True):
    if (size := sum(map(len, ids))) <= c.data.row_length:
      kept.append(ids)
    elif c.data.examples and not (c.data.skip_broken or _is_run(c)):
      raise ValueError(
        f'data.examples={c.data.examples}: the example of {str(prompt)[-60:]!r} has {size} tokens, '
        f'more than data.row_length={c.data.row_length}: raise it, drop the example, or leave such '
        'ones out with data.skip_broken=True'
      )
  if num_long := len(pairs) - len(kept):
    print(f'{num_long} of {len(pairs)} examples left out: longer than data.row_length')
  if not kept:
    raise ValueError(
      f'data.row_length={c.data.row_length}: no example is that short; raise it, or, of made ones, '
      f'also on a run that needs this one, lower data.upper={c.data.upper}'
    )
  return tokens.of_answers(*zip(*kept, strict=True))
