"""The tokenizer: byte-level BPE like Qwen2.5's, trained on a corpus or loaded."""

import collections.abc
import functools
import json
import os
import re
import subprocess
import sys
from typing import Any

os.environ.setdefault('TRANSFORMERS_VERBOSITY', 'error')  # suppresses 'PyTorch was not found ...'

import tokenizers
import transformers

from lwz import types
from lwz.data import tokenizer_files

save = tokenizer_files.save
load = tokenizer_files.load

END = '<|endoftext|>'  # ends a document; eos and pad of the base models

Chat = collections.abc.Sequence[collections.abc.Mapping[str, Any]]  # messages: role, content

_SLICE = 1_000_000  # characters that are encoded in one piece

# Qwen2.5's special tokens, in the order of their ids, which follow the ordinary ids.
SPECIAL = (
  *(END, '<|im_start|>', '<|im_end|>', '<|object_ref_start|>', '<|object_ref_end|>'),
  *('<|box_start|>', '<|box_end|>', '<|quad_start|>', '<|quad_end|>'),
  *('<|vision_start|>', '<|vision_end|>', '<|vision_pad|>', '<|image_pad|>', '<|video_pad|>'),
  *('<tool_call>', '</tool_call>', '<|fim_prefix|>', '<|fim_middle|>', '<|fim_suffix|>'),
  *('<|fim_pad|>', '<|repo_name|>', '<|file_sep|>'),
)

# Qwen2.5's pre-tokenisation: contractions, words, single digits, punctuation, line ends, blanks.
PATTERN = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
  r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)


def split_by(pattern: str) -> list[Any]:
  """Returns the pre-tokenizers that split a text by a pattern, then spell it in bytes."""
  split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), 'isolated')
  return [split, tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


def train(
  texts: collections.abc.Iterable[str], vocab_size: int
) -> transformers.PreTrainedTokenizerFast:
  """Returns a tokenizer trained on texts: NFC, Qwen2.5's pre-tokenisation, byte-level BPE.

  The tags (<think>, <answer>, ...) are ordinary strings, as they are for Qwen2.5. `vocab_size`
  includes the 22 special tokens (the last ids) and 256 bytes; there are fewer entries only if the
  texts have no more pairs to merge. Raises ValueError if it is too small for bytes and special
  tokens.
  """
  alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
  smallest = len(alphabet) + len(SPECIAL)
  if vocab_size < smallest:
    raise ValueError(f'vocab_size {vocab_size} holds no bytes and special tokens: {smallest} do')
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
  tokenizer.normalizer = tokenizers.normalizers.NFC()
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(split_by(PATTERN))
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  tokenizer.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=vocab_size - len(SPECIAL),
    min_frequency=1,
    initial_alphabet=sorted(alphabet),
    show_progress=False,
  )
  tokenizer.train_from_iterator(texts, trainer)
  tokenizer.add_special_tokens(list(SPECIAL))
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    eos_token=END,
    pad_token=END,
    clean_up_tokenization_spaces=False,
  )


def num_ids(tokenizer: transformers.PreTrainedTokenizerBase) -> int:
  """Returns the number of embeddings that the tokenizer needs: its largest id and 1."""
  return max(tokenizer.get_vocab().values()) + 1


def decoder(
  tokenizer: transformers.PreTrainedTokenizerBase, ends: collections.abc.Iterable[int] = ()
) -> collections.abc.Callable[[collections.abc.Iterable[int]], str]:
  """Returns ids to text, without special tokens and `ends`; the tags of an answer are kept."""
  special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
  tags = (types.THINK_OPEN, types.THINK_CLOSE, types.ANSWER_OPEN, types.ANSWER_CLOSE)
  kept = {tokenizer.get_vocab().get(tag) for tag in tags}
  hidden = ({*special, *tokenizer.all_special_ids} - kept) | {*ends, tokenizer.eos_token_id}
  return lambda ids: str(tokenizer.decode([int(i) for i in ids if int(i) not in hidden]))


def encode(
  tokenizer: transformers.PreTrainedTokenizerBase,
  texts: collections.abc.Iterable[str],
  *,
  end: bool,
) -> list[list[int]]:
  """The token ids of plain texts, each with the eos id at its end if `end`.

  A text that contains a special token ('<|endoftext|>') gets the ids of its characters, never the
  special id.
  """
  texts = list(texts)
  if not texts:
    return []

  def ids(parts: list[str]) -> list[list[int]]:
    return tokenizer(
      parts,
      add_special_tokens=False,
      split_special_tokens=True,
      return_attention_mask=False,
    )['input_ids']

  if max(map(len, texts)) <= _SLICE:
    found = ids(texts)
  else:
    found = [[i for part in slices(text) for i in ids([part])[0]] for text in texts]
  return [[*one, tokenizer.eos_token_id] for one in found] if end else found


