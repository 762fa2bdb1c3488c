"""The thread that writes: replies come and go, and none knows of another."""

import itertools
import queue
import threading
import time

import numpy as np
import pytest

from lwz.rollout import local, scheduler
from lwz.serving import arrivals, writer
from tests.serving import served


def submit(written_by, seed=0, *, prompt=(3, 4), choices=1, max_tokens=400, stops=(), **more):
  """Returns the reply and the queue of its pieces."""
  pieces, keys_B2 = queue.Queue(), writer.keys(seed, choices)
  reply = written_by.submit(
    prompt, keys_B2=keys_B2, max_tokens=max_tokens, stops=stops, notify=pieces.put, **more
  )
  return reply, pieces


def ended(pieces, choices=1):
  """The last piece of each choice."""
  found = {}
  while len(found) < choices:
    piece = pieces.get(timeout=10)
    if piece.finish:
      found[piece.choice] = piece
  return [found[number] for number in range(choices)]


def alone(seed, number=0, prompt=(3, 4), **more):
  """What the offline scheduler writes: requests of `local`, in one list."""
  with served.server(start=False) as (_, _, clerk):
    asked = local.requests(
      [np.array(prompt, np.int32)], num_samples=number + 1, max_tokens=400, seed=seed, step=0
    )
    (found,) = scheduler.run(clerk.engine(400), None, asked[number:])
    return found.ids


def test_a_reply_has_the_tokens_of_its_seed_whatever_else_is_written():
  with served.server(num_slots=3) as (_, written_by, clerk):
    asked = [submit(written_by, seed, prompt=(3, seed), choices=1 + seed % 3) for seed in range(12)]
    for seed, (_, pieces) in enumerate(asked):
      for number, piece in enumerate(ended(pieces, 1 + seed % 3)):
        assert piece.finish == 'stop'
        expected = alone(seed, number, prompt=(3, seed))
        np.testing.assert_array_equal(piece.ids, expected[: len(piece.ids)])
        assert piece.text.endswith('</answer>')
  assert max(clerk.blocks) == 3


def test_what_is_not_streamed_is_told_of_at_its_end_alone():
  with served.server() as (_, written_by, _):
    found = []
    for streamed in (True, False):
      _, pieces = submit(written_by, 7, streamed=streamed)
      found.append([pieces.get(timeout=10)])
      while not found[-1][-1].finish:
        found[-1].append(pieces.get(timeout=10))
  parts, whole = found
  assert len(parts) > 1 and len(whole) == 1 and whole[0].text == parts[-1].text


def test_a_job_is_done_between_two_blocks_by_the_thread_that_writes():
  gate = threading.Event()
  with served.server(gate=gate) as (_, written_by, _):
    threads = [written_by.between_blocks(threading.get_ident)]  # while it is idle
    _, pieces = submit(written_by)
    while not written_by.num_active:  # from then on a block is written, which waits at the gate
      time.sleep(0.01)
    asked = threading.Thread(
      target=lambda: threads.append(written_by.between_blocks(threading.get_ident))
    )
    asked.start()
    time.sleep(0.05)
    assert len(threads) == 1  # a block is being written
    gate.set()
    asked.join(10)
    ended(pieces)
    with pytest.raises(ZeroDivisionError):
      written_by.between_blocks(lambda: 1 / 0)
    assert written_by.error is None
    assert threads == [written_by._thread.ident] * 2
    written_by.close(1)
    assert written_by.join(10)
    assert written_by.between_blocks(threading.get_ident) == threading.get_ident()


def test_pieces_of_a_text_grow_to_it():
  with served.server() as (_, written_by, _):
    _, pieces = submit(written_by)
    texts = []
    while not texts or not last.finish:
      last = pieces.get(timeout=10)
      texts.append(last.text)
  assert len(texts) > 5 and all(b.startswith(a) for a, b in itertools.pairwise(texts))
  assert len(last.ids) == len(last.logp)


