"""An export goes into a folder of its own, and carries what its policy was trained with."""

import contextlib
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

import lwz
from experiments import export as experiment
from experiments import grpo_think
from lwz import types
from lwz.data import templates, tokenizer
from lwz.model import config as config_lib
from lwz.model import lora as lora_lib
from lwz.model import qwen
from lwz.report import model_card
from lwz.runtime import tokenizers
from lwz.stages import export
from lwz.store import adapters, checkpoint, gguf, model_source
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import hub, mapping, peft
from tests import fakes
from tests.store.hf import test_hub


@pytest.fixture
def c(tmp_path):
  """The config of an export of a model in `model/` to `out/`."""
  config = config_lib.preset('micro')
  hf.save(tmp_path / 'model', config, qwen.init(jax.random.key(0), config))
  c = experiment.get_config('micro')
  c.init, c.export.folder = str(tmp_path / 'model'), str(tmp_path / 'out')
  return c


def test_adapters_alone_are_of_a_run_that_has_some_and_go_beside_no_model(c, tmp_path):
  c.export.format = 'peft'
  with pytest.raises(
    ValueError, match=r'export\.format=peft: .*model is no run that trained adapters'
  ):
    export.check(c)
  config, lora = config_lib.preset('micro'), lora_lib.LoRA(2, 4.0)
  run, new = tmp_path / 'run', lora_lib.init(jax.random.key(0), config, lora)
  run.mkdir()
  model_source.keep(run, config)
  adapters.keep(run, adapters.of(lora, 'org/model', new))
  saved = checkpoint.Checkpoints(run)
  saved.save(1, types.TrainState(jnp.int32(1), new, ()), {'step': 1})
  saved.close()
  c.init = str(run)
  export.check(c)
  export.run(c)
  export.check(c)  # its own files may be written over
  found, params = peft.load(tmp_path / 'out', config)
  assert found == lora
  jax.tree.map(np.testing.assert_array_equal, params, new)
  c.export.folder = str(tmp_path / 'model')
  with pytest.raises(ValueError, match=r'holds config\.json, model\.safetensors, which no export'):
    export.check(c)
  c.export.format, c.export.folder = 'huggingface', str(tmp_path / 'out')
  with pytest.raises(ValueError, match=r'holds adapter_config\.json'):
    export.check(c)


@pytest.mark.parametrize('name', ['notes.txt', 'checkpoints/1', 'model.bin', 'metrics.jsonl'])
def test_a_folder_with_files_of_something_else_is_refused(name, c, tmp_path):
  path = tmp_path / 'out' / name
  path.parent.mkdir(parents=True)
  path.write_text('mine')
  with pytest.raises(
    ValueError, match=rf'export\.folder=.*/out: holds {name.split("/")[0]}, which'
  ):
    export.check(c)


def test_a_folder_that_is_new_or_empty_or_holds_an_export_is_taken(c, tmp_path):
  export.check(c)
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / '.gitattributes').write_text('')
  export.check(c)
  config = config_lib.preset('micro')
  hf.save(tmp_path / 'out', config, qwen.init(jax.random.key(0), config))
  export.check(c)


def test_a_model_of_somebody_else_is_refused(c, tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'config.json').write_text('{"transformers_version": "4.43.1"}')
  with pytest.raises(ValueError, match='holds a model that was not exported here'):
    export.check(c)


def test_a_file_and_the_model_itself_are_refused(c, tmp_path):
  (tmp_path / 'file').write_text('')
  c.export.folder = str(tmp_path / 'file')
  with pytest.raises(ValueError, match='is a file; name a folder'):
    export.check(c)
  (tmp_path / 'link').symlink_to(tmp_path / 'model')
  c.export.folder = str(tmp_path / 'link')
  with pytest.raises(ValueError, match='the model of init itself'):
    export.check(c)


QUESTIONS = ('Write about rivers, in {30} words.', '写一篇关于河流的文章。')
ASKED = [[{'role': 'user', 'content': question}] for question in QUESTIONS]


@pytest.fixture(scope='module')
def policy(tmp_path_factory):
  """The folder of a GRPO run whose policy has learnt nothing, and its parameters."""
  folder = tmp_path_factory.mktemp('runs') / 'policy'
  texts = [str(templates.render(question, 'think', 'pocket')) for question in QUESTIONS]
  tok = tokenizer.train(texts * 9, 384)  # so that the prompts are short
  tokenizer.save(tok, folder / 'tokenizer')
  config = dataclasses.replace(config_lib.preset('micro'), vocab_size=len(tok))
  params = qwen.init(jax.random.key(0), config)
  model_source.keep(folder, config)
  with contextlib.closing(checkpoint.Checkpoints(folder)) as saved:
    saved.save(2, {'params': params}, {})
  c = grpo_think.get_config('micro')
  c.init = 'random'
  fakes.keep_config(folder, c.to_dict())
  (folder / 'metrics.jsonl').write_text('{"step": 0, "valid_format": 0.25}\n')
  return folder, params


