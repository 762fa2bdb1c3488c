"""The tokenizer that a GGUF file holds in its metadata: byte-level BPE, and a chat template."""

import collections.abc
from typing import Any

import tokenizers
import transformers

from lwz.data import tokenizer

_BEGIN = 'tokenizer.ggml.'
_CONTROL, _USER, _UNUSED = 3, 4, 5  # of token_type; the last are padding of the vocabulary
_LLAMA_3 = tokenizer.PATTERN.replace(r'\p{N}|', r'\p{N}{1,3}|')


def _splits(pattern: str):
  split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), 'isolated')
  return [split, tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


def _gpt2():
  return [tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]


# Names of pre-tokenizers, as llama.cpp gives them.
PRE_TOKENIZERS: dict[str, collections.abc.Callable[[], list[Any]]] = {
  'gpt-2': _gpt2,
  'smollm': lambda: [tokenizers.pre_tokenizers.Digits(individual_digits=True), *_gpt2()],
  'qwen2': lambda: _splits(tokenizer.PATTERN),
  'llama-bpe': lambda: _splits(_LLAMA_3),
}


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
    model = tokenizers.models.BPE(vocab, pairs, ignore_merges=pre == 'llama-bpe')
  except Exception as error:  # tokenizers raises no other class
    raise ValueError(f'{name}: its tokens are no BPE ({error}); convert the model anew') from error
  made = tokenizers.Tokenizer(model)
  made.normalizer = tokenizers.normalizers.NFC() if pre == 'qwen2' else None
  made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(PRE_TOKENIZERS[pre]())
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
  result = transformers.PreTrainedTokenizerFast(
    **{'pad_token': named['eos_token']} | named,
    tokenizer_object=made,
    clean_up_tokenization_spaces=False,
    chat_template=metadata.get('tokenizer.chat_template'),
  )
  result.name_or_path = name
  return result


def _texts(found: Any) -> bool:
  return isinstance(found, list) and all(isinstance(one, str) for one in found)
