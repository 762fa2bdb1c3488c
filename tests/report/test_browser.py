"""The browser of rollouts: its data files, and the page in a real browser."""

import base64
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from lwz.report import browser

DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
PLANTED = '</script><script>document.title="bad"</script>\u2028<img src=x onerror=bad()> & \ud83d'
READABLE = PLANTED.replace('\ud83d', '\N{REPLACEMENT CHARACTER}')


def decoded(code):
  pairs = zip(code[::2], code[1::2], strict=True)
  return [DIGITS.index(a) * 64 + DIGITS.index(b) for a, b in pairs]


def told(script, name):
  """The arguments of the one call of a data file."""
  assert script.startswith(f'lwz.{name}(') and script.endswith(');\n')
  return json.loads(f'[{script[len(name) + 5 : -3]}]')


def test_codes_hold_whole_numbers_up_to_their_largest():
  numbers = [0, 1, 63, 64, 4095]
  assert decoded(browser.encode(numbers)) == numbers
  assert decoded(browser.encode([-3, 5000])) == [0, 4095] and browser.encode([]) == ''


@pytest.mark.parametrize(
  ('table', 'ids', 'wanted'),
  [
    ([b'a', b' plan', b'\n\n'], [0, 1, 2, 1], [1, 5, 2, 5]),
    ([b'a', '海'.encode()[:2], '海'.encode()[2:], '😀'.encode()], [0, 1, 2, 3, 0], [1, 0, 1, 2, 1]),
    ([b'a', '海'.encode()[:2], b'b'], [1, 2, 1], [1, 1, 1]),  # broken for ever
    ([b'a', b''], [1, 0, 1], [0, 1, 0]),  # a token without a text
  ],
  ids=('words', 'characters of several tokens', 'no characters', 'hidden'),
)
def test_sizes_are_those_of_the_tokens_and_add_up_to_the_text(table, ids, wanted):
  def decode(some):
    return b''.join(table[i] for i in some).decode(errors='replace')

  text = decode(ids)
  found = browser.sizes(ids, text, lambda token: decode([0, token])[1:], decode)
  assert found == wanted and sum(found) == len(text.encode('utf-16-le')) // 2


def test_a_decoder_that_drops_the_first_blank_is_followed():
  table = ['▁river', '▁runs', 's']

  def decode(some):
    return ''.join(table[i] for i in some).replace('▁', ' ').removeprefix(' ')

  ids = [0, 2, 1, 0]
  found = browser.sizes(ids, decode(ids), lambda token: decode([0, token])[5:], decode)
  assert sum(found) == len('rivers runs river') and found[2:] == [5, 6]


def test_texts_of_a_run_cannot_end_the_script_or_its_line():
  files, _ = browser.pieces('batch-000000', [{'prompt': PLANTED, 'texts': [PLANTED]}])
  script = files['batch-000000-0']
  assert not re.search('[<>&\u2028\u2029]', script) and script.count('\n') == 1
  assert told(script, 'piece') == ['batch-000000-0', [{'prompt': READABLE, 'texts': [READABLE]}]]
  line = browser.line({'step': 3, 'prompts': [[PLANTED, 1, 2]]})
  assert told(line, 'batch') == [{'step': 3, 'prompts': [[READABLE, 1, 2]]}]
  other = browser.line({'step': 12, 'alarms': []})
  assert browser.lines(f'{line}lwz.batch(damaged);\n{other}lwz.batch({{"step":9,') == [
    (3, line),
    (12, other),
  ]


def test_long_batches_are_cut_between_groups():
  long = {'prompt': 'x' * 1_500_000}
  files, places = browser.pieces('b', [long, long, long, {'prompt': 'y'}])
  assert places == [0, 0, 1, 1] and [*files] == ['b-0', 'b-1']
  held = [group for script in files.values() for group in told(script, 'piece')[1]]
  assert held == [long, long, long, {'prompt': 'y'}]


SCRIPT = """
<script>
const settled = () => new Promise((next) => setTimeout(next, 400));
const listed = () => [...document.querySelectorAll('a.row')].map((row) => row.hash);
async function choose(id, value) {
  $(id).value = value;
  await refresh();
  await settled();
  return listed();
}
async function drive() {
  while (document.body.dataset.opened === undefined) await settled();
  const out = { facts: $('facts').textContent, all: listed() };
  out.alarm = await choose('alarm', 'rule loop');
  out.cap = await choose('alarm', 'rule cap_hit');
  await choose('alarm', '');
  out.broken = await choose('structure', 'broken');
  await choose('structure', '');
  out.low = await choose('low', '0.5');
  await choose('low', '');
  out.order = await choose('order', 'high');
  out.query = await choose('query', 'PLANTED<' + '/script>');
  await choose('query', '');
  document.onkeydown({ key: 'j', target: document.body, preventDefault() {} });
  out.stays = location.hash;
  document.querySelector('a.row').click();
  while (!document.querySelector('.card')) await settled();
  const texts = () => [...document.querySelectorAll('.answer')];
  texts().forEach((text) => text.fill());  // without a window none comes into sight
  out.hash = location.hash;
  out.prompt = $('prompt').textContent;
  out.cards = [...document.querySelectorAll('.card')].map((card) => [
    card.querySelector('.step').textContent, card.querySelector('.advantage').textContent]);
  const first = document.querySelector('.card .answer');
  out.tokens = [...first.querySelectorAll('span')].map((one) => [one.className, one.textContent]);
  out.told = first.tell(first.querySelector('.p5'));
  document.onkeydown({ key: 'c', target: document.body, preventDefault() {} });
  await settled();
  texts().forEach((text) => text.fill());
  out.levels = texts().map((text) => text.querySelector('span').className);
  document.onkeydown({ key: 'Escape', target: document.body });
  await settled();
  out.back = [$('overview').hidden, $('group').hidden];
  out.wide = document.documentElement.scrollWidth;
  document.title = btoa(unescape(encodeURIComponent(JSON.stringify(out))));
}
drive();
</script>
"""


