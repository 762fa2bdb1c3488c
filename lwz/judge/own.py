"""A judge of one's own: a Python file with a function `reply`, from a question to a text.

    def reply(question):  # one of `lwz.reward.questions`
      return '[[A]]'      # or '[[2 > 1 = 3]]', or '{"c1": "yes", "c2": "no"}', as a model replies

`scripted.by_quality` makes such a text out of a number for each answer:

    from lwz.judge import scripted

    def reply(question):
      return scripted.by_quality(question, lambda prompt, answer: answer.count('!'))

An error counts as a failure of the judge, and so does a call that takes `judge.deadline` seconds,
whose thread is left to itself. Up to `judge.concurrency` threads call the function at a time. The
file is part of a run's identity, what it imports is not.
"""

import concurrent.futures
import contextlib
import functools
import runpy
import threading
from collections.abc import Callable

from etils import epath

from lwz.judge import client, scripted
from lwz.reward import questions

Reply = Callable[[questions.Question], str]


def is_own(name: str) -> bool:
  """Whether a judge is named by its file."""
  return name.endswith('.py')


def load(path: str) -> Reply:
  """Returns the function of a judge's file, which runs once for each of its contents.

  Raises FileNotFoundError if there is no file, and ValueError if it has no such function.
  """
  if not epath.Path(path).exists():
    raise FileNotFoundError(f'reward.judge={path}: no such file; name one with reply(question)')
  return _load(path, epath.Path(path).read_bytes())


@functools.cache
def _load(path: str, contents: bytes) -> Reply:
  del contents  # an edited file is another judge
  try:
    found = runpy.run_path(path).get('reply')
  except (Exception, SystemExit) as error:  # of any kind: the file is the user's
    raise ValueError(f'reward.judge={path}: {type(error).__name__}: {error}') from error
  if not callable(found):
    raise ValueError(f'reward.judge={path}: the file has no function reply(question): add one')
  return found


def of(name: str) -> Reply | None:
  """Returns the function of a judge that is one: one's own, or scripted rules; else None."""
  if scripted.is_scripted(name):
    return functools.partial(scripted.reply, name)
  return load(name) if is_own(name) else None


def submit(
  ask: Callable[[], str], index: int, room: threading.Semaphore, deadline: int | float
) -> concurrent.futures.Future[client.Reply]:
  """Calls a judge in a thread that holds no run which ends; the result is its `Reply`.

  It is a failure once `deadline` seconds have passed since the call.
  """
  future: concurrent.futures.Future[client.Reply] = concurrent.futures.Future()

  def end(text: str, fault: str) -> None:
    with contextlib.suppress(concurrent.futures.InvalidStateError):  # what ended first counts
      future.set_result(client.Reply(index, text, fault))
      room.release()

  def work() -> None:
    room.acquire()
    late = threading.Timer(deadline, end, ('', f'deadline: no reply in {deadline:g} seconds'))
    late.daemon = True
    late.start()
    try:
      text, fault = ask(), ''
      if not isinstance(text, str):
        text, fault = '', f'error: a reply is a text, not {type(text).__name__}'
    except BaseException as error:  # of any kind, as above: an exit, too, has to be answered
      text, fault = '', f'error: {type(error).__name__}: {error}'
    late.cancel()
    end(text, fault)

  threading.Thread(target=work, name='own judge', daemon=True).start()
  return future
