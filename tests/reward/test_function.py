"""What tells two Python functions apart, in this process and in the next; what cannot be told."""

import dataclasses
import functools
import importlib
import linecache
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from lwz import types
from lwz.reward import components, function
from lwz.reward import format as format_lib
from tests import tree

LIMIT = 3
PATTERN = re.compile('river')


def sample(text='<answer>A river.</answer>'):
  prompt = types.Prompt('p0', 'Write about rivers.', lower=2, upper=4)
  return components.Sample(prompt, text, format_lib.parse(text, 'direct'))


def digest(source, **globals):
  """The digest of `f` of a cell, as a notebook keeps the sources of its cells."""
  scope = {'__name__': '__main__', **globals}
  file, source = f'<cell {len(linecache.cache)}>', textwrap.dedent(source)
  linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
  exec(compile(source, file, 'exec'), scope)
  return function.digest(scope['f'])


PLAIN = """
  def f(samples, k=1):
    return [k + LIMIT for _ in samples]
"""


@pytest.mark.parametrize(
  'before, after',
  [
    ('k + LIMIT', 'k - LIMIT'),
    ('k=1', 'k=2'),
    ('samples, k=1', 'samples, *, k=1'),
    ('k + LIMIT for', 'len(str(k)) + LIMIT for'),
  ],
)
def test_another_source_or_default_is_another_function(before, after):
  assert digest(PLAIN, LIMIT=1) != digest(PLAIN.replace(before, after), LIMIT=1)


def test_comments_layout_and_other_names_change_nothing():
  laid_out = """
    OTHER = 3


    def f(  samples, k = 1 ):
      # why
      return [
        k + LIMIT for _ in samples]
  """
  assert digest(PLAIN, LIMIT=1) == digest(laid_out, LIMIT=1, another=object())


class Plain:
  LIMIT = 1

  def value(self):
    return self.LIMIT


class Other(Plain):
  def value(self):
    return 2


@pytest.mark.parametrize(
  'one, two',
  [
    (1, 2),
    (1, 1.0),
    (1, True),
    ('a', b'a'),
    ((1, 2), [1, 2]),
    ({'a': 1}, {'a': 2}),
    ({1, 2}, {1, 3}),
    (re.compile('a'), re.compile('a', re.IGNORECASE)),
    (np.zeros(2), np.zeros(3)),
    (np.zeros(2), np.zeros(2, np.float32)),
    (functools.partial(max, 1), functools.partial(max, 2)),
    (Plain, Other),
    (Plain(), Other()),
    (np.mean, np.median),
    (None, ()),
  ],
  ids=map(str, range(15)),  # the same in every process
)
def test_what_is_read_from_outside_counts_by_its_value(one, two):
  assert digest(PLAIN, LIMIT=one) == digest(PLAIN, LIMIT=one)
  assert digest(PLAIN, LIMIT=one) != digest(PLAIN, LIMIT=two)
  closed = """
    def outer(x):
      def f(samples):
        return x
      return f
    f = outer(LIMIT)
  """
  assert digest(closed, LIMIT=one) != digest(closed, LIMIT=two)


def test_equal_values_are_equal_whether_or_not_they_are_one_object():
  one = [1, 2]
  assert digest(PLAIN, LIMIT=(one, one)) == digest(PLAIN, LIMIT=([1, 2], [1, 2]))


def test_a_function_that_is_called_counts_by_its_own_source():
  calls = """
    def g(x):
      return x + 1
    def f(samples):
      return [f, *map(g, samples)]  # and itself
  """
  assert digest(calls) == digest(calls)
  assert digest(calls) != digest(calls.replace('x + 1', 'x + 2'))
  wrapped = 'import functools\n' + textwrap.dedent(calls).replace(
    'def g', '@functools.cache\ndef g'
  )
  assert digest(wrapped) != digest(wrapped.replace('x + 1', 'x + 2'))


def test_a_name_of_pythons_own_may_be_the_users():
  calls = 'def format(x):\n  return 1\ndef f(samples):\n  return [*map(format, samples)]\n'
  assert digest(calls) != digest(calls.replace('return 1', 'return 2'))
  assert digest(PLAIN.replace('LIMIT', 'max'), max=1) != digest(
    PLAIN.replace('LIMIT', 'max'), max=2
  )