def exported(policy, path, **changes):
  c = experiment.get_config('micro')
  c.init, c.export.folder, c.export.dtype = str(policy[0]), str(path), 'float32'
  c.update_from_flattened_dict(changes)
  export.check(c)
  export.run(c)
  return path


def test_a_folder_carries_prompt_sampling_and_card(policy, tmp_path, capsys):
  folder = exported(policy, tmp_path / 'out')
  tok = transformers.AutoTokenizer.from_pretrained(folder)
  ids = tok.apply_chat_template(ASKED, add_generation_prompt=True)['input_ids']
  wanted = templates.prompt_ids(tokenizers.load(policy[0]), QUESTIONS, 'think', 'pocket')
  assert ids == wanted
  sampling = transformers.GenerationConfig.from_pretrained(folder)
  assert (sampling.temperature, sampling.top_p, sampling.max_new_tokens) == (0.8, 1.0, 96)
  assert sampling.eos_token_id == tok.eos_token_id
  assert tuple(sampling.stop_strings) == templates.STOPS
  card = (folder / 'README.md').read_text()
  assert 'style `think` and template `pocket`' in card and '| valid_format | 0.250 |' in card
  assert '| writing | 1.000 |' in card and str(tmp_path) not in card
  assert 'earlier export' not in capsys.readouterr().out
  exported(policy, folder)
  assert f'{folder}/config.json: of an earlier export, which is written over' in (
    capsys.readouterr().out
  )
  assert tokenizers.load(folder).chat_template == tok.chat_template


def test_transformers_writes_what_we_write(policy, tmp_path):
  torch = pytest.importorskip('torch')
  folder = exported(policy, tmp_path / 'out')
  theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
  tok = transformers.AutoTokenizer.from_pretrained(folder)
  ours = lwz.generate(str(policy[0]), list(QUESTIONS), temperature=0.0, max_tokens=24)
  for asked, written in zip(ASKED, ours, strict=True):
    options = {'add_generation_prompt': True, 'return_tensors': 'pt', 'return_dict': True}
    ids = tok.apply_chat_template(asked, **options)
    with torch.no_grad():
      found = theirs.generate(**ids, tokenizer=tok, do_sample=False, max_new_tokens=24)
      logits = theirs(**ids).logits.numpy()
    prompt = ids['input_ids'].numpy()
    config = model_source.config(policy[0])
    hidden = qwen.forward(policy[1], jnp.asarray(prompt), config)
    np.testing.assert_allclose(qwen.lm_head(policy[1], hidden, config), logits, atol=1e-4)
    assert tok.decode(found[0, prompt.shape[1] :]) == written


def test_a_gguf_file_carries_prompt_and_parameters(policy, tmp_path, capsys):
  pytest.importorskip('gguf')
  changes = {'export.format': 'gguf', 'export.type': 'F32'}
  folder = exported(policy, tmp_path / 'out', **changes)
  file = folder / 'policy-F32.gguf'
  assert {path.name for path in folder.iterdir()} == {
    *('policy-F32.gguf', 'Modelfile', 'Modelfile.zh', 'README.md')
  }
  for wanted, read in zip(
    mapping.flatten(policy[1]).values(), mapping.flatten(gguf.load(file)[1]).values(), strict=True
  ):
    np.testing.assert_array_equal(read, wanted)
  tok = tokenizers.load(file)
  ids = tok.apply_chat_template(ASKED, add_generation_prompt=True)['input_ids']
  assert ids == templates.prompt_ids(tokenizers.load(policy[0]), QUESTIONS, 'think', 'pocket')
  assert 'FROM ./policy-F32.gguf\n' in (folder / 'Modelfile').read_text()
  assert 'ollama create policy -f Modelfile' in (folder / 'README.md').read_text()
  exported(policy, folder, **changes)
  assert 'policy-F32.gguf: of an earlier export' in capsys.readouterr().out
  exported(policy, folder, **changes | {'export.type': 'Q8_0'})
  assert 'earlier export' not in capsys.readouterr().out


