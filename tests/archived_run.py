"""The folder of a GRPO run that nobody trained: config, tokenizer, archived rollouts and DONE."""

import json

import numpy as np

from lwz import types
from lwz.data import tokenizer
from lwz.rl import archived


def write(folder, c, texts, rewards, valid, *, steps):
  """Writes the batches `steps` of a run of `c`, whose samples are the `texts` in each group.

  `rewards` are {name: [groups, G]}, `valid` is [groups, G], both for all groups in their order.
  """
  tok = tokenizer.train([*texts, 'Write about a river, a mill and the sea. 0123456789'], 300)
  tokenizer.save(tok, folder / 'tokenizer')
  for name in ('config.json', 'DONE'):
    record = {'config': c.to_dict(), 'summary': {}, 'time': '', 'hash': '', 'versions': {}}
    record |= {'command': [], 'created': '', 'history': []}
    (folder / name).write_text(json.dumps(record))
  num, T = c.rl.prompts_per_step, c.rollout.max_tokens
  ids = [[*row, tok.eos_token_id] for row in tokenizer.encode(tok, texts, end=False)] * num
  padded = np.array([row + [0] * (T - len(row)) for row in ids], np.int32)
  lengths, ended = np.array([len(row) for row in ids], np.int32), np.ones(len(ids), bool)
  rollout = types.Rollout(padded, np.zeros(padded.shape, np.float32), lengths, ended)
  archive = archived.archive(c, folder)
  values = np.stack([np.asarray(rewards[name], np.float32) for name in c.reward.weights], axis=-1)
  for place, step in enumerate(steps):
    rows = slice(place * num, (place + 1) * num)
    archive.write(step, 1, rollout, types.Scores(values[rows], np.asarray(valid)[rows]))
