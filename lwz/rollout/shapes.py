"""The few shapes that programs of the rollout are compiled for."""


def ladder(num_slots: int, *, per_octave: int = 1) -> tuple[int, ...]:
  """Batch sizes: so many from each power of two to the next, and the number of slots.

  >>> ladder(24)
  (1, 2, 4, 8, 16, 24)
  >>> ladder(24, per_octave=2)
  (1, 2, 3, 4, 6, 8, 12, 16, 24)
  """
  return sizes(num_slots, least=1, per_octave=per_octave)


def sizes(longest: int, *, least: int = 64, per_octave: int = 2) -> tuple[int, ...]:
  """Lengths to round up to: from `least` on, so many in each doubling, up to the longest.

  >>> sizes(300)
  (64, 96, 128, 192, 256, 300)
  """
  found, base = [], least
  while base < longest:
    found += [base + base * i // per_octave for i in range(per_octave)]
    base *= 2
  return (*sorted({size for size in found if size < longest}), longest)
