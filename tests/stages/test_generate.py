"""A text appears as it is written, each part once, thoughts dimmed."""

import dataclasses
import io
import json
import re
import shutil

import jax
import jax.numpy as jnp
import pytest
import rich.console

from experiments import generate as experiment
from lwz.data import tokenizer
from lwz.model import config as config_lib
from lwz.model import lora as lora_lib
from lwz.model import qwen
from lwz.rollout import sampler
from lwz.runtime import policy, setup
from lwz.stages import generate
from lwz.store import model_source
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import peft

TEXT = '<think>A plan.</think>\n<answer>The text.</answer>'


def shown(*texts):
  """What a terminal gets: bytes with the codes of its colours."""
  file = io.StringIO()
  printer = generate.Printer(rich.console.Console(file=file, force_terminal=True, width=200))
  for text in texts[:-1]:
    printer.show(text)
  printer.show(texts[-1], last=True)
  return file.getvalue()


def plain(output):
  return output.replace('\x1b[2m', '').replace('\x1b[0m', '')


@pytest.mark.parametrize('cuts', [(), (3,), (10, 18), (14, 22, 30), range(len(TEXT))], ids=str)
def test_it_is_shown_once_however_it_comes(cuts):
  output = shown(*[TEXT[:cut] for cut in cuts], TEXT)
  assert plain(output) == f'{TEXT}\n'
  dimmed = ''.join(part.split('\x1b[0m')[0] for part in output.split('\x1b[2m')[1:])
  assert dimmed == '<think>A plan.</think>'


def test_a_character_is_shown_when_all_of_it_is_there():
  assert shown('caf\ufffd', 'café', 'café!') == 'café!\n'
  assert shown('caf\ufffd') == 'caf\ufffd\n'


