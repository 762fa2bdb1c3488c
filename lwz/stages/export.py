"""Export of a policy: a run's parameters as a Hugging Face folder or a GGUF file, with its prompt.

1. read the newest checkpoint's parameters              store.model_source
2. make a chat template of the run's own prompt         data.chat_template
3. write weights, tokenizer, how it is sampled          store.hf, store.gguf_writer
4. write the model card                                 report.model_card
5. push the folder to the hub, if `export.push` is set  store.hf.hub

With `export.format='peft'`, the adapters of a run alone  store.hf.peft
"""

import os
import re
from typing import Any

import jax.numpy as jnp
from etils import epath

from lwz import hosts
from lwz.data import chat_template, gguf_tokenizer, modelfile, templates, tokenizer_files
from lwz.model import config as config_lib
from lwz.report import model_card
from lwz.runtime import provenance, setup, tokenizers
from lwz.store import adapters, atomic, gguf_header, gguf_writer, model_source
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import generation, hub, peft

# What an export of each format leaves, ours or of transformers; it may be written over.
_CARD = 'README.md'
_LEFT = {
  'huggingface': re.compile(
    r'model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|README\.md|LICENSE|'
    r'(generation_)?config\.json|tokenizer(_config)?\.json|merges\.txt|.*\.jinja|'
    r'(special_tokens_map|added_tokens|vocab)\.json'
  ),
  'gguf': re.compile(
    rf'.+-({"|".join(gguf_writer.TYPES)})\.gguf(\.partial)?|Modelfile(\.zh)?|README\.md|LICENSE'
  ),
  'peft': re.compile(r'adapter_(config\.json|model\.safetensors)|LICENSE'),
}
_TEMPLATE = 'chat_template.jinja'
DTYPES = ('bfloat16', 'float32', 'float16')
_INEXACT = (
  'the tokenizer takes a part of the fixed prompt for a special token, so the ids of the chat '
  'template are not those of the training; send ids, not messages'
)
_MODELFILES = {'en': 'Modelfile', 'zh': 'Modelfile.zh'}


READS = (*(*setup.READS, *setup.MESH, *setup.COMPUTED, 'init', 'export', 'report.metrics'),)


def check(c) -> None:
  if c.export.dtype not in DTYPES:
    raise ValueError(
      f'export.dtype: there is no {c.export.dtype!r}; choose from {", ".join(DTYPES)}'
    )
  expected = setup.expected(c, c.init)
  folder, source = _folder(c), setup.reference(c, c.init)
  if c.export.format == 'peft' and (model_source.is_run(source) or not setup.is_experiment(c.init)):
    _kept(source)
    if expected.scalar_head:
      raise ValueError(
        f'export.format=peft: {source} is a reward model, whose new head is no adapter; leave the '
        'key out, for a whole model'
      )
  if c.export.format == 'gguf':
    if atomic.is_remote(folder):
      raise ValueError(f'export.folder={folder}: GGUF is written to local disks; copy it from one')
    gguf_writer.check(f'export.format=gguf, init={c.init}', expected)
  if c.export.push:
    try:
      hub.check(c.export.push, folder)
    except ValueError as error:
      raise ValueError(f'export.push={error}') from None
  if folder.exists() and not folder.is_dir():
    raise ValueError(f'export.folder={folder}: is a file; name a folder')
  held, left = _held(folder), _LEFT[c.export.format]
  strange = [name for name in held if name[0] != '.' and not left.fullmatch(name)]
  if _CARD in held and not model_card.is_ours((folder / _CARD).read_text('utf-8')):
    strange.append(_CARD)
  if strange:
    raise ValueError(
      f'export.folder={folder}: holds {", ".join(strange[:3])}, which no export has written; name '
      'a new folder'
    )
  if 'config.json' in held and b'"transformers_version"' in (folder / 'config.json').read_bytes():
    raise ValueError(
      f'export.folder={folder}: holds a model that was not exported here; name a new folder'
    )
  model = os.path.dirname(source) if os.path.isfile(source) else source
  if held and os.path.realpath(folder) == os.path.realpath(model):
    raise ValueError(f'export.folder={folder}: is the model of init itself; name a new folder')


def _folder(c) -> epath.Path:
  return epath.Path(c.export.folder or setup.run_folder(c) / c.export.format)


def _file(c, name: str) -> str:
  """Returns the name of the GGUF file of a model."""
  return f'{name.removesuffix(gguf_header.SUFFIX)}-{c.export.type}{gguf_header.SUFFIX}'


def _held(folder: epath.Path) -> list[str]:
  return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def run(c, api: Any = None) -> None:
  """`api` stands for the hub, see `hub.push`."""
  _export(c)
  if name := c.export.push:
    folder, private = _folder(c), c.export.private
    is_private = hosts.first(lambda: hub.push(folder, name, private=private, api=api))
    readers = 'private' if hosts.of_first(bool(is_private)) else 'for everybody to read'
    print(f'{folder}: pushed to {name}, {readers}')


