"""Packed batches: whole documents, the share of the formatted ones, exact resumption."""

import collections
import itertools
import json
import pathlib
import tempfile

import numpy as np
import pytest

from lwz.data import pipeline, tokens

END, PAD, T, N = 0, 0, 16, 4  # pad and end are the same id, as they are for Qwen2.5


def token_lists(num, first, seed=0, longest=14):
  """Documents of 1 to `longest` tokens that no other document has, and an end."""
  rng = np.random.default_rng(seed)
  ids = itertools.count(first)
  return [[next(ids) for _ in range(rng.integers(1, longest + 1))] + [END] for _ in range(num)]


def documents_of(batch):
  """The documents of a batch, read by segments alone."""
  for ids, segments, positions in zip(*(batch[k] for k in KEYS), strict=True):
    for segment in range(1, segments.max() + 1):
      places = np.flatnonzero(segments == segment)
      assert (np.diff(places) == 1).all()  # contiguous
      np.testing.assert_array_equal(positions[places], np.arange(len(places)))  # from 0
      yield tuple(ids[places].tolist())
    assert (ids[segments == 0] == PAD).all()


KEYS = ('ids', 'segments', 'positions')
SHAPE = {'row_length': T, 'num_rows': N, 'pad_id': PAD}
PLAIN, FORMATTED = token_lists(600, 100), token_lists(300, 10_000, seed=1, longest=9)


def on_disk(lists, name='part'):
  """The documents as `tokens.load` returns them; what is mapped outlives its folder."""
  with tempfile.TemporaryDirectory() as folder:
    target = pathlib.Path(folder) / 'tokens'
    tokens.write(target, [(name, len(lists), lists)], row_length=T, num_ids=20_000, key={})
    return tokens.load(target)[name]


def stream(plain=PLAIN, formatted=FORMATTED, **changes):
  kwargs = {'share': 0.25, 'seed': 0, **SHAPE} | changes
  return pipeline.pretrain(on_disk(plain), on_disk(formatted), **kwargs)


def heldout(lists, num_batches=10_000):
  return pipeline.heldout(on_disk(lists), num_batches=num_batches, **SHAPE)


def take(iterator, num):
  return list(itertools.islice(iterator, num))


def equal(batches, others):
  return len(batches) == len(others) and all(
    np.array_equal(a[key], b[key]) for a, b in zip(batches, others, strict=True) for key in KEYS
  )


def test_a_row_holds_whole_documents():
  known = set(map(tuple, PLAIN + FORMATTED))
  for batch in take(iter(stream()), 50):
    assert {key: (batch[key].shape, batch[key].dtype) for key in batch} == {
      key: ((N, T), np.int32) for key in KEYS
    }
    assert set(documents_of(batch)) <= known


def test_most_of_a_row_is_text():
  filled = np.mean([batch['segments'] > 0 for batch in take(iter(stream()), 50)])
  assert filled > 0.85


def test_every_document_comes_once_an_epoch_in_a_new_order():
  found = [d for batch in take(iter(stream(share=0.0)), 200) for d in documents_of(batch)]
  counts = collections.Counter(found)
  assert set(counts) == set(map(tuple, PLAIN))
  assert max(counts.values()) - min(counts.values()) <= 2  # open rows span the end of an epoch
  assert found[:600] != found[600:1200]
  place = {tuple(document): i for i, document in enumerate(PLAIN)}
  assert abs(np.corrcoef([place[d] for d in found[:300]], range(300))[0, 1]) < 0.3


@pytest.mark.parametrize('share', [0.0, 0.01, 0.25, 0.9, 1.0])
def test_the_share_is_of_tokens(share):
  ids = np.concatenate([b['ids'][b['segments'] > 0] for b in take(iter(stream(share=share)), 300)])
  ids = ids[ids != END]
  # The ends belong to both parts: their share is that of the documents, so it is weighed out.
  lengths = {True: np.mean([len(d) for d in FORMATTED]), False: np.mean([len(d) for d in PLAIN])}
  formatted = np.sum(ids >= 10_000) * lengths[True] / (lengths[True] - 1)
  plain = np.sum(ids < 10_000) * lengths[False] / (lengths[False] - 1)
  assert formatted / (formatted + plain) == pytest.approx(share, abs=0.01)


def test_a_document_longer_than_a_row_is_cut_into_rows():
  long = list(range(1, 41))
  batches = stream([long], [], share=0.0, num_rows=3)
  found = {d for batch in take(iter(batches), 10) for d in documents_of(batch)}
  assert found == {tuple(long[:16]), tuple(long[16:32]), tuple(long[32:])}


def test_the_seed_decides_the_order():
  first = take(iter(stream()), 10)
  assert equal(first, take(iter(stream()), 10))
  assert not equal(first, take(iter(stream(seed=1)), 10))


@pytest.mark.parametrize('num_before', [0, 1, 7, 8, 9, 33])
def test_a_stream_that_is_resumed_is_the_stream_that_was_not_interrupted(num_before):
  iterator = iter(stream())
  take(iterator, num_before)
  state = json.loads(json.dumps(iterator.get_state()))
  rest = take(iterator, 40)
  resumed = iter(stream())
  take(resumed, 5)  # wherever it was
  resumed.set_state(state)
  assert equal(take(resumed, 40), rest)


def test_held_out_documents_come_once_and_the_last_batch_is_filled_up():
  held = [*PLAIN, list(range(1, 41)), []]
  batches = heldout(held)
  assert all(batch[key].shape == (N, T) for batch in batches for key in KEYS)
  assert next(documents_of(batches[0])) == tuple(PLAIN[0])
  found = collections.Counter(d for batch in batches for d in documents_of(batch))
  pieces = [*map(tuple, PLAIN), *(tuple(range(a, min(a + 16, 41))) for a in (1, 17, 33))]
  assert found == collections.Counter(pieces)
  assert sum((b['segments'] > 0).sum() for b in batches) == sum(map(len, held))
  assert equal(batches, heldout(held))


def test_only_the_batches_that_are_used_are_packed():
  whole = heldout(PLAIN)
  assert len(whole) > 3 and equal(heldout(PLAIN, 3), whole[:3])


def test_no_tokens_are_an_error():
  with pytest.raises(ValueError, match='no tokens in the formatted documents, whose share is'):
    stream(PLAIN, [], share=0.5)
  with pytest.raises(ValueError, match='no tokens in the held-out'):
    heldout([[]])
  with pytest.raises(ValueError, match='share'):
    stream(share=1.5)


def test_tokens_of_answers_are_told_wherever_a_piece_lies():
  heads = [[1] * (i % 5 + 1) for i in range(60)]
  answers = [[2] * (i % 7 + 1) for i in range(60)]
  pieces = tokens.of_answers(heads, answers)
  for batch in (
    *take(iter(pipeline.pretrain(pieces, pieces, share=0.0, seed=0, **SHAPE)), 5),
    *pipeline.heldout(pieces, num_batches=2, **SHAPE),
  ):
    np.testing.assert_array_equal(batch['answer'], batch['ids'] == 2)
    assert (batch['segments'][batch['answer'] > 0] > 0).all()
