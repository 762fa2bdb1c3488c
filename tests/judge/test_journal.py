"""What a killed run has kept."""

import resource
import subprocess
import sys

import pytest

from lwz.judge import journal
from tests import tree


def test_what_was_added_is_there_again(tmp_path):
  path = tmp_path / 'deep' / 'j.jsonl'
  with journal.ReplyJournal(path) as kept:
    kept.add('a', text='half a \ud83d character\n')
  with journal.ReplyJournal(path) as kept:
    assert 'a' in kept and 'b' not in kept and len(kept) == 1
    assert kept['a']['text'] == 'half a \ud83d character\n'


@pytest.mark.parametrize('torn', [b'{"key": "b", "te', b'\xff\xfe\n', b'[1]\n', b'{"text": 1}\n'])
def test_a_torn_line_is_dropped_and_the_next_is_whole(tmp_path, torn):
  path = tmp_path / 'j.jsonl'
  with journal.ReplyJournal(path) as kept:
    kept.add('a', text='x')
  path.write_bytes(path.read_bytes() + torn)
  with journal.ReplyJournal(path) as kept:
    kept.add('b', text='y')
  with journal.ReplyJournal(path) as kept:
    assert [kept[k]['text'] for k in 'ab'] == ['x', 'y']


def test_records_are_on_disk_at_once(tmp_path):
  kept = journal.ReplyJournal(tmp_path / 'j.jsonl')
  kept.add('a', text='x')
  assert b'"key": "a"' in (tmp_path / 'j.jsonl').read_bytes()
  kept.close()


def test_records_of_all_files_are_read_where_they_stand(tmp_path):
  """A file of another process keeps its broken lines, its own loses them."""
  for name, texts in (('a', 'xy'), ('b', 'zé')):
    with journal.ReplyJournal(tmp_path / name) as kept:
      for text in texts:
        kept.add(text, text=text * 3)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data.replace(b'\n', b'\n{"key": \n', 1))
  with journal.ReplyJournal(tmp_path / 'a', others=[tmp_path / 'b']) as kept:
    kept.add('w', text='www')
    kept.add('x', text='again')
    said = {record['key']: record['text'] for record in kept.values()}
    assert said == {'x': 'again', 'y': 'yyy', 'z': 'zzz', 'é': 'ééé', 'w': 'www'}
  assert b'"key": \n' in (tmp_path / 'b').read_bytes() and len(kept) == 5
  assert b'"key": \n' not in (tmp_path / 'a').read_bytes()


def test_a_file_that_cannot_be_mended_keeps_what_was_paid_for(tmp_path):
  """No byte can be written: as if the process died there, or the disk were full."""
  path = tmp_path / 'j.jsonl'
  with journal.ReplyJournal(path) as kept:
    kept.add('a', text='x')
  good = path.read_bytes()
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  for broken, mended in ((good + b'{"key"', True), (b'{"key"\n' + good, False)):
    path.write_bytes(broken)
    try:
      resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
      if mended:
        journal.ReplyJournal(path).close()
      else:
        with pytest.raises(OSError, match='too large'):
          journal.ReplyJournal(path)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == (good if mended else broken)


def test_a_key_is_a_function_of_its_parts():
  assert journal.key('a', {'x': 1, 'y': '好'}) == journal.key('a', {'y': '好', 'x': 1})
  assert len({journal.key('a', 'b'), journal.key('ab'), journal.key(['a', 'b'])}) == 3


def test_a_journal_is_opened_in_the_memory_of_its_longest_line(tmp_path):
  path = tmp_path / 'j.jsonl'
  with journal.ReplyJournal(path) as kept:
    for i in range(300):
      kept.add(f'{i}', text=f'{i} ' * 10_000)
  opened = (
    'import sys, tracemalloc\n'
    'from lwz.judge import journal\n'
    'tracemalloc.start()\n'
    'with journal.ReplyJournal(sys.argv[1], others=[sys.argv[1]]) as kept:\n'
    "  assert kept['299']['text'].startswith('299 299')\n"
    'print(tracemalloc.get_traced_memory()[1])\n'
  )
  # In a process of its own: threads that other tests left allocate as well.
  peak = int(subprocess.check_output([sys.executable, '-c', opened, path], cwd=tree.ROOT))
  assert peak < path.stat().st_size / 20
