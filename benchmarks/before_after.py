"""What a run of GRPO writes to the same held-out prompts at its first and its last evaluation.

    python benchmarks/before_after.py runs/grpo_think-MODEL --out FOLDER

Writes, by the name of the run, a page with a table of all prompts and both texts of some, and a
plot of the words produced against those asked for. Of the sampled answers; only those in valid
format have words. The prompts of the run are those of a file (`data.prompts`), which states their
ranges. All requests that it has not trained on are written, too: `eval.file` for
experiments/eval_ruler.py.
"""

import argparse
import json
import math
import pathlib

from matplotlib import pyplot

from lwz import jsonl, types
from lwz.data import prompts as prompt_lib
from lwz.report import table
from lwz.reward import format as format_lib
from lwz.reward import length

Texts = dict[int, str]  # by the number of the prompt


def read(run: pathlib.Path) -> tuple[list[types.Prompt], str, dict[int, Texts]]:
  """Returns the held-out prompts of a run, its style, and its sampled texts by step."""
  c = json.loads((run / 'config.json').read_text())
  data = c.get('config', c)['data']
  asked = prompt_lib.split(prompt_lib.load(data['prompts']), data['tested'])[1]
  by_step: dict[int, Texts] = {}
  for record in jsonl.read(run / 'evaluations' / 'answers.jsonl', skip='all')[0]:
    if record.get('mode') == 'sampled':
      by_step.setdefault(record['step'], {})[record['idx']] = record['text']
  return asked, data['style'], by_step


def words(text: str, style: str) -> int | None:
  """Returns the words of an answer in valid format, else None."""
  parsed = format_lib.parse(text, style)
  return length.count_words(parsed.answer) if parsed.valid else None


def share_within(asked: list[types.Prompt], texts: Texts, style: str) -> float:
  """Returns the share of all prompts whose answer is valid and within the range asked for."""
  counted = [(asked[i], words(text, style)) for i, text in texts.items()]
  return sum(n is not None and p.lower <= n <= p.upper for p, n in counted) / len(counted)


def plot(path: pathlib.Path, asked, style: str, ends: dict[int, Texts]) -> None:
  canvas, axes = pyplot.subplots(figsize=(5, 5), layout='constrained')
  most = max(prompt.upper for prompt in asked) * 1.3
  axes.plot([0, most], [0, most], color='0.7', linewidth=1, label='as asked')
  for (step, texts), marker in zip(ends.items(), 'ox', strict=False):
    pairs = [((asked[i].lower + asked[i].upper) / 2, words(t, style)) for i, t in texts.items()]
    found = [(x, y) for x, y in pairs if y is not None]
    label = f'step {step}: {len(found)} of {len(pairs)} valid'
    axes.scatter(*(zip(*found, strict=True) if found else ([], [])), marker=marker, label=label)
  axes.set(xlabel='words asked for', ylabel='words of the answer', xlim=(0, most), ylim=(0, None))
  axes.legend(frameon=False)
  canvas.savefig(path, metadata={'Date': None})


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('runs', nargs='+', type=pathlib.Path)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--texts', type=int, default=6, help='prompts whose texts are written out')
  arguments = parser.parse_args()
  arguments.out.mkdir(parents=True, exist_ok=True)
  for run in arguments.runs:
    asked, style, by_step = read(run)
    first, last = min(by_step), max(by_step)
    ends = {step: by_step[step] for step in (first, last)}
    plot(arguments.out / f'{run.name}.svg', asked, style, ends)
    tasks = [
      {'index': i, 'prompt': p.text, 'type': 'request', 'length': (p.lower + p.upper) // 2}
      for i, p in enumerate(asked)
    ]
    jsonl.write(arguments.out / f'{run.name}.jsonl', tasks)
    rows = [
      (
        asked[i].text,
        f'{asked[i].lower} to {asked[i].upper}',
        *(words(texts[i], style) or math.nan for texts in ends.values()),
      )
      for i in sorted(ends[first])
    ]
    shares = ', '.join(f'{share_within(asked, t, style):.2f} at {s}' for s, t in ends.items())
    lines = [f'# {run.name}: the same prompts at steps {first} and {last}', '']
    lines += [f'Share of valid answers within the range asked for: {shares}.', '']
    header = ('request', 'asked', f'words at {first}', f'at {last}')
    lines += [table.markdown('sampled answers; – where the format is broken', header, rows)]
    for i in sorted(ends[first])[: arguments.texts]:
      lines += ['', f'## {asked[i].text}']
      for step, texts in ends.items():
        lines += ['', f'Step {step}:', '', *(f'> {line}' for line in texts[i].splitlines())]
    (arguments.out / f'{run.name}.md').write_text('\n'.join(lines) + '\n')
    print(f'{run.name}: within the range {shares}')


if __name__ == '__main__':
  main()
