"""The page for blind judging: what it tells, what it hides, and what it exports."""

import base64
import collections
import json
import re
import shutil
import subprocess

import pytest

from lwz.report import people

PAIRS = [
  (idx, f'Request {idx} </script> <b>&amp;', {one: f'{one} wrote', other: f'{other} wrote'})
  for idx in range(10)
  for one, other in (('sys-a', 'sys-b'), ('sys-a', 'base-c'))
]
UNIQUE = [
  (idx, question, {name: f'text {place}-{side}' for side, name in enumerate(texts)})
  for place, (idx, question, texts) in enumerate(PAIRS)
]


def write(folder, num=0, seed=0, pairs=PAIRS):
  folder.mkdir(exist_ok=True)
  page, key = folder / 'people.html', folder / 'key.json'
  people.write(page, key, pairs, num=num, seed=seed, title='study <1>')
  html = page.read_text(encoding='utf-8')
  data = re.search(r'<script type="application/json" id="items">(.*?)</script>', html, re.S)[1]
  return html, json.loads(data), json.loads(key.read_text())


def test_the_page_holds_the_texts_and_no_name(tmp_path):
  html, items, key = write(tmp_path, pairs=UNIQUE)
  assert len(items) == len(PAIRS) and items[0]['question'].endswith('</script> <b>&amp;')
  assert not re.search('sys-a|sys-b|base-c', html)
  assert {name for item in key['items'].values() for name in (item['first'], item['second'])} == {
    *('sys-a', 'sys-b', 'base-c')
  }
  assert 'http' not in html.replace('http-equiv', '') and 'study &lt;1&gt;' in html


def test_the_key_says_who_wrote_what(tmp_path):
  _, items, key = write(tmp_path)
  for item in items:
    told = key['items'][str(item['id'])]
    assert item['texts'] == [f'{told[side]} wrote' for side in ('first', 'second')]


def test_orders_are_balanced_and_pairs_take_turns(tmp_path):
  _, items, key = write(tmp_path, num=12)
  orders = collections.Counter(
    (key['items'][str(i['id'])]['first'], key['items'][str(i['id'])]['second']) for i in items
  )
  assert orders == {
    ('sys-a', 'sys-b'): 3,
    ('sys-b', 'sys-a'): 3,
    ('sys-a', 'base-c'): 3,
    ('base-c', 'sys-a'): 3,
  }


def test_the_same_seed_makes_the_same_page(tmp_path):
  one, two, other = (write(tmp_path / str(i), num=6, seed=s) for i, s in enumerate((0, 0, 1)))
  assert one == two and one[2]['page'] != other[2]['page']


def test_odd_texts_and_no_pairs(tmp_path):
  odd = 'half \ud83d, nul \x00, line \u2028, </SCRIPT><!--'
  _, items, _ = write(tmp_path, pairs=[(0, odd, {'a': odd, 'b': ''})])
  assert items[0]['question'] == odd.replace('\ud83d', '\ufffd')
  assert write(tmp_path, pairs=[])[1] == []


SCRIPT = """
<script>
const press = (key) => document.onkeydown({ key, target: null, preventDefault() {} });
const type = (name) => { $('name').value = name; $('name').onchange(); };
let href = '', file = '';
HTMLAnchorElement.prototype.click = function () { [href, file] = [this.href, this.download]; };
const before = [$('wanted').hidden, $('main').hidden, $('export').disabled];
press('e');
const exported = href;
type('%s');
const after = [$('wanted').hidden, $('main').hidden, $('export').disabled];
const sides = [];
for (const key of ['1', '2', '3', 'ArrowLeft', '1']) {
  sides.push([$('left').textContent, $('right').textContent]);
  press(key);
}
type('somebody else');
const fresh = Object.keys(state.choices).length;
type('%s');  // what was saved is there again
press('e');
const record = JSON.parse(decodeURIComponent(href.split(',')[1]));
const out = { before, exported, after, sides, fresh, at: state.at, record, file };
document.title = btoa(unescape(encodeURIComponent(JSON.stringify(out))));
</script>
"""


@pytest.mark.skipif(not shutil.which('chromium'), reason='needs chromium')
@pytest.mark.parametrize('name', ['a', '李'])  # of either parity
def test_keys_choose_and_the_export_says_what_was_seen(tmp_path, name):
  html, items, _ = write(tmp_path, pairs=UNIQUE[:6])
  (tmp_path / 'driven.html').write_text(html.replace('</body>', SCRIPT % (name, name) + '</body>'))
  command = ['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--dump-dom']
  command += [f'--user-data-dir={tmp_path / "profile"}', f'file://{tmp_path / "driven.html"}']
  dom = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
  out = json.loads(base64.b64decode(re.search('<title>(.*?)</title>', dom)[1]))
  assert out['before'] == [False, True, True] and out['exported'] == ''  # a name is wanted
  assert out['after'] == [True, False, False]
  record = out['record']
  assert record['annotator'] == name and out['file'] == f'people-{record["page"]}-{name}.json'
  assert out['fresh'] == 0 and out['at'] == 3
  texts = {item['id']: item['texts'] for item in items}
  assert len(record['judgements']) == 3
  by_left = {texts[j['id']][j['left'] == 'second']: j['choice'] for j in record['judgements']}
  lefts = [left for left, _ in out['sides']]
  chosen = [by_left[lefts[0]], by_left[lefts[1]], by_left[lefts[2]]]
  left = record['judgements'][0]['left']
  # First: left. Second: tie. Third: right, then back and left.
  assert chosen == [left, 'tie', left] and left == ('second' if name == 'a' else 'first')
