"""A server under load beside the scheduler alone: throughput, first tokens, and every token.

    python benchmarks/serving.py --config experiments/serve.py:tiny
    python benchmarks/serving.py --config experiments/serve.py:small --set init=gguf:PACKAGE/FILE

`experiments/serve.py` runs as a process, and so many clients ask it on loopback, each for one reply
after the other, streamed or whole in turn, of mixed lengths. Then the same requests are written by
the scheduler alone, with the same engine, in another process. `ratio` is the throughput of the
server over that of the scheduler; the clients' own CPU time is part of what the server has to share
its cores with, so it is shown as well. At last a share of the replies is asked again, one by one:
none of them may differ.
"""

import argparse
import ast
import asyncio
import contextlib
import json
import pathlib
import socket
import statistics
import subprocess
import sys
import time

import httpx2
import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
SUBJECTS = ('a lighthouse', 'bread', 'winter', 'an old bridge', 'chess', 'rain', 'tea', 'a market')


def body(number: int, most: int, model: str) -> dict:
  """The request of this number: what it asks for, its seed, and at most how many tokens."""
  rng = np.random.default_rng(number)
  return {
    'model': model,
    'messages': [{'role': 'user', 'content': f'Write about {rng.choice(SUBJECTS)}, {number}.'}],
    'seed': number,
    'max_tokens': int(most * rng.uniform(0.1, 1.0)),
    'stream': bool(number % 2),
    'stream_options': {'include_usage': True},
  }


async def ask(client: httpx2.AsyncClient, asked: dict) -> dict:
  """The text of a reply (its thought before), its tokens, and when the first and the last came."""
  began, thought, content, usage, first = time.monotonic(), '', '', 0, None
  if not asked['stream']:
    asked = {key: value for key, value in asked.items() if key != 'stream_options'}
    reply = await client.post('/v1/chat/completions', json=asked)
    reply.raise_for_status()
    found = reply.json()
    said = found['choices'][0]['message']
    thought, content = said['reasoning_content'] or '', said['content']
    usage = found['usage']['completion_tokens']
  else:
    async with client.stream('POST', '/v1/chat/completions', json=asked) as reply:
      reply.raise_for_status()
      async for line in reply.aiter_lines():
        if not line.startswith('data: {'):
          continue
        part = json.loads(line.removeprefix('data: '))
        for choice in part['choices']:
          thought += choice['delta'].get('reasoning_content', '')
          content += choice['delta'].get('content', '')
          if first is None and (thought or content):
            first = time.monotonic() - began
        usage = (part.get('usage') or {}).get('completion_tokens', usage)
  return {'text': thought + '\0' + content, 'tokens': usage, 'first': first, 'at': began}