def test_a_cancelled_reply_frees_its_slot_within_one_block():
  gate, asked = threading.Semaphore(0), threading.Semaphore(0)
  gate.wait = lambda: (asked.release(), gate.acquire())  # a block for each release
  gate.set = lambda: gate.release(10_000)
  with served.server(num_slots=1, gate=gate, write=lambda *a: [9] * 399 + [0]) as found:
    _, written_by, clerk = found
    first, pieces = submit(written_by)
    _, others = submit(written_by, 1, max_tokens=2)
    gate.release(2)
    for _ in range(3):  # two are written, and it waits for the third
      assert asked.acquire(timeout=10)
    assert pieces.get(timeout=10).text and pieces.empty()  # told of the first beside the second
    written_by.cancel(first)
    before = len(clerk.blocks)
    gate.release(2)  # one in which it is seen, and one for the next
    assert ended(others)[0].finish == 'length'
    assert len(clerk.blocks) == before + 2
    gate.set()


def test_what_is_cancelled_while_it_waits_is_never_written():
  gate = threading.Event()
  with served.server(num_slots=1, gate=gate) as (_, written_by, clerk):
    _, first = submit(written_by)
    waiting, _ = submit(written_by, 1)
    _, third = submit(written_by, 2, max_tokens=1)
    written_by.cancel(waiting)
    gate.set()
    (written,), _ = ended(first), ended(third)
    num_blocks = -(-len(written.ids) // clerk.num_steps)
    assert len(clerk.blocks) == num_blocks + 1


def test_the_queue_is_bounded_and_all_or_nothing():
  gate = threading.Event()
  with served.server(num_slots=1, queue=3, gate=gate) as (_, written_by, _):
    submit(written_by)
    while written_by.num_active < 1:
      time.sleep(0.001)
    asked = [submit(written_by, seed)[1] for seed in (1, 2)]
    with pytest.raises(arrivals.Full):
      submit(written_by, 3, choices=2)
    asked.append(submit(written_by, 4)[1])
    with pytest.raises(arrivals.Full):
      submit(written_by, 5)
    assert not written_by.has_room
    gate.set()
    assert [ended(pieces)[0].finish for pieces in asked] == ['stop'] * 3


def test_what_is_begun_is_finished_and_nothing_new_is_taken():
  with served.server(num_slots=1) as (_, written_by, _):
    asked = [submit(written_by, seed)[1] for seed in range(3)]
    written_by.close(60)
    with pytest.raises(arrivals.Closed):
      submit(written_by)
    assert [ended(pieces)[0].finish for pieces in asked] == ['stop'] * 3
    assert written_by.join(10)


def test_at_the_deadline_what_is_written_is_cut_and_what_waits_is_told():
  gate = threading.Event()
  with served.server(num_slots=1, gate=gate) as (_, written_by, _):
    _, begun = submit(written_by)
    while written_by.num_active < 1:
      time.sleep(0.001)
    _, waiting = submit(written_by, 1)
    written_by.close(0)
    time.sleep(0.01)
    gate.set()
    (cut,) = ended(begun)
    assert cut.finish == 'length' and 0 < len(cut.ids) < len(alone(0))
    assert ended(waiting)[0].finish == writer.FAILED
    assert written_by.join(10)


def test_a_fault_of_the_engine_ends_every_reply():
  gate = threading.Event()
  with served.server(num_slots=1, gate=gate) as (_, written_by, clerk):
    heard = threading.Event()
    written_by.on_error = heard.set
    asked = [submit(written_by, seed)[1] for seed in range(3)]
    clerk.fault = ValueError('out of paper')
    gate.set()
    assert [ended(pieces)[0].finish for pieces in asked] == [writer.FAILED] * 3
    assert heard.wait(10) and str(written_by.error) == 'out of paper'
    with pytest.raises(arrivals.Closed):
      submit(written_by)


@pytest.mark.parametrize('num_steps', [1, 3, 50])
def test_a_stop_string_of_a_request_ends_it_and_is_no_part_of_it(num_steps):
  whole = served.text((3, 4), tuple(int(k) for k in key()))
  stop = whole[20:26]
  with served.server(num_steps=num_steps) as (_, written_by, _):
    (piece,) = ended(submit(written_by, stops=(stop,))[1])
    assert (piece.text, piece.finish) == (whole[: whole.index(stop)], 'stop')
    (piece,) = ended(submit(written_by, stops=('</answer>',))[1])
    assert piece.text == whole.removesuffix('</answer>')


def key(seed=0):
  (request,) = local.requests([np.array([3])], num_samples=1, max_tokens=1, seed=seed, step=0)
  return request.key
