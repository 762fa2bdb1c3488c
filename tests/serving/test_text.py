"""A growing text: however it comes, what is shown adds up to the text that is shown at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwz.rollout import stops as stops_lib
from lwz.serving import text as text_lib

PIECES = ('<think>', '</think>', '<answer>', '</answer>', '<', 'a', ' ', '\n', '<ans', 'é', '。')
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map(''.join)


@pytest.mark.parametrize(
  'text, thought, content',
  [
    ('<think>A plan.</think>\n<answer>A text.</answer>', 'A plan.', 'A text.'),
    ('  <think>A plan.</think> <answer>\n A text.', 'A plan.', '\n A text.'),
    ('<answer>A text.</answer>', '', 'A text.'),
    ('<think>A plan that is cut', 'A plan that is cut', ''),
    ('<think>A plan.</think>No tags.', 'A plan.', 'No tags.'),
    ('No tags, 1 < 2.', '', 'No tags, 1 < 2.'),
    ('Here: <answer>A text.</answer>', '', 'Here: A text.'),
    ('', '', ''),
    ('<think>a</think><answer>b <', 'a', 'b <'),
  ],
)
def test_a_reply_has_a_thought_and_a_content(text, thought, content):
  assert text_lib.parts(text, last=True) == (thought, content)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_parts_of_a_text_that_goes_on_are_the_beginning_of_its_parts(text):
  whole = text_lib.parts(text, last=True)
  before = text_lib.Parts('', '')
  for end in range(len(text) + 1):
    now = text_lib.parts(text[:end], last=False)
    assert all(b.startswith(a) for a, b in zip(before, now, strict=True))
    assert all(b.startswith(a) for a, b in zip(now, whole, strict=True))
    before = now


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.lists(st.sampled_from(('a<', '</answer>', '<think', '\n\n')), max_size=3))
def test_no_part_of_a_stop_string_is_shown(text, stops):
  whole = stops_lib.cut(text, stops, kept=())
  for end in range(len(text) + 1):
    if stops_lib.cut(text[:end], stops, kept=()) != text[:end]:
      break  # it has ended
    assert whole.startswith(text_lib.whole(text[:end], stops))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20), st.integers(1, 5))
def test_characters_come_whole_and_once(text, step):
  """Tokens that are single bytes: most characters take several."""
  ids = np.frombuffer(text.encode(), np.uint8)

  def decode(ids):
    return bytes(int(i) for i in ids).decode(errors='replace')

  growing, shown = text_lib.Growing(decode), ''
  for end in range(0, len(ids) + 1, step):
    now = growing.feed(ids[:end])
    assert now.startswith(shown) and text.startswith(now)
    shown = now
  assert growing.feed(ids, last=True) == text


def test_an_unfinished_character_is_shown_at_the_end():
  growing = text_lib.Growing(lambda ids: bytes(int(i) for i in ids).decode(errors='replace'))
  cut = np.frombuffer('né'.encode()[:-1], np.uint8)
  assert growing.feed(cut) == '' or growing.feed(cut) == 'n'
  assert growing.feed(cut, last=True) == 'n\ufffd'
