"""The processes of a run: how they find each other, and with what status they leave.

Statuses, which `launch/` and job managers go by:
  0    done
  1    a fault of lwz, with its stack
  2    refused in a sentence: a value, a file, a model, another run; a restart would not mend it
  75   stopped by SIGTERM or SIGINT, everything saved: the same command goes on
  76   another process was lost: restart all of them
  128+ killed
"""

import contextlib
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator

import jax

from lwz.runtime import refusal

LOST = 76
TOGETHER = ('pretrain', 'sft', 'reward_model', 'grpo', 'export')  # stages of several processes
# How an error of the runtime begins that reaches Python as a ValueError.
_STATUS = re.compile(r'(ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|UNKNOWN): ')
# How those begin that no other process can be the cause of: a shape, a lack of memory.
_OWN = re.compile(r'(INVALID_ARGUMENT|OUT_OF_RANGE|RESOURCE_EXHAUSTED|UNIMPLEMENTED): ')
_EXPLICIT = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
_LOOPBACK = re.compile(r'(127\.|localhost:|\[::1\])')
AUTO = 'LWZ_PROCESSES'  # =auto asks JAX to find the others: TPU pods, Kubernetes


def start(heartbeat: int) -> None:
  """Joins the other processes, where the environment names any; before the first use of a device.

  They are named by JAX's three variables (`launch/local.sh` sets them), by an `srun` of several
  tasks, or found by JAX itself with `LWZ_PROCESSES=auto`. One that is silent for `heartbeat`
  seconds is dead, and the others leave.

  Raises ValueError where only some of the three variables are set.
  """
  named = [name for name in _EXPLICIT if os.environ.get(name)]
  under_slurm = int(os.environ.get('SLURM_STEP_NUM_TASKS', 1)) > 1
  if not (named or under_slurm or os.environ.get(AUTO) == 'auto'):
    return
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  # `interrupts` listens to SIGTERM; the processes tell each other at every step.
  jax.config.update('jax_enable_preemption_service', False)
  if not named:
    jax.distributed.initialize(heartbeat_timeout_seconds=heartbeat)
  elif missing := [name for name in _EXPLICIT if name not in named]:
    raise ValueError(f'{", ".join(named)} is set, but not {", ".join(missing)}: set all, or none')
  else:
    address, num, index = (os.environ[name] for name in _EXPLICIT)
    jax.distributed.initialize(
      address,
      int(num),
      int(index),
      cluster_detection_method='deactivate',
      heartbeat_timeout_seconds=heartbeat,
      # JAX would listen on all addresses, though processes of one machine need none of them.
      coordinator_bind_address=address if _LOOPBACK.match(address) else None,
    )
  if jax.process_index():  # process 0 speaks for all; errors go to stderr
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115 (for as long as the process lives)


def check(stage: str) -> None:
  """Raises ValueError where there are several processes, and the stage is the work of one."""
  if jax.process_count() > 1 and stage not in TOGETHER:
    raise ValueError(
      f'{stage} is the work of one process, and there are {jax.process_count()}: start it by itself'
    )


@contextlib.contextmanager
def guarded(heartbeat: int) -> Iterator[None]:
  """Inside, an error that may come from it is taken for the loss of another process, see `lost`.

  Waits until the runtime says which one, for the heartbeat at most (it then ends this process by
  itself), and leaves with status 76. It would otherwise hang, at a barrier that the lost one never
  reaches.
  """
  try:
    yield
  except Exception as error:
    if jax.process_count() == 1:
      raise
    who = f'process {jax.process_index()} of {jax.process_count()}'
    if refusal.is_refusal(error) and not lost(error):
      refusal.show(error)
      _leave(refusal.STATUS)
    traceback.print_exc()
    if lost(error):
      print(f'lwz: {who}: lost another one; waiting for its name', file=sys.stderr, flush=True)
      time.sleep(1.5 * heartbeat)
      _leave(LOST)
    print(f'lwz: {who}: leaves by an error of its own', file=sys.stderr, flush=True)
    _leave(1)


def lost(error: Exception) -> bool:
  """Whether such an error of a process among several may come from the loss of another one."""
  if isinstance(error, jax.errors.JaxRuntimeError):
    return not _OWN.match(str(error))
  return bool(_STATUS.match(str(error)))


def _leave(status: int) -> None:
  """Without waiting for the others at the exit."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)
