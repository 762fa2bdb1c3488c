"""A text appears as it is written, each part once, thoughts dimmed."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import pytest
import rich.console

from experiments import generate as experiment
from lwz.data import tokenizer
from lwz.model import config as config_lib
from lwz.model import qwen
from lwz.runtime import setup
from lwz.stages import generate
from lwz.store import model_source
from lwz.store.hf import checkpoint as hf

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
  ],
)
def test_what_cannot_be_written_is_refused_before_work(folder, changes, message):
  with pytest.raises(ValueError, match=message):
    generate.check(config_of(folder, **changes))


def test_a_prompt_without_room_is_refused_before_weights_are_read(folder, monkeypatch):
  monkeypatch.setattr(generate.setup, 'load_params', None)
  with pytest.raises(ValueError, match=r'the prompt has \d+ tokens, more than rollout.max_prompt'):
    generate.run(config_of(folder, prompt='the sea is wide ' * 99))


def test_the_token_that_ends_a_text_is_no_part_of_it(folder, capsys, monkeypatch):
  """Its text is a stop string of other models' too."""
  sampled = generate.sampler.sample_from

  def end(uniforms, logits, *rest, **more):
    _, logp = sampled(uniforms, logits, *rest, **more)
    return jnp.full(logits.shape[0], tokenizer.load(folder).eos_token_id), logp

  monkeypatch.setattr(generate.sampler, 'sample_from', end)
  generate.run(config_of(folder))
  assert capsys.readouterr().out.startswith('\n1 tokens')


def test_a_run_is_asked_in_its_own_style_finished_or_not(tmp_path):
  c = experiment.get_config('micro')
  c.data.style, c.data.template = 'direct', 'pocket'
  c.runs_dir, c.name = str(tmp_path), 'r'
  setup.open_run(c, generate.READS).close()
  (tmp_path / 'r' / model_source.KEPT).write_text('{}')
  c.data.style = 'think'
  assert generate._style(c, str(tmp_path / 'r')) == ('direct', 'pocket')