def leave(folder):
  """Two batches: one group of two samples each; the first text of the second is planted."""
  (folder / 'browser').mkdir()
  (folder / 'rollouts.html').write_text(browser.html('a <b>run</b>'), encoding='utf-8')
  facts = {
    **{'steps': 2, 'rounds': 1, 'weights': {'length': 1.0, 'writing': 3.0}},
    'alarms': {'loop': ['a loop', True], 'cap_hit': ['cut', False]},
    'index': ['index-0000'],
  }
  lines = []
  for step, texts in enumerate((['One <b>two</b>.', 'Three'], [f'PLANTED{PLANTED}', 'Ø four'])):
    name = f'batch-{step:06d}'
    sizes = [browser.encode([1, len(text) - 1, 0]) for text in texts]
    logp = [browser.encode([10, 700, 0])] * 2
    group = {'prompt': f'Write {step} {PLANTED}', 'texts': texts, 'sizes': sizes, 'logp': logp}
    files, places = browser.pieces(name, [group])
    for stem, script in files.items():
      (folder / 'browser' / f'{stem}.js').write_text(script, encoding='utf-8')
    lines.append(
      browser.line(
        {
          **{'step': step, 'alarms': ['cap_hit'] * step, 'flags': [['loop'] * step, []]},
          **{'number': step, 'pieces': places, 'prompts': [[f'Write {step}', 1, 9]]},
          **{'rewards': [[0.1, 0.2], [0.9, 0.8]] if step else [[0.4, 0.4], None]},
          **{'advantage': [-0.7, 0.7] if step else [0.0, None], 'words': [3, 1]},
          **{'tokens': [3, 3], 'finished': [1, 1], 'faults': ['', 'nested' if step else '']},
        }
      )
    )
  (folder / 'browser' / 'index-0000.js').write_text(''.join(lines), encoding='utf-8')
  (folder / 'browser' / 'run.js').write_text(browser.run(facts), encoding='utf-8')


@pytest.mark.skipif(not shutil.which('chromium'), reason='needs chromium')
@pytest.mark.parametrize('width', [1280, 500])
def test_a_run_is_filtered_searched_and_read_from_a_disk(tmp_path, width):
  leave(tmp_path)
  html = (tmp_path / 'rollouts.html').read_text(encoding='utf-8')
  assert 'a &lt;b&gt;run&lt;/b&gt;' in html and 'http' not in html.replace('http-equiv', '')
  (tmp_path / 'rollouts.html').write_text(html.replace('</body>', SCRIPT + '</body>'))
  command = ['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--dump-dom']
  command += [f'--user-data-dir={tmp_path / "profile"}', f'--window-size={width},900']
  command += ['--virtual-time-budget=30000', f'file://{tmp_path / "rollouts.html"}']
  dom = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
  out = json.loads(base64.b64decode(re.search('<title>(.*?)</title>', dom)[1]))
  assert out['facts'] == 'Rollouts: 4 samples of 2 of 2 steps'
  assert out['all'] == ['#0.0.0', '#0.0.1', '#1.0.0', '#1.0.1']
  assert out['alarm'] == ['#1.0.0'] and out['cap'] == ['#1.0.0', '#1.0.1']
  assert out['broken'] == out['low'] == ['#1.0.1']  # a mean of (0.9 + 3 x 0.8) / 4
  assert out['order'] == ['#1.0.1', '#0.0.0', '#1.0.0', '#0.0.1']  # one that no judge judged: last
  assert out['query'] == ['#1.0.0']
  assert out['stays'] == '' and out['hash'] == '#1.0.1' and out['prompt'] == f'Write 1 {READABLE}'
  assert out['cards'] == [['sample 2', '+0.700'], ['sample 1', '−0.700']]
  assert out['tokens'] == [['', 'Ø'], ['p5', ' four'], ['end', '∎']]
  assert out['told'].startswith('token 2 of 3 · " four" · p 0.000912 · log p −7.00')
  assert out['levels'] == ['a5', 'b5'] and out['back'] == [False, True]
  assert out['wide'] <= width and not np.isnan(out['wide'])
