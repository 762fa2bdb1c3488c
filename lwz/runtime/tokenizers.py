"""The tokenizer of any source of a model: a run, a Hugging Face model, a GGUF file."""

from etils import epath

from lwz.data import gguf_tokenizer, tokenizer, tokenizer_files
from lwz.store import gguf_header, model_source


def load(source: epath.PathLike, chat_template: str = ''):
  """Returns the tokenizer, see `tokenizer_files.load`; its errors where the source has none."""
  if file := gguf_header.locate(source):
    found = gguf_tokenizer.build(gguf_header.read(file).metadata, str(source))
    return tokenizer_files.templated(found, chat_template)
  return tokenizer.load(model_source.tokenizer(source), chat_template)
