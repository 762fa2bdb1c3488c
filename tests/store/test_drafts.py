"""Growing texts are kept, and read again at the next start."""

import pytest

from lwz.store import drafts

SETTINGS = {'init': 'a/model', 'seed': 0}


class Clock:
  now = 0.0

  def __call__(self):
    return self.now


def test_a_draft_is_saved_every_few_seconds_and_at_its_end(tmp_path):
  clock = Clock()
  kept = drafts.Drafts(tmp_path / 'out', clock)
  kept.begin(SETTINGS)
  assert kept.load(0, 1, 'Write.') == drafts.Draft('Write.')
  kept.save(0, 1, drafts.Draft('Write.', (3,)), pytest.fail)
  assert kept.load(0, 1, 'Write.').ids == ()
  clock.now = 5.0
  assert kept.save(0, 1, drafts.Draft('Write.', (3, 4)), lambda: 'ab') == 'ab'
  assert kept.save(0, 1, drafts.Draft('Write.', (3, 4, 5)), pytest.fail) is None
  again = drafts.Drafts(tmp_path / 'out')
  again.begin(SETTINGS)
  assert again.load(0, 1, 'Write.') == drafts.Draft('Write.', (3, 4))
  kept.save(0, 1, drafts.Draft('Write.', (3, 4, 5), 'end'), lambda: 'abc')
  assert again.load(0, 1, 'Write.') == drafts.Draft('Write.', (3, 4, 5), 'end')
  assert (tmp_path / 'out/0001-2.md').read_text() == 'abc\n'
  kept.save_best(0, 'abc')
  assert (tmp_path / 'out/0001.md').read_text() == 'abc\n'


def test_texts_of_other_settings_are_not_gone_on_with(tmp_path):
  kept = drafts.Drafts(tmp_path)
  kept.begin(SETTINGS)
  with pytest.raises(ValueError, match=r'settings.json: .* seed=0, not 1: name another'):
    kept.begin(SETTINGS | {'seed': 1})
  with pytest.raises(ValueError, match=r'begun with top_p=None, not 0\.9'):
    kept.begin(SETTINGS | {'top_p': 0.9})


@pytest.mark.parametrize(
  'text, message',
  [
    ('{', 'not JSON|broken|JSON'),
    ('{"prompt": "Write.", "ids": [1, -1], "ended": ""}', 'not all token ids'),
    ('{"prompt": "Write.", "ids": [true], "ended": ""}', 'not all token ids'),
    ('{"prompt": "Write.", "ids": [1]}', 'ended'),
    ('{"prompt": "Sing.", "ids": [1], "ended": ""}', 'another prompt'),
  ],
)
def test_a_broken_draft_is_named(tmp_path, text, message):
  kept = drafts.Drafts(tmp_path)
  (tmp_path / '0001-1.json').write_text(text)
  with pytest.raises(ValueError, match=rf'0001-1.json.*({message})'):
    kept.load(0, 0, 'Write.')
