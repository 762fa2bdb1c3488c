"""generation_config.json: how transformers and vLLM sample a model where nobody says otherwise."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

NAME = 'generation_config.json'


def text(sampling: Mapping[str, Any], tokenizer: Any, ends: Sequence[int]) -> str:
  """Returns the file: `sampling`, and the ids that end a text, begin it and fill it up."""
  eos = list(ends) if len(ends) > 1 else ends[0] if ends else tokenizer.eos_token_id
  ids = {'eos_token_id': eos, 'pad_token_id': tokenizer.pad_token_id}
  if tokenizer.bos_token_id is not None:
    ids['bos_token_id'] = tokenizer.bos_token_id
  return json.dumps(dict(sampling) | ids, indent=2, sort_keys=True, ensure_ascii=False) + '\n'
