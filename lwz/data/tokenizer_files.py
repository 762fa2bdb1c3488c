"""Tokenizers on disk: tokenizer.json as it stands, with tokenizer_config.json beside it."""

import os
import tempfile

os.environ.setdefault('TRANSFORMERS_VERBOSITY', 'error')  # suppresses 'PyTorch was not found ...'

import huggingface_hub
import tokenizers
import transformers
from etils import epath

from lwz import jsonl

# What tokenizers differ in: contractions, digits, runs of blanks and line ends, composed letters.
SAMPLE = (
  "It's 2024, WE'LL see: 1,234.5 (x)!\r\n\n\tTwo  blanks \n \n\nLe cafe\u0301, \ufb01n\u00a0;"
  ' 河流\u3000海。'
  ' Ａ1 \U0001f30a don’t_stop...\n\n\n  end \n'
)
_REMEDY = 'save or download the tokenizer again'


def save(tokenizer: transformers.PreTrainedTokenizerBase, folder: epath.PathLike) -> None:
  """Writes tokenizer.json and tokenizer_config.json, as `transformers.AutoTokenizer` reads them.

  A new folder appears only when it is complete, so that an interrupted one is not loaded.
  """
  folder = epath.Path(folder)
  target = folder if folder.exists() else folder.parent / f'{folder.name}.partial'
  target.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory() as local:  # transformers cannot write to a bucket
    tokenizer.save_pretrained(local)
    for path in epath.Path(local).iterdir():
      path.copy(target / path.name, overwrite=True)
  if target != folder:
    target.rename(folder)


def load(name: epath.PathLike, chat_template: str = '') -> transformers.PreTrainedTokenizerBase:
  """Returns the tokenizer of a folder or of a hub id ('Qwen/Qwen2.5-32B'; offline mode honoured).

  `chat_template` is a file whose template takes the place of its own.

  tokenizer.json is used as it stands, whatever the config.json beside it says: `AutoTokenizer` puts
  Qwen2's own pre-tokenizer and normaliser in place of those of any file, if the model is a qwen2.

  Raises:
    FileNotFoundError: the folder or hub id does not exist, or has no tokenizer.
    ValueError: its files are damaged, or the `tokenizers` package reads another tokenizer from
      them; the message names the folder.
  """
  folder = _folder(name)
  files = [path for path in folder.iterdir() if path.suffix in ('.json', '.txt', '.jinja')]
  if not {'tokenizer.json', 'vocab.json'} & {path.name for path in files}:
    raise FileNotFoundError(f'{name}: no tokenizer.json in it; `save` a tokenizer there first')
  for path in files:
    if path.suffix == '.json':
      jsonl.document(path, remedy=_REMEDY)
    else:
      jsonl.contents(path)
  try:
    with tempfile.TemporaryDirectory() as local:  # transformers cannot read from a bucket
      for path in files:
        path.copy(epath.Path(local) / path.name)
      found, same = _loaded(local)
    ids = found.encode('a', add_special_tokens=False)
    found.decode(ids)
  except OSError as error:
    raise FileNotFoundError(f'{name}: no tokenizer could be loaded: {error}') from error
  except (KeyboardInterrupt, SystemExit):
    raise
  except BaseException as error:  # JSON of another shape raises anything, a panic of Rust too
    reason = ' '.join(f'{type(error).__name__} {error}'.split())[:200]
    raise ValueError(f'{name}: its files are no tokenizer ({reason}); {_REMEDY}') from error
  found.name_or_path = str(name)
  if not same:
    raise ValueError(
      f'{name}: transformers encodes texts otherwise than tokenizer.json says; take what changes '
      'it out of tokenizer_config.json'
    )
  if not ids or found.eos_token_id is None:
    lacks = 'token that ends a text: set eos_token in' if ids else 'vocabulary: download'
    raise ValueError(f'{name}: the tokenizer has no {lacks} its tokenizer_config.json')
  if found.pad_token_id is None:  # lengths, not ids, say what is padding
    found.pad_token = found.eos_token
  if isinstance(found.chat_template, dict) and 'default' not in found.chat_template:
    found.chat_template = None  # of several, none is for plain messages
  return templated(found, chat_template)


def templated(
  found: transformers.PreTrainedTokenizerBase, chat_template: str
) -> transformers.PreTrainedTokenizerBase:
  """Returns the tokenizer with the template of a file in place of its own, where one is named.

  Raises OSError or ValueError, naming data.chat_template, if the file holds no template.
  """
  if chat_template:
    begin = f'data.chat_template={chat_template}'
    if not epath.Path(chat_template).is_file():
      raise FileNotFoundError(f'{begin}: no such file; name one with a Jinja template')
    try:
      found.chat_template = jsonl.contents(chat_template).decode()
    except UnicodeDecodeError as error:
      raise ValueError(f'{begin}: not UTF-8 ({error}); convert it with iconv') from error
    if not found.chat_template.strip():
      raise ValueError(f'{begin}: the file is empty; write a Jinja template into it')
  return found


def _folder(name: epath.PathLike) -> epath.Path:
  folder = epath.Path(name)
  if folder.is_dir():
    return folder
  if str(name).count('/') != 1 or str(name)[0] in './~' or folder.parent.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder, and no hub id of the form owner/model')
  try:
    kinds = ['*.json', '*.txt', '*.jinja']
    return epath.Path(huggingface_hub.snapshot_download(str(name), allow_patterns=kinds))
  except (OSError, ValueError) as error:
    raise FileNotFoundError(f'{name}: no tokenizer could be loaded: {error}') from error


def _loaded(folder: str) -> tuple[transformers.PreTrainedTokenizerBase, bool]:
  """The tokenizer of a local folder, and whether it encodes as its tokenizer.json does."""
  file = os.path.join(folder, 'tokenizer.json')
  if not os.path.exists(file):  # vocab.json and merges.txt: the model's type says the rest
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False), True
  found = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
  plain = tokenizers.Tokenizer.from_file(file)
  plain.no_truncation()
  plain.no_padding()
  ids = plain.encode(SAMPLE, add_special_tokens=False).ids
  return found, found.encode(SAMPLE, add_special_tokens=False) == ids


def auto_differs(tokenizer: transformers.PreTrainedTokenizerBase, folder: epath.PathLike) -> bool:
  """Whether `AutoTokenizer` reads another tokenizer than this one from a folder it was saved in."""
  auto = transformers.AutoTokenizer.from_pretrained(os.fspath(folder), trust_remote_code=False)
  one, other = (t.encode(SAMPLE, add_special_tokens=False) for t in (tokenizer, auto))
  return one != other
