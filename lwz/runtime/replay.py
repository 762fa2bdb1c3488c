"""A training step that was not finite, run again from what `debug.replay` names."""

import jax

from lwz.model import config as config_lib
from lwz.programs import program
from lwz.runtime import trainer
from lwz.store import faulty_step, run


def rerun(
  c, opened: run.Run, config: config_lib.QwenConfig, mesh: jax.sharding.Mesh, step: program.Program
) -> None:
  """Runs the step that `debug.replay` names again, and prints its metrics then and now."""
  frozen = trainer.frozen_params(c, opened.folder, config, mesh) if step.frozen else ()
  given = step.abstract_args[: len(step.abstract_args) - len(frozen)]
  args, fault = faulty_step.read(c.debug.replay, given)
  values = jax.device_get(step.jit(*frozen)(*args)[1])
  print(f'{c.debug.replay}: not finite: {", ".join(fault["not_finite"])}')
  for name, value in sorted(values.items()):
    print(f'  {name}: {fault["metrics"].get(name)} then, {float(value)} now')
