"""Benchmark prompts within requests."""

import numpy as np

from lwz.data.funnel import decontamination, near_duplicates

PROMPTS = [
  'Write a long essay on the rivers of China.',
  '对于雷锋精神的推文，200字以内',
  '',
  'Write a',
]


def shares(*texts):
  runs, offsets = near_duplicates.shingles([near_duplicates.words(t) for t in texts])
  return decontamination.Benchmarks(PROMPTS).overlap(runs, offsets)


def test_overlap_is_the_share_of_the_prompt():
  share, whose = shares(
    'write a long essay on the RIVERS of china',
    'Please do this: Write a long essay on the rivers of China. Thank you very much!',
    'write a long essay on the rivers of Africa',
    '请写：对于雷锋精神的推文，200字以内',
    'nothing of it',
    '',
  )
  # 9 runs of the first; its last two are cut short by the end, and differ where the text goes on.
  np.testing.assert_allclose(share, [1, 7 / 9, 6 / 9, 1, 0, 0])
  assert list(whose[:4]) == [0, 0, 0, 1]


def test_repeats_within_a_request_count_once():
  once, twice = shares('long essay on x', 'long essay on x long essay on x')[0]
  assert once == twice == 1 / 9


def test_no_benchmarks_no_overlap():
  runs, offsets = near_duplicates.shingles([['a', 'b']])
  share, _ = decontamination.Benchmarks([]).overlap(runs, offsets)
  assert list(share) == [0]
