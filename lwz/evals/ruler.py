"""The ruler: 32 requests from 100 to 30,000 words, in the form of LongWrite-Ruler.

LongWrite-Ruler (arXiv 2408.07055) asks for the same few texts at growing lengths, in English and
Chinese; its own file is read like LongBench-Write's. These requests are ours.
"""

from collections.abc import Sequence
from typing import Any

LENGTHS = (100, 300, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000)  # words
REQUESTS = (
  ('Report', 'Write a {n}-word report on how a harbour town prepares for floods.'),
  ('Fiction', '写一篇{n}字的小说，讲一位修钟表的老人和他收到的一封信。'),
  ('Fiction', 'Write a {n}-word story about a cartographer who finds an island on no map.'),
  ('Guide', '写一份{n}字的指南，介绍如何在城市的屋顶上种菜。'),
)


def records(lengths: Sequence[int] = LENGTHS, num: int = 0) -> list[dict[str, Any]]:
  """Returns the requests in LongBench-Write's schema, by length; `num` evenly spaced, 0 for all."""
  every = [
    {'index': i, 'prompt': request.format(n=length), 'type': kind, 'length': length}
    for i, (length, (kind, request)) in enumerate(
      (length, request) for length in lengths for request in REQUESTS
    )
  ]
  num = min(num or len(every), len(every))
  return [every[i * len(every) // num] for i in range(num)]