async def load(url: str, arguments, model: str) -> tuple[dict[int, dict], float]:
  """The replies by number, and seconds until the last of them."""
  found, numbers = {}, iter(range(10**9))
  limits = httpx2.Limits(max_connections=arguments.clients)
  began = time.monotonic()
  async with httpx2.AsyncClient(base_url=url, timeout=600, limits=limits) as client:

    async def one() -> None:
      while time.monotonic() - began < arguments.seconds:
        number = next(numbers)
        found[number] = await ask(client, body(number, arguments.tokens, model))

    await asyncio.gather(*(one() for _ in range(arguments.clients)))
    seconds = time.monotonic() - began
    for number in list(found)[:: max(1, len(found) // arguments.alone)][: arguments.alone]:
      alone = await ask(client, body(number, arguments.tokens, model))
      found[number]['alone'] = alone['text']
  return found, seconds


def config_of(arguments):
  import lwz  # here, so that clients need no JAX
  from lwz.runtime import sizing

  values = dict(pair.split('=', 1) for pair in arguments.set)
  for key, value in values.items():
    with contextlib.suppress(ValueError, SyntaxError):
      values[key] = ast.literal_eval(value)
  c = lwz.load_config(arguments.config, values)
  sizing.settle(c)
  return c


def scheduler_alone(arguments) -> None:
  """Worker: writes the requests 0 ... N - 1 at once, and prints tokens and seconds."""
  from lwz.data import templates
  from lwz.rollout import local, sampler, scheduler
  from lwz.runtime import policy

  c = config_of(arguments)
  model = policy.describe(c)
  asked = [body(number, arguments.tokens, '') for number in range(arguments.num)]
  ids = model.ids([one['messages'][0]['content'] for one in asked])
  zero = np.zeros(1, np.int32)
  requests = [
    scheduler.Request(
      np.array(prompt, np.int32),
      np.asarray(sampler.trajectory_keys(one['seed'], 0, zero, zero))[0],
      one['max_tokens'],
      min(c.rollout.min_tokens, one['max_tokens']),
    )
    for prompt, one in zip(ids, asked, strict=True)
  ]
  engine, params = policy.engine(c, model, policy.load(c, model), c.rollout.slots)
  options = {'decode': model.decoder(), 'stops': templates.STOPS}
  list(local.stream(engine, params, requests[: c.rollout.slots + 1], **options))  # compiles
  stats = scheduler.Stats()
  list(local.stream(engine, params, requests, stats=stats, **options))
  print(json.dumps({'tokens': stats.tokens, 'seconds': stats.seconds}))


@contextlib.contextmanager
def served(arguments):
  """Yields the address of a server that has written its first reply."""
  with socket.create_server(('127.0.0.1', 0)) as free:
    port = free.getsockname()[1]
  flags = [f'--config.{pair}' for pair in arguments.set]
  command = [sys.executable, '-m', 'lwz.launch', f'--config={arguments.config}', *flags]
  # At least `serve.choices`: with a shorter queue the server does not start.
  queue = f'--config.serve.queue={max(8, arguments.clients)}'
  process = subprocess.Popen([*command, f'--config.serve.port={port}', queue], cwd=ROOT)
  url, until = f'http://127.0.0.1:{port}', time.monotonic() + 900
  try:
    while True:
      with contextlib.suppress(httpx2.HTTPError):
        if httpx2.get(f'{url}/health').status_code == 200:
          break
      if process.poll() is not None or time.monotonic() > until:
        sys.exit('the server did not start; its message stands above')
      time.sleep(0.2)
    yield url
  finally:
    process.terminate()
    process.wait(60)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--config', default='experiments/serve.py')
  parser.add_argument('--set', nargs='*', default=[], help='key=value of the config')
  parser.add_argument('--clients', type=int, default=64)
  parser.add_argument('--seconds', type=float, default=120)
  parser.add_argument('--tokens', type=int, default=200, help='of a reply, at most')
  parser.add_argument('--alone', type=int, default=40, help='replies that are asked again alone')
  parser.add_argument('--out', type=pathlib.Path, help='a JSON file')
  parser.add_argument('--num', type=int, help=argparse.SUPPRESS)  # of requests; in a worker alone
  arguments = parser.parse_args()
  if arguments.num:
    scheduler_alone(arguments)
    return
  with served(arguments) as url:
    model = httpx2.get(f'{url}/v1/models').json()['data'][0]['id']
    asyncio.run(load(url, argparse.Namespace(**vars(arguments) | {'seconds': 1}), model))
    spent = time.process_time()
    found, seconds = asyncio.run(load(url, arguments, model))
    spent = time.process_time() - spent
  differ = sum(one['text'] != one.get('alone', one['text']) for one in found.values())
  first = sorted(one['first'] for one in found.values() if one['first'] is not None)
  tokens = sum(one['tokens'] for one in found.values())
  worker = [sys.executable, __file__, '--config', arguments.config, f'--num={len(found)}']
  worker += [f'--tokens={arguments.tokens}', '--set', *arguments.set]
  done = subprocess.run(worker, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
  alone = json.loads(done.stdout.splitlines()[-1])
  result = {
    'replies': len(found),
    'seconds': seconds,
    'tokens': tokens,
    'tokens_per_second': tokens / seconds,
    'scheduler_tokens': alone['tokens'],
    'scheduler_tokens_per_second': alone['tokens'] / alone['seconds'],
    'ratio': tokens / seconds / (alone['tokens'] / alone['seconds']),
    'first_token_median': statistics.median(first) if first else None,
    'first_token_p95': first[int(0.95 * len(first))] if first else None,
    'clients_cpu_seconds': spent,
    'asked_again_alone': sum('alone' in one for one in found.values()),
    'differ': differ,
  }
  for name, value in result.items():
    print(f'{name:30}{value:12,.3f}' if isinstance(value, float) else f'{name:30}{value!s:>12}')
  if arguments.out:
    arguments.out.write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
  main()