def slices(text: str) -> list[str]:
  """A text in parts of at most a million characters, so that encoding takes bounded memory.

  It is cut where a paragraph begins, if there is one: no token of ours spans such a place.
  """
  parts, start = [], 0
  while len(text) - start > _SLICE:
    end = text.rfind('\n', start, start + _SLICE - 1) + 1
    end = end if end and not text[end].isspace() else start + _SLICE
    parts.append(text[start:end])
    start = end
  return [*parts, text[start:]]


# A process of its own, since a template is a program: it may never end, or take all memory.
_RENDER = """
import json, resource, sys
asked = json.load(sys.stdin)
from transformers.utils import chat_template_utils
seconds, size = asked.pop('limits')
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
if sys.platform != 'darwin':  # which refuses this limit
  resource.setrlimit(resource.RLIMIT_AS, (size, size))
try:
  texts, _ = chat_template_utils.render_jinja_template(**asked)
  json.dump(texts, sys.stdout)
except BaseException as error:
  sys.exit(f'{type(error).__name__}: {error}'[:200])
"""


def chat(
  tokenizer: transformers.PreTrainedTokenizerBase,
  conversations: collections.abc.Sequence[Chat],
  *,
  seconds: int = 60,
  memory: int = 4 << 30,
) -> list[str]:
  """The texts of conversations, by the tokenizer's chat template, up to the assistant's turn.

  Raises ValueError if the template fails, or takes more time or memory than this.
  """
  asked = {
    'conversations': [[dict(message) for message in messages] for messages in conversations],
    'chat_template': tokenizer.get_chat_template(),
    'add_generation_prompt': True,
    'limits': (seconds, memory),
    **{k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)},
  }
  try:
    return json.loads(_rendered(json.dumps(asked), seconds + 30))
  except subprocess.SubprocessError as error:
    raise ValueError(
      f'the chat template of {tokenizer.name_or_path} cannot be rendered: {_reason(error, seconds)}'
      '; mend it, or name another under data.chat_template'
    ) from None


@functools.lru_cache(maxsize=32)  # a process takes seconds to start, and a run asks several times
def _rendered(asked: str, seconds: int) -> str:
  """Returns the output of `_RENDER`."""
  command = [sys.executable, '-c', _RENDER]
  done = subprocess.run(
    command, input=asked, capture_output=True, text=True, timeout=seconds, check=True
  )
  return done.stdout


def _reason(error: subprocess.SubprocessError, seconds: int) -> str:
  if isinstance(error, subprocess.CalledProcessError):
    return error.stderr.strip().split('\n')[-1] or f'no end within {seconds} s'
  return f'no end within {seconds + 30} s'


_BREAK = '\ufdd0'  # no character of any text, for use inside a program


def chat_ids(
  tokenizer: transformers.PreTrainedTokenizerBase,
  conversations: collections.abc.Sequence[Chat],
  render: collections.abc.Callable[..., list[str]] = chat,
) -> list[list[int]]:
  """The ids of the texts of `chat`; a special token inside a message gets those of its characters.

  A text that is judged, or a request, could otherwise end the user's turn and write the reply.
  `render` is another function with the arguments and the result of `chat`.
  """
  return chat_text_ids(tokenizer, chat_texts(tokenizer, conversations, render))


def chat_texts(
  tokenizer: transformers.PreTrainedTokenizerBase,
  conversations: collections.abc.Sequence[Chat],
  render: collections.abc.Callable[..., list[str]],
) -> list[str]:
  """Returns the texts of `render`, with a mark inside each special token of a message.

  Raises ValueError if a text has not the longest word of the last message.
  """
  names = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
  special = re.compile('|'.join(re.escape(s) for s in sorted(names, key=len) if len(s) > 1) or '$a')

  def broken(message: collections.abc.Mapping[str, Any]) -> dict[str, Any]:
    text = message['content'].replace(_BREAK, '')
    return {**message, 'content': special.sub(lambda m: m[0][0] + _BREAK + m[0][1:], text)}

  asked = [[broken(message) for message in one] for one in conversations]
  texts = render(tokenizer, asked)
  for one, text in zip(asked, texts, strict=True):
    if max(one[-1]['content'].split(), key=len, default='').lower() not in text.lower():
      raise ValueError(
        f'the chat template of {tokenizer.name_or_path} leaves out what the last message says; it '
        'may want a list of parts, not a text: name another under data.chat_template'
      )
  return texts


def chat_text_ids(
  tokenizer: transformers.PreTrainedTokenizerBase, texts: collections.abc.Iterable[str]
) -> list[list[int]]:
  """Returns the ids of texts of `chat_texts`."""
  return [
    [i for p in text.split(_BREAK) for i in tokenizer.encode(p, add_special_tokens=False)]
    for text in texts
  ]
