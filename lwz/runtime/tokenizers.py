"""The tokenizer of any source of a model: a run, a Hugging Face model, adapters, a GGUF file."""

from etils import epath

from lwz.data import gguf_tokenizer, tokenizer, tokenizer_files
from lwz.store import gguf_header, model_source


def load(source: epath.PathLike, chat_template: str = ''):
  """Returns the tokenizer, see `tokenizer_files.load`; its errors where the source has none."""
  named = model_source.tokenizer(source)
  if file := gguf_header.locate(named):
    found = gguf_tokenizer.build(gguf_header.read(file).metadata, named)
    return tokenizer_files.templated(found, chat_template)
  return tokenizer.load(named, chat_template)
