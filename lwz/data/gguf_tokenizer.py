"""The tokenizer that a GGUF file holds in its metadata: byte-level BPE, and a chat template.

`build` reads it, `metadata` writes it.
"""

import collections.abc
import json
from typing import Any

import tokenizers
import transformers

from lwz.data import tokenizer, tokenizer_files

_BEGIN = 'tokenizer.ggml.'
_TEMPLATE = 'tokenizer.chat_template'
# Of token_type; the last are padding of the vocabulary.
_NORMAL, _CONTROL, _USER, _UNUSED = 1, 3, 4, 5
_LLAMA_3 = tokenizer.PATTERN.replace(r'\p{N}|', r'\p{N}{1,3}|')


def _gpt2():
  return [tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]


# Names of pre-tokenizers, as llama.cpp gives them.
PRE_TOKENIZERS: dict[str, collections.abc.Callable[[], list[Any]]] = {
  'gpt-2': _gpt2,
  'smollm': lambda: [tokenizers.pre_tokenizers.Digits(individual_digits=True), *_gpt2()],
  'qwen2': lambda: tokenizer.split_by(tokenizer.PATTERN),
  'llama-bpe': lambda: tokenizer.split_by(_LLAMA_3),
}
_IGNORE_MERGES = ('llama-bpe',)  # where a word of the vocabulary is one token at once


def build(
  metadata: collections.abc.Mapping[str, Any], name: str
) -> transformers.PreTrainedTokenizerFast:
  """Returns the tokenizer of a file's metadata; `name` is that of the file.

  Raises ValueError for another kind than byte-level BPE, an unknown pre-tokenizer, or keys that are
  missing or do not fit each other.
  """
  found = {key.removeprefix(_BEGIN): value for key, value in metadata.items()}
  kind, pre = found.get('model'), found.get('pre')
  if kind != 'gpt2' or pre not in PRE_TOKENIZERS:
    known = ', '.join(PRE_TOKENIZERS)
    raise ValueError(
      f'{name}: a tokenizer of kind {kind!r} with pre-tokenizer {pre!r} is not read, only gpt2 '
      f'with one of {known}; name the tokenizer of the original model under data.tokenizer'
    )
  tokens, merges, types = (found.get(key, '') for key in ('tokens', 'merges', 'token_type'))
  if not (_texts(tokens) and _texts(merges) and isinstance(types, list)):
    raise ValueError(f'{name}: tokens, merges or token_type are missing; convert the model anew')
  pairs = [tuple(merge.split(' ')) for merge in merges]
  try:
    vocab = {t: i for i, (t, of) in enumerate(zip(tokens, types, strict=True)) if of != _UNUSED}
    model = tokenizers.models.BPE(vocab, pairs, ignore_merges=pre in _IGNORE_MERGES)
  except Exception as error:  # tokenizers raises no other class
    reason = ' '.join(str(error).split())[:120]
    raise ValueError(f'{name}: its tokens are no BPE ({reason}); convert the model anew') from error
  made = tokenizers.Tokenizer(model)
  made.normalizer, made.pre_tokenizer = _before_bpe(pre)
  made.decoder = tokenizers.decoders.ByteLevel()
  made.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
  marked = [(tokens[i], types[i]) for i in vocab.values() if types[i] in (_CONTROL, _USER)]
  made.add_tokens(
    [tokenizers.AddedToken(t, special=of == _CONTROL, normalized=False) for t, of in marked]
  )
  named = {}
  for key, role in (('bos', 'bos'), ('eos', 'eos'), ('padding', 'pad')):
    i = found.get(f'{key}_token_id')
    if isinstance(i, int) and 0 <= i < len(tokens):
      named[f'{role}_token'] = tokens[i]
  if 'eos_token' not in named:
    raise ValueError(f'{name}: names no token that ends a text; set {_BEGIN}eos_token_id')
  template = metadata.get(_TEMPLATE)
  if not isinstance(template, str | None):
    raise ValueError(f'{name}: {_TEMPLATE} is no text; convert the model anew')
  result = transformers.PreTrainedTokenizerFast(
    **{'pad_token': named['eos_token']} | named,
    tokenizer_object=made,
    clean_up_tokenization_spaces=False,
    chat_template=template,
  )
  result.name_or_path = name
  return result


def metadata(
  tok: transformers.PreTrainedTokenizerBase,
  num_embeddings: int,
  ends: collections.abc.Sequence[int],
) -> dict[str, Any]:
  """Returns the keys of a GGUF file for a tokenizer, its chat template among them.

  `ends` are the ids that end a text: a file has room for three. Embeddings without a token get
  names of their own.

  Raises ValueError if it is no byte-level BPE, or one whose pre-tokenizer has no name in GGUF.
  """
  raw = json.loads(tok.backend_tokenizer.to_str())
  model = raw['model']
  pre = next((name for name in PRE_TOKENIZERS if _is(tok.backend_tokenizer, model, name)), None)
  if model['type'] != 'BPE' or model.get('byte_fallback') or pre is None:
    raise ValueError(
      f'{tok.name_or_path}: GGUF has no name for this tokenizer, a {model["type"]}, only for '
      f"byte-level BPE split as by {', '.join(PRE_TOKENIZERS)}; set export.format='huggingface', "
      "and try llama.cpp's own converter"
    )
  names = {i: token for token, i in tok.get_vocab().items()}
  added = tok.added_tokens_decoder
  types = [
    _UNUSED if i not in names else _NORMAL if i not in added else _kind(added[i])
    for i in range(num_embeddings)
  ]
  ids = {'padding': tok.pad_token_id} | dict(zip(('eos', 'eot', 'eom'), ends, strict=False))
  ids['bos'] = tok.pad_token_id if tok.bos_token_id is None else tok.bos_token_id
  merges = (one if isinstance(one, str) else ' '.join(one) for one in model['merges'])
  found = {
    'model': 'gpt2',
    'pre': pre,
    'tokens': [names.get(i, f'[PAD{i}]') for i in range(num_embeddings)],
    'token_type': types,
    'merges': list(merges),
    **{f'{role}_token_id': i for role, i in ids.items() if i is not None},
    'add_bos_token': False,  # a prompt of ours begins without
  }
  template = tok.get_chat_template() if tok.chat_template else None
  named = {_TEMPLATE: template} if template else {}
  return {f'{_BEGIN}{key}': value for key, value in found.items()} | named


def _kind(token: Any) -> int:
  return _CONTROL if token.special else _USER


def _before_bpe(pre: str):
  """Returns the normalizer and the pre-tokenizer of a name."""
  normalizer = tokenizers.normalizers.NFC() if pre == 'qwen2' else None
  return normalizer, tokenizers.pre_tokenizers.Sequence(PRE_TOKENIZERS[pre]())


def _is(found: tokenizers.Tokenizer, model: dict[str, Any], pre: str) -> bool:
  """Whether a tokenizer splits texts as the one of this name does."""
  if found.pre_tokenizer is None or bool(model.get('ignore_merges')) != (pre in _IGNORE_MERGES):
    return False
  steps = ((found.normalizer, found.pre_tokenizer), _before_bpe(pre))
  one, other = (
    split.pre_tokenize_str(
      norm.normalize_str(tokenizer_files.SAMPLE) if norm else tokenizer_files.SAMPLE
    )
    for norm, split in steps
  )
  return [piece for piece, _ in one] == [piece for piece, _ in other]


def _texts(found: Any) -> bool:
  return isinstance(found, list) and all(isinstance(one, str) for one in found)
