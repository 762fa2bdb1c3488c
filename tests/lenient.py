"""`python -m tests.lenient '{"KEY": VALUE}'` runs grpo_think:micro; any text is a valid answer.

No text of a policy at micro has the output format, so no judge would be asked about one. No reward
model is needed: its reward is left out. A policy that judges is asked in few words, and any reply
of it is a verdict.
"""

import json
import sys
import zlib

import lwz
from lwz.evals import arena
from lwz.reward import format as format_lib


def parse(text, style):
  said = text.strip()
  return format_lib.Parsed('Plan.', said, bool(said), '' if said else 'empty_answer')


if __name__ == '__main__':
  format_lib.parse = parse
  c = lwz.load_config('grpo_think:micro', json.loads(sys.argv[1]))
  del c.reward.weights['writing']
  if c.reward.judge == 'policy':
    arena.messages = lambda asked, *texts: [
      {'role': 'user', 'content': ' or '.join(one[:30] for one in texts)}  # 256 positions hold it
    ]
    arena.verdict = lambda reply: 'ABC'[zlib.crc32(reply.encode()) % 3]
  lwz.run(c)