def test_an_export_is_pushed_when_it_is_whole(c, tmp_path, monkeypatch, capsys):
  c.export.push = 'me/policy'
  monkeypatch.setattr(hub.huggingface_hub, 'get_token', lambda: None)
  with pytest.raises(ValueError, match=r'export\.push=me/policy: no token of the hub is set'):
    export.check(c)
  monkeypatch.setattr(hub.huggingface_hub, 'get_token', lambda: 'token')
  export.check(c)
  tokenizer.save(tokenizer.train(['Rivers.'] * 9, 280), tmp_path / 'model')
  api, write = test_hub.Hub(), export.atomic.write_text

  def fails(path, text):
    if path.name == 'README.md':
      raise OSError('no space left')
    write(path, text)

  with monkeypatch.context() as patch:
    patch.setattr(export.atomic, 'write_text', fails)
    with pytest.raises(OSError, match='no space left'):
      export.run(c, api)
  assert not api.pushed and not api.private
  export.run(c, api)
  assert {'README.md', 'config.json', 'model.safetensors'} < {*api.pushed['me/policy']}
  assert api.private == {'me/policy': True}
  assert 'pushed to me/policy, private' in capsys.readouterr().out
  monkeypatch.setattr(export, '_export', lambda c: None)
  c.export.private = False
  export.run(c, api)
  assert 'pushed to me/policy, private' in capsys.readouterr().out  # as it was
  api.private['me/policy'] = False
  export.run(c, api)
  assert 'pushed to me/policy, for everybody' in capsys.readouterr().out


def test_a_model_that_is_no_run_keeps_what_it_has(c, tmp_path):
  tok = tokenizer.train(['Rivers carry water to the sea.'] * 9, 300)
  tok.chat_template = '{{ messages[0].content }}'
  tokenizer.save(tok, tmp_path / 'model')
  (tmp_path / 'model' / 'generation_config.json').write_text('{"temperature": 0.6}')
  export.check(c)
  export.run(c)
  out = tmp_path / 'out'
  assert json.loads((out / 'generation_config.json').read_text()) == {'temperature': 0.6}
  assert tokenizer.load(out).chat_template == tok.chat_template
  assert 'No prompt of its training is known' in (out / 'README.md').read_text()


def test_the_prompt_of_an_earlier_export_does_not_stay(policy, c, tmp_path):
  exported(policy, tmp_path / 'out')
  tokenizer.save(tokenizer.train(['Rivers.'] * 9, 280), tmp_path / 'model')
  export.run(c)
  assert tokenizer.load(tmp_path / 'out').chat_template is None
  assert 'temperature' not in (tmp_path / 'out' / 'generation_config.json').read_text()


def test_a_model_without_a_prompt_has_one_modelfile(policy, c, tmp_path):
  pytest.importorskip('gguf')
  exported(policy, tmp_path / 'out', **{'export.format': 'gguf'})
  tokenizer.save(tokenizer.train(['Rivers.'] * 9, 280), tmp_path / 'model')
  c.export.format = 'gguf'
  export.run(c)
  assert (tmp_path / 'out' / 'Modelfile').read_text() == 'FROM ./model-F16.gguf\n'
  assert not (tmp_path / 'out' / 'Modelfile.zh').exists()


def test_what_has_no_form_in_gguf_is_refused_before_work(c, tmp_path):
  pytest.importorskip('gguf')
  c.export.format = 'gguf'
  export.check(c)
  config = dataclasses.replace(config_lib.preset('micro'), scalar_head=True)
  hf.save(tmp_path / 'model', config, qwen.init(jax.random.key(0), config))
  with pytest.raises(ValueError, match=r'export\.format=gguf, init=.*no form for a reward model'):
    export.check(c)
  c.export.folder = 'gs://bucket/out'
  with pytest.raises(ValueError, match=r'export\.folder=gs://bucket/out: GGUF is written to local'):
    export.check(c)


def test_a_card_that_no_export_has_written_is_not_written_over(c, tmp_path):
  folder = tmp_path / 'out'
  folder.mkdir()
  (folder / 'README.md').write_text('# My notes\n')
  with pytest.raises(ValueError, match=r'holds README\.md, which no export has written'):
    export.check(c)
  card = model_card.text(model_card.Provenance('m', base='org/model', license=''))
  (folder / 'README.md').write_text(card)
  export.check(c)
  (folder / 'm-F16.gguf').write_text('')
  with pytest.raises(ValueError, match=r'holds m-F16\.gguf, which no export has written'):
    export.check(c)  # a card would speak of one of the two
