"""Errors that a user can mend, told without a stack; a fault of ours keeps its stack."""

import dis
import sys

STATUS = 2  # exit status


def is_refusal(error: BaseException) -> bool:
  """Whether lwz itself raised the error about its input, or the system about a file.

  Errors that numpy, JAX or Python raise inside our code are faults of ours.
  """
  if isinstance(error, OSError):
    return True
  last = error.__traceback__
  while last and last.tb_next:
    last = last.tb_next
  if last is None or not isinstance(error, ValueError | RuntimeError | ImportError):
    return False
  frame = last.tb_frame
  is_ours = frame.f_globals.get('__name__', '').startswith(
    ('lwz.', 'experiments', '<run_path>', '__main__')
  )
  # The instruction tells a `raise` from an error of what the line calls.
  return is_ours and dis.opname[frame.f_code.co_code[last.tb_lasti]] == 'RAISE_VARARGS'


def show(error: BaseException) -> None:
  """Prints the sentence of a refusal."""
  print(f'lwz: {str(error) or type(error).__name__}', file=sys.stderr, flush=True)
