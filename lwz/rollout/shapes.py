"""The few shapes that programs of the rollout are compiled for."""


def ladder(num_slots: int) -> tuple[int, ...]:
  """Batch sizes: the powers of two below the number of slots, and that.

  >>> ladder(24)
  (1, 2, 4, 8, 16, 24)
  """
  below = [2**i for i in range(num_slots.bit_length()) if 2**i < num_slots]
  return (*below, num_slots)


def sizes(longest: int, *, least: int = 64, per_octave: int = 2) -> tuple[int, ...]:
  """Lengths to round up to: from `least` on, so many in each doubling, up to the longest.

  >>> sizes(300)
  (64, 96, 128, 192, 256, 300)
  """
  found, base = [], least
  while base < longest:
    found += [base + base * i // per_octave for i in range(per_octave)]
    base *= 2
  return (*(size for size in found if size < longest), longest)