def test_a_terminal_obeys_no_code_of_a_text_and_a_file_gets_the_text():
  text = 'a\x1b[31mred\x07\x00b\x9b1m\x7f\nc'
  assert shown(text) == 'a\u241b[31mred\u2407\u2400b\u24211m\u2421\nc\n'
  file = io.StringIO()
  generate.Printer(rich.console.Console(file=file)).show(text, last=True)
  assert file.getvalue() == f'{text}\n'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A Hugging Face model that has learnt nothing."""
  tok = tokenizer.train(['the sea is wide, and rivers run to the sea'] * 9, 384)
  config = dataclasses.replace(config_lib.preset('micro'), vocab_size=len(tok))
  path = tmp_path_factory.mktemp('model')
  hf.save(path, config, qwen.init(jax.random.key(0), config), tok)
  return str(path)


def config_of(folder, **changes):
  c = experiment.get_config('micro')
  c.init = folder
  c.rollout.max_tokens = 20
  c.update(changes)
  return c


def test_a_model_writes_to_the_terminal(folder, capsys):
  c = config_of(folder)
  generate.check(c)
  generate.run(c)
  first = capsys.readouterr().out
  assert '20 tokens' in first and 'cut at rollout.max_tokens=20' in first
  c.seed = 1
  generate.run(c)
  assert capsys.readouterr().out.split(' tokens')[0] != first.split(' tokens')[0]


def test_adapters_in_the_form_of_peft_write(folder, tmp_path):
  """With B = 0 as their base does, whose tokenizer they take."""
  config, lora = model_source.config(folder), lora_lib.LoRA(2, 4.0, ('q', 'up'))
  new = lora_lib.init(jax.random.key(0), config, lora)
  peft.save(tmp_path, config, lora, new, folder)
  (wanted,), (found,) = (
    generate.write(config_of(source), ['the sea']) for source in (folder, str(tmp_path))
  )
  assert found.ids.tolist() == wanted.ids.tolist()


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'prompt': ''}, 'prompt is empty'),
    ({'init': 'random'}, 'has learnt nothing'),
    ({'rollout': {'max_tokens': 400}}, 'exceeds the 256 positions'),
    ({'rollout': {'top_p': 0.0}}, 'top_p=0.0'),
    ({'rollout': {'attention': 'mosaic', 'int8': True}}, 'rollout.attention=mosaic.*kept in int8'),
    ({'rollout': {'block': 0}}, 'rollout.block=0: choose a number from 1'),
    ({'rollout': {'max_tokens': 0}}, 'rollout.max_tokens=0: choose a number from 1'),
    ({'rollout': {'temperature': float('nan')}}, 'rollout.temperature=nan: choose a number'),
    ({'rollout': {'temperature': 1e-9}}, 'rollout.temperature=1e-09: choose 0'),
    ({'generate': {'words': 21}}, 'generate.words=21: .* rollout.max_tokens=20: .* to the 144 '),
  ],
)
def test_what_cannot_be_written_is_refused_before_work(folder, changes, message):
  with pytest.raises(ValueError, match=message):
    generate.check(config_of(folder, **changes))


def test_a_prompt_without_room_is_refused_before_weights_are_read(folder, monkeypatch):
  monkeypatch.setattr(setup, 'load_params', None)
  with pytest.raises(ValueError, match=r'the prompt has \d+ tokens, more than rollout.max_prompt'):
    generate.run(config_of(folder, prompt='the sea is wide ' * 99))


def test_a_folder_that_cannot_be_made_is_found_before_weights_are_read(
  folder, monkeypatch, tmp_path
):
  monkeypatch.setattr(setup, 'load_params', None)
  (tmp_path / 'file').write_text('')
  c = config_of(folder)
  c.generate.folder = str(tmp_path / 'file' / 'texts')
  with pytest.raises(NotADirectoryError):
    generate.run(c)


def emits(monkeypatch, token):
  """The model writes this token, again and again."""
  sampled = sampler.sample_from

  def sample_from(uniforms, logits, *rest, **more):
    _, logp = sampled(uniforms, logits, *rest, **more)
    return jnp.full(logits.shape[0], token), logp

  monkeypatch.setattr(sampler, 'sample_from', sample_from)


NAMED = {
  'tokenizer alone': ({}, None, '<|endoftext|>'),
  'generation_config, several': (
    {'eos_token_id': ['<|im_end|>', '<|endoftext|>']},
    None,
    '<|im_end|>',
  ),
  'generation_config, one': ({'eos_token_id': '<|im_end|>'}, None, '<|im_end|>'),
  'config, one': (None, '<|im_end|>', '<|im_end|>'),
  'config, several': (None, ['<|fim_pad|>', '<|im_end|>'], '<|fim_pad|>'),
  'each another': ({'eos_token_id': '<|im_end|>'}, '<|fim_pad|>', '<|fim_pad|>'),
  'beyond the tokenizer': ({'eos_token_id': [99_999, '<|im_end|>']}, None, '<|im_end|>'),
  'nulls': ({'eos_token_id': None}, None, '<|endoftext|>'),
}


@pytest.mark.parametrize('generation, in_config, end', NAMED.values(), ids=NAMED)
def test_every_token_that_ends_a_text_does_and_is_no_part_of_it(
  folder, tmp_path, capsys, monkeypatch, generation, in_config, end
):
  """Each of them may read as a stop string of other models."""
  copy = shutil.copytree(folder, tmp_path / 'm')
  tok = tokenizer.load(folder)

  def ids(named):
    if isinstance(named, list):
      return [ids(one) for one in named]
    return tok.convert_tokens_to_ids(named) if isinstance(named, str) else named

  if generation is not None:
    raw = {key: ids(value) for key, value in generation.items()}
    (copy / 'generation_config.json').write_text(json.dumps(raw))
  raw = json.loads((copy / 'config.json').read_text()) | {'eos_token_id': ids(in_config)}
  (copy / 'config.json').write_text(json.dumps(raw))
  emits(monkeypatch, ids(end))
  generate.run(config_of(str(copy)))
  assert capsys.readouterr().out.startswith('\n1 tokens')


def test_a_special_token_stands_in_no_text(folder, capsys, monkeypatch):
  emits(monkeypatch, tokenizer.load(folder).convert_tokens_to_ids('<|fim_pad|>'))
  generate.run(config_of(folder))
  assert capsys.readouterr().out.startswith('\n20 tokens')


def test_a_model_that_overflows_float16_writes_nothing(tmp_path, folder):
  config, params = hf.load(folder)
  params['layers']['w_up'] += 1e3
  params['layers']['w_down'] += 1e4
  hf.save(tmp_path, config, jax.tree.map(lambda x: x.astype(jnp.float16), params))
  tokenizer.save(tokenizer.load(folder), tmp_path)
  with pytest.raises(ValueError, match='request 0: the logits of token 0 are not finite'):
    generate.run(config_of(str(tmp_path)))
  raw = json.loads((tmp_path / 'config.json').read_text()) | {'dtype': 'bfloat16'}
  (tmp_path / 'config.json').write_text(json.dumps(raw))
  generate.run(config_of(str(tmp_path)))


@pytest.mark.parametrize(
  'name, eos',
  [
    (name, eos)
    for name in ('config.json', 'generation_config.json')
    for eos in ('2', -1, 2.5, True, ['<|im_end|>'], [[2]], {}, 10**400, [None])
  ],
  ids=lambda value: str(value)[:20],
)
def test_an_end_that_is_no_id_is_refused_by_file(folder, tmp_path, name, eos):
  copy = shutil.copytree(folder, tmp_path / 'm')
  raw = json.loads((copy / 'config.json').read_text()) if name == 'config.json' else {}
  (copy / name).write_text(json.dumps(raw | {'eos_token_id': eos}))
  with pytest.raises(ValueError, match=f'm/{name}: eos_token_id = '):
    generate.run(config_of(str(copy)))


def test_a_tokenizer_of_another_model_is_refused_before_weights_are_read(
  folder, tmp_path, monkeypatch
):
  monkeypatch.setattr(setup, 'load_params', None)
  letters = 'abcdefghij'
  other = tokenizer.train([f'{a}{b}{c} x' for a in letters for b in letters for c in letters], 600)
  tokenizer.save(other, tmp_path / 't')
  c = config_of(folder)
  c.data.tokenizer = str(tmp_path / 't')
  with pytest.raises(ValueError, match=r't: the tokenizer has 600 tokens, the model .* only'):
    generate.run(c)


def test_a_run_is_asked_in_its_own_style_finished_or_not(tmp_path):
  c = experiment.get_config('micro')
  c.data.style, c.data.template = 'direct', 'pocket'
  c.runs_dir, c.name = str(tmp_path), 'r'
  setup.open_run(c, generate.READS).close()
  (tmp_path / 'r' / model_source.KEPT).write_text('{}')
  c.data.style = 'think'
  assert policy.prompt_style(c, str(tmp_path / 'r')) == ('direct', 'pocket')


def texts_of(path):
  return {one.name: json.loads(one.read_text())['ids'] for one in path.glob('*-*.json')}


def stop_after(monkeypatch, blocks):
  """An interruption after so many saves of a block."""
  save, left = generate.drafts.Drafts.save, [blocks]

  def counted(self, *arguments):
    save(self, *arguments)
    left[0] -= 1
    if not left[0]:
      raise KeyboardInterrupt

  monkeypatch.setattr(generate.drafts.Drafts, 'save', counted)


def test_texts_of_a_folder_go_on_at_the_same_token(folder, tmp_path, monkeypatch, capsys):
  """Two drafts of two prompts, interrupted twice, have the tokens of an undisturbed start."""
  asked = tmp_path / 'prompts.jsonl'
  asked.write_text(
    '{"text": "the sea", "lower": 5, "upper": 9}\n{"text": "rivers run", "lower": 5, "upper": 9}\n'
  )
  monkeypatch.setattr(generate.drafts, '_EVERY', 0.0)

  def config(name):
    c = config_of(folder)
    c.rollout.max_tokens, c.rollout.block = 40, 4
    c.generate.prompts, c.generate.drafts = str(asked), 2
    c.generate.folder = str(tmp_path / name)
    return c

  generate.check(config('whole'))
  generate.run(config('whole'))
  assert 'done at text 4 of 4' in capsys.readouterr().err
  whole = texts_of(tmp_path / 'whole')
  assert len(whole) == 4 and len(set(map(tuple, whole.values()))) == 4
  for blocks in (7, 9):
    with monkeypatch.context() as patch:
      stop_after(patch, blocks)
      with pytest.raises(KeyboardInterrupt):
        generate.run(config('cut'))
    begun = texts_of(tmp_path / 'cut')
    assert all(ids == whole[name][: len(ids)] for name, ids in begun.items())
    assert any(0 < len(ids) < len(whole[name]) for name, ids in begun.items())
  generate.run(config('cut'))
  assert texts_of(tmp_path / 'cut') == whole
  c = config('cut')
  c.seed = 1
  with pytest.raises(ValueError, match='begun with seed=0, not 1'):
    generate.run(c)


def test_a_text_of_a_folder_is_decoded_when_it_is_saved_and_no_oftener(
  folder, tmp_path, monkeypatch
):
  """Between two saves, stop strings are searched for in the end of a text alone."""
  made, whole, told = policy.Policy.decoder, [], []

  def decoder(self, *arguments):
    decode = made(self, *arguments)
    return lambda ids: whole.append(len(ids)) or decode(ids)

  monkeypatch.setattr(policy.Policy, 'decoder', decoder)
  for every, saves in ((1e9, 0), (0.0, 15)):
    monkeypatch.setattr(generate.drafts, '_EVERY', every)
    c = config_of(folder, generate={'folder': str(tmp_path / str(saves))})
    c.rollout.max_tokens, c.rollout.block = 60, 4
    kept = generate.drafts.Drafts(c.generate.folder)
    whole.clear(), told.clear()
    generate.write(c, ['the sea'], lambda *one: told.append(one), kept=kept)
    assert len(told) == saves + 1 and [ended for *_, ended in told].count(True) == 1
    assert [len(text) for _, text, _ in told] == sorted(len(text) for _, text, _ in told)
    assert sum(num > 40 for num in whole) == 1 + (5 if saves else 0)


def test_a_loop_ends_a_text_and_is_said(folder, capsys, monkeypatch):
  emits(monkeypatch, 301)
  c = config_of(folder)
  c.generate.loop = 8
  generate.run(c)
  output = capsys.readouterr().out
  assert '8 tokens' in output and 'stopped in a loop' in output


def test_a_length_is_asked_for_and_counted(folder, capsys):
  c = config_of(folder, prompt='写一首诗', generate={'words': 100})
  generate.check(c)  # a token may be several characters
  c = config_of(folder, generate={'words': 20})
  generate.check(c)
  c.generate.words = 100
  (prompt,) = generate._asked(c)
  assert prompt.text.endswith('Use about 100 words.') and (prompt.lower, prompt.upper) == (75, 125)
  generate.run(c)
  assert re.search(r'\d+ words of 75 to 125 asked for', capsys.readouterr().out)


def test_drafts_are_ranked_by_a_reward_model(folder, capsys, monkeypatch, tmp_path):
  """The best is kept, and a draft that cannot be read is the last."""
  c = config_of(folder)
  c.generate.drafts, c.generate.folder, c.reward.model = 3, str(tmp_path / 'out'), 'some/model'
  asked = []

  def scorer(pairs):
    asked.extend(pairs)
    return [float('nan'), 0.1, 0.7]

  monkeypatch.setattr(generate.registry, 'scorer', lambda *_: scorer)
  generate.run(c)
  output = capsys.readouterr().out
  assert 'prompt 1: draft 3 is the best' in output and '0.7' in output
  assert [request for request, _ in asked] == [c.prompt] * 3
  best, third = ((tmp_path / 'out' / f'{name}.md').read_text() for name in ('0001', '0001-3'))
  assert best == third