def test_an_object_that_is_called_counts_by_its_class_and_its_fields():
  @dataclasses.dataclass
  class Scaled:
    factor: float = 1.0

    def __call__(self, samples):
      return [self.factor for _ in samples]

  assert function.digest(Scaled()) == function.digest(Scaled(1.0))
  assert function.digest(Scaled()) != function.digest(Scaled(2.0))
  assert function.digest(Scaled().__call__) != function.digest(Scaled(2.0).__call__)


def test_a_module_of_the_users_own_counts_by_its_text(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  path = tmp_path / 'my_words.py'
  source = 'import my_words\ndef f(samples):\n  return my_words.count(samples)\n'
  found = []
  for text in ('def count(x):\n  return 1\n', 'def count(x):\n  return 20\n'):
    path.write_text(text)
    sys.modules.pop('my_words', None)
    importlib.invalidate_caches()
    found.append(digest(source))
  assert found[0] != found[1]
  path.write_text('def count(x):\n  return 300\n')  # not what runs
  with pytest.raises(ValueError, match='my_words has changed since it was imported'):
    digest('def f(samples):\n  return my_words.count(samples)\n', my_words=sys.modules['my_words'])
  del sys.modules['my_words']


def test_the_next_process_finds_the_same():
  command = 'from tests.reward import test_function as t; print(t.function.digest(t.of_this_file))'
  said = subprocess.run(
    [sys.executable, '-c', command], cwd=tree.ROOT, capture_output=True, text=True, check=True
  )
  assert said.stdout.strip() == function.digest(of_this_file)


def of_this_file(samples, names=frozenset({'a', 'b', 'c'})):
  return [bool(PATTERN.search(s.text)) + LIMIT for s in samples]


class Own(dict):
  pass


@pytest.mark.parametrize(
  'fn, why',
  [
    (len, r'the source of len\(\) is not read'),
    (np.mean, r'the source of mean\(\) is not read'),
    (eval('lambda samples: samples'), r'the source of <lambda>\(\) cannot be read'),
    ([lambda samples: 1, lambda samples: 2][0], '2 functions like .* begin in its line'),
    (functools.partial(of_this_file, names=object()), 'cannot be told from another'),
    (functools.partial(of_this_file, names=Own({'a': 1})), 'cannot be told from another'),
  ],
  ids=['builtin', 'library', 'no source', 'two in a line', 'object', 'a dict of the user'],
)
def test_what_cannot_be_read_needs_a_version(fn, why):
  with pytest.raises(ValueError, match=rf"^rewards\['mine'\]: .*{why}.*; give a version, and"):
    function.reward('mine', fn)
  (_, one), (_, two) = (function.reward('mine', (fn, version)) for version in '12')
  assert one != two


def test_what_runs_is_what_is_written():
  source = 'def f(samples):\n  return 1\n'
  file = '<edited>'
  scope = {'__name__': '__main__'}
  exec(compile(source, file, 'exec'), scope)
  edited = source.replace('1', '2')
  linecache.cache[file] = len(edited), None, edited.splitlines(keepends=True), file
  with pytest.raises(ValueError, match=r'the source of f\(\) has changed since it was imported'):
    function.digest(scope['f'])


def test_a_reward_is_called_with_samples_and_says_what_it_reads():
  reward, _ = function.reward('mine', lambda samples: [len(s.parsed.answer) for s in samples])
  assert reward.reads == 'answer' and reward.values([sample()] * 3, 1).tolist() == [8.0] * 3
  reward, _ = function.reward('mine', components.per_group(lambda samples: [None] * len(samples)))
  assert reward.reads == 'group' and np.isnan(reward.values([sample()] * 4, 2)).all()


def test_one_number_for_each_sample():
  reward, _ = function.reward('mine', lambda samples: 1.0)
  with pytest.raises(ValueError, match=r"rewards\['mine'\] returned values of shape \(\) for 2 "):
    reward.values([sample()] * 2, 1)


def test_threads_and_groups_are_those_of_the_given_reward():
  reward, _ = function.reward('mine', components.per_answer(lambda s: [1.0] * len(s), threads=8))
  assert reward.threads == 8
  reward, _ = function.reward('mine', components.per_groups(lambda groups: np.ones((2, 3))))
  assert reward.many and reward.values([sample()] * 6, 3).tolist() == [1.0] * 6
  with pytest.raises(ValueError, match=r'values of shape \(2, 3\) for 3 groups'):
    reward.values([sample(str(i)) for i in range(6)], 2)
