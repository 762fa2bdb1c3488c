"""The page in a real browser: by keyboard alone, at the width of a desk and of a phone."""

import shutil
import time

import numpy as np
import pytest

pytest.importorskip('playwright.sync_api')
from playwright import sync_api

from tests.serving import served, test_http

BROWSER = shutil.which('chromium') or shutil.which('google-chrome')


def write(prompt, key):
  told = ' '.join(np.random.default_rng([*prompt, *key]).choice(served.WORDS, 60))
  text = f'<think>A plan.</think>\n<answer># The <b>sea</b>\n\n{told}</answer>'
  return [*served.tok().encode(text), served.tok().eos_token_id]


class Slow:
  """Lets every block through after a moment."""

  seconds = 0.05

  def wait(self):
    time.sleep(self.seconds)

  def set(self):
    self.seconds = 0


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason='no Chromium here')
@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (390, 'dark')])
def test_a_text_is_written_stopped_and_saved_by_keyboard(width, scheme):
  settings = {'write': write, 'gate': Slow(), 'longest': 256}
  with test_http.listening(**settings) as (url, server, _), sync_api.sync_playwright() as found:
    browser = found.chromium.launch(executable_path=BROWSER, args=['--no-sandbox'])
    page = browser.new_page(viewport={'width': width, 'height': 900}, color_scheme=scheme)
    faults = []
    page.on('pageerror', lambda error: faults.append(str(error)))
    page.on('console', lambda said: faults.append(said.text) if said.type == 'error' else None)
    page.goto(url)
    test_http.until(lambda: page.title() == served.MODEL)

    def says(text):
      test_http.until(lambda: page.text_content('#status').startswith(text))

    for key in ('the <i>sea</i>', 'Tab', '20', 'Tab', '90', 'Control+Enter'):
      (page.keyboard.press if key in ('Tab', 'Control+Enter') else page.keyboard.type)(key)
    says('Writing')
    test_http.until(lambda: len(page.text_content('#text')) > 40)
    assert not page.is_visible('#thought')  # folded
    says('Done')
    text = page.text_content('#text')
    assert text.startswith('# The <b>sea</b>\n\n') and page.text_content('#thought') == 'A plan.'
    assert page.text_content('#range') == 'asked 20 to 90: within'
    assert page.evaluate('document.documentElement.scrollWidth') == width
    with page.expect_download() as download:
      page.focus('#save')
      page.keyboard.press('Enter')
    assert download.value.suggested_filename == 'the-i-sea-i.md'
    assert download.value.path().read_text('utf-8') == f'{text}\n'
    page.focus('#request')
    page.keyboard.press('Control+Enter')
    says('Writing')
    page.keyboard.press('Escape')
    says('Stopped')
    test_http.until(lambda: not server._writer.num_active)
    assert not faults
    browser.close()