def _export(c) -> None:
  source = setup.reference(c, c.init)
  config = model_source.config(source)
  if c.export.format == 'peft':
    return _export_adapters(source, config, _folder(c))
  tok = tokenizers.load(source)
  ends = setup.end_ids(tok, config, source)
  known = provenance.of(source, tuple(c.report.metrics))
  notes: list[str] = []
  if known.prompt:
    tok, exact = chat_template.carried(tok, *known.prompt)
    notes = _notes(known.prompt[1], exact)
  folder = _folder(c)
  main = _file(c, known.name) if c.export.format == 'gguf' else 'config.json'
  if hosts.of_first((folder / main).exists()):
    print(f'{folder / main}: of an earlier export, which is written over')
  save = _save_gguf if c.export.format == 'gguf' else _save_folder
  usage = save(c, folder, source, config, tok, ends, known)
  card = model_card.text(known, notes=notes, usage=usage)
  hosts.first(lambda: atomic.write_text(folder / _CARD, card))
  if known.prompt:
    style, template = known.prompt
    print(f'its chat template renders the prompts of data.style={style}, data.template={template}')
    if not exact:
      print(f'{folder}: {_INEXACT}')


def _save_folder(c, folder, source, config, tok, ends, known) -> str:
  """Writes the Hugging Face folder; returns how it is used."""
  dtype = jnp.dtype(c.export.dtype)
  params = setup.load_params(c, source, config, setup.mesh(c), dtype=dtype)
  hf.save(folder, config, params, tok, ends=ends)
  if not tok.chat_template:  # that of an earlier export would speak for another model
    hosts.first(lambda: (folder / _TEMPLATE).unlink(missing_ok=True))
  if config.scalar_head:
    hosts.first(lambda: (folder / generation.NAME).unlink(missing_ok=True))
  else:
    text = _own_generation(source) or generation.text(known.sampling, tok, ends)
    hosts.first(lambda: atomic.write_text(folder / generation.NAME, text))
  differs = not atomic.is_remote(folder) and tokenizer_files.auto_differs(tok, folder)
  if differs:
    print(
      f'{folder}: AutoTokenizer of transformers 5 puts a tokenizer of its own in place of this '
      'one; load it by PreTrainedTokenizerFast'
    )
  kind = 'AutoModelForSequenceClassification' if config.scalar_head else 'AutoModelForCausalLM'
  print(f"{folder}: {c.export.dtype}, for {kind}.from_pretrained('{folder}')")
  tokenizer = 'PreTrainedTokenizerFast' if differs else 'AutoTokenizer'
  return model_card.transformers_usage(known, tokenizer=tokenizer, scalar_head=config.scalar_head)


def _save_gguf(c, folder, source, config, tok, ends, known) -> str:
  """Writes the GGUF file and its Modelfiles; returns how they are used."""
  file = _file(c, known.name)
  named = {'general.name': known.name}
  named |= {'general.license': known.license} if known.license else {}
  metadata = named | gguf_tokenizer.metadata(tok, config.vocab_size, ends)
  params = setup.load_params(c, source, config, setup.mesh(c), dtype=jnp.float32)
  gguf_writer.write(folder / file, config, params, kind=c.export.type, metadata=metadata)

  languages = modelfile.has_languages(known.prompt)

  def modelfiles() -> None:
    for language, name in _MODELFILES.items():
      if language == 'en' or languages:
        text = modelfile.text(file, known.prompt, language, known.sampling, known.context)
        atomic.write_text(folder / name, text)
      else:
        (folder / name).unlink(missing_ok=True)

  hosts.first(modelfiles)
  print(
    f'{folder / file}: {c.export.type}, for llama.cpp; ollama create NAME -f {folder}/Modelfile'
  )
  return model_card.gguf_usage(known.name, file, languages=languages)


def _own_generation(source: str) -> str:
  """Returns the generation_config.json of a model that is no run, '' where there is none."""
  if model_source.is_run(source) or gguf_header.locate(source):
    return ''
  if folder := peft.locate(source):
    return _own_generation(peft.base(folder))
  path = hf.local(source) / generation.NAME
  return path.read_text('utf-8') if path.exists() else ''


def _notes(template: str, exact: bool) -> list[str]:
  """Returns what a client that renders the chat template does not do as the training did."""
  remedy = (
    '; in transformers pass `tokenizer_kwargs={"split_special_tokens": True}` to '
    '`apply_chat_template`'
  )
  return [
    'In training, a special token that a user typed, as `<|endoftext|>`, had the ids of its '
    'characters; in a chat template it is the special token'
    + ('.' if template in templates.CHATS else f'{remedy}.'),
    'In training, the prompt and the answer were tokenized apart; a text of both may have a token '
    'across the border.',
    *([] if exact else [f'{_INEXACT[0].upper()}{_INEXACT[1:]}.']),
  ]


def _export_adapters(source: str, config: config_lib.QwenConfig, folder: epath.Path) -> None:
  """Writes the adapters of a run in PEFT's form."""
  kept = _kept(source)
  base = adapters.base(source, kept)
  peft.save(folder, config, kept.lora, adapters.load(source, kept, config), base)
  other = model_source.is_run(base) or gguf_header.locate(base) or peft.locate(base)
  what = f'an export of {base}' if other else base
  print(f"{folder}: for PeftModel.from_pretrained(model, '{folder}'), where the model is {what}")


def _kept(source: str) -> adapters.Kept:
  """Returns what a run's folder says of its adapters; raises ValueError if it has none."""
  if not (kept := adapters.read(source)):
    raise ValueError(
      f'export.format=peft: {source} is no run that trained adapters; name one under init, or '
      'leave the key out, for a whole model'
    )
  return kept
