"""Tokens on disk: whole, in order, at once, and made again where their source is another."""

import numpy as np
import pytest

from lwz.data import pipeline, tokens

DOCUMENTS = [[1, 2, 3], [], [4] * 9, [5, 6]]


def write(folder, lists=DOCUMENTS, key=None, num_ids=100, chunk=1):
  chunks = [('train', chunk, lists[i : i + chunk]) for i in range(0, len(lists), chunk)]
  tokens.write(folder, chunks, row_length=4, num_ids=num_ids, key=key or {})


@pytest.mark.parametrize('chunk', [1, 3, 4])
@pytest.mark.parametrize('num_ids, largest', [(1 << 16, 65_535), (1 << 17, 131_071)])
def test_pieces_are_the_documents_in_order(tmp_path, chunk, num_ids, largest):
  write(tmp_path / 'tokens', [*DOCUMENTS, [largest]], num_ids=num_ids, chunk=chunk)
  found = tokens.load(tmp_path / 'tokens')['train']
  assert [piece.tolist() for piece in found] == [
    [1, 2, 3],
    *([4] * 4, [4] * 4, [4]),
    [5, 6],
    [largest],
  ]
  assert found.num_tokens == 15 and {piece.dtype for piece in found} == {np.dtype(np.int32)}
  with pytest.raises(IndexError):
    found[len(found)]


def test_a_part_without_tokens_is_empty(tmp_path):
  write(tmp_path / 'tokens', [[]])
  assert len(tokens.load(tmp_path / 'tokens')['train']) == 0


def test_what_was_made_from_something_else_or_is_cut_short_is_not_current(tmp_path):
  folder, key = tmp_path / 'tokens', {'corpus': 'a', 'lower': 3}
  assert not tokens.is_current(folder, key)
  write(folder, key=key)
  assert tokens.is_current(folder, key) and not tokens.is_current(folder, key | {'lower': 4})
  for name, size in (('train.ids', -2), ('train.ends', 0)):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:size])
    assert not tokens.is_current(folder, key)
    with pytest.raises(ValueError, match='cut short'):
      tokens.load(folder)
    write(folder, key=key)
    assert (folder / name).read_bytes() == data and tokens.is_current(folder, key)


def test_an_interrupted_write_leaves_no_folder(tmp_path):
  def stops():
    yield 'train', 1, [[1, 2]]
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    tokens.write(tmp_path / 'tokens', stops(), row_length=4, num_ids=9, key={})
  assert not tokens.is_current(tmp_path / 'tokens', {})
  write(tmp_path / 'tokens')
  assert len(tokens.load(tmp_path / 'tokens')['train']) == 5


class Counted:
  """Tokens that count what is read of them."""

  def __init__(self, num):
    self.num, self.read = num, 0
    self.num_tokens = 3 * num

  def __len__(self):
    return self.num

  def __getitem__(self, index):
    self.read += 1
    return np.full(3, index % 1_000, np.int32)

  def element(self, index):
    return {'ids': self[index]}


def test_a_stream_over_a_billion_documents_opens_and_resumes_at_once():
  shape = {'share': 0.0, 'row_length': 4, 'num_rows': 2, 'seed': 0, 'pad_id': 0}
  source = Counted(10**9)
  batches = iter(pipeline.pretrain(source, Counted(1), **shape))
  first = next(batches)
  assert source.read < 200
  state = batches.get_state()

  def moved(value):  # the same stream, two epochs later
    if isinstance(value, dict):
      return {k: v + 2 * 10**9 if k == 'next_index' else moved(v) for k, v in value.items()}
    return value

  assert moved(state) != state
  source.read = 0
  batches.set_state(moved(state))
  assert not np.array_equal(next(batches)['ids'], first['ids'])
  assert source.read < 200
