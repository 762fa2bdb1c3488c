"""The few shapes that the programs of a rollout are compiled for."""


def buckets(largest: int, *, smallest: int = 64, per_octave: int = 2) -> tuple[int, ...]:
  """Sizes to round up to: `per_octave` in each doubling of the smallest, and the largest.

  >>> buckets(300)
  (64, 96, 128, 192, 256, 300)
  >>> buckets(24, smallest=1, per_octave=1)
  (1, 2, 4, 8, 16, 24)
  """
  found, base = [], smallest
  while base < largest:
    found += [base + base * i // per_octave for i in range(per_octave)]
    base *= 2
  return (*sorted({size for size in found if size < largest}), largest)
