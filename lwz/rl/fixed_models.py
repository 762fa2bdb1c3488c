"""Models beside the policy that no update changes: the reference of a KL term, and a teacher."""

from collections.abc import Collection

import jax

from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.rl import registry
from lwz.runtime import setup, tokenizers, trainer
from lwz.store import model_source

# Program -> the log-probabilities of a minibatch that it computes.
LOGPROBS = {'reference': 'ref_logp', 'teacher': 'teacher_logp'}


def check(c) -> None:
  """Raises ValueError if the loss and the teacher do not go together, or teacher and policy."""
  if (c.rl.loss in registry.DISTILLING) != bool(c.rl.teacher):
    raise ValueError(
      f'rl.loss={c.rl.loss!r} and rl.teacher={c.rl.teacher!r}: a teacher goes with the loss '
      f'{" or ".join(registry.DISTILLING)}, and that with a teacher; set both or neither'
    )
  named = [value for value in (c.init, c.rl.teacher) if value]
  sources = [setup.reference(c, value) for value in named]
  if len(named) < 2 or any(
    setup.is_experiment(value) and not model_source.is_run(source)
    for value, source in zip(named, sources, strict=True)
  ):
    return  # it is to be run first, and checked when it is loaded
  if model_source.config(sources[1]).scalar_head:
    raise ValueError(
      f'rl.teacher={c.rl.teacher}: a reward model gives marks; name a model that writes'
    )
  own, theirs = (tokenizers.load(source) for source in sources)
  if own.get_vocab() != theirs.get_vocab():
    raise ValueError(
      f'rl.teacher={c.rl.teacher}: its vocabulary is not that of init={c.init}, so that it cannot '
      'read what the policy writes; name a teacher with the same tokenizer'
    )


def load(
  c,
  config: config_lib.QwenConfig,
  mesh: jax.sharding.Mesh,
  names: Collection[str],
  *base: qwen.Params,
) -> dict[str, qwen.Params]:
  """Returns the parameters of those that are among the names of a run's programs.

  The frozen `base` of adapters, where there is one, is the reference itself.
  """
  found = {}
  if 'reference' in names:
    (found['reference'],) = base or (trainer.initial_params(c, config, mesh, config.dtype),)
  if 'teacher' in names:
    check(c)  # what it needs has been run by now
    source = setup.reference(c, c.rl.teacher)
    teacher = setup.computed(c, model_source.config(source))
    found['teacher'] = setup.load_params(c, source, teacher, mesh)
  return found
