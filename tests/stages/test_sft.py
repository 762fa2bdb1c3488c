"""What fine-tuning trains on: documents, files; whole examples; prompts that are held out."""

import json

import pytest

from experiments import sft
from lwz import types
from lwz.data import corpus, formatted, preferences, tokenizer
from lwz.runtime import setup, sources
from lwz.stages import sft as stage
from lwz.store import model_source
from tests import fakes


def config(**changes):
  c = sft.get_config('micro')
  c.data.update(changes)
  return c


def written(tmp_path, num, size=3):
  path = tmp_path / 'pairs.jsonl'
  pairs = [{'prompt': f'Write about {i}.', 'answer': 'word ' * size} for i in range(num)]
  path.write_text(''.join(json.dumps(pair) + '\n' for pair in pairs))
  return str(path)


def test_without_a_file_documents_are_learnt_in_both_styles_and_no_held_out_title():
  pairs, _ = stage._pairs(config())
  heldout = sources.documents(config())[1]
  asked = {f'Write about {document.title}' for document in heldout}
  said = [
    prompt.partition('<|user|>: ')[2].partition(' <|assistant|>')[0] for prompt, _ in pairs['train']
  ]
  assert len(said) > 1_000
  assert not asked & {one.partition(' in about ')[0].removesuffix('.') for one in said}
  thoughts = ['<think>' in answer for _, answer in pairs['train']]
  assert sum(thoughts) == len(thoughts) / 2
  assert len(pairs['heldout']) > 100


def test_a_share_of_a_files_prompts_is_held_out(tmp_path):
  pairs, note = stage._pairs(config(examples=written(tmp_path, 100), style='direct'))
  assert len(pairs['train']) + len(pairs['heldout']) == 100 and 10 < len(pairs['heldout']) < 30
  assert not set(pairs['train']) & set(pairs['heldout']) and note == 'pairs.jsonl'
  with pytest.raises(ValueError, match=r'data\.heldout=0\.2 of its 1 examples leaves'):
    stage._pairs(config(examples=written(tmp_path, 1), style='direct'))


def test_an_example_longer_than_a_row_is_refused_or_left_out_never_cut(tmp_path, capsys):
  long = formatted.question('Lists'), 'word ' * 400
  short = formatted.question('Rivers'), 'A text.'
  tok = tokenizer.train([*long, *short], 300)
  with pytest.raises(ValueError, match=r'has \d+ tokens, more than data\.row_length=256'):
    stage._tokens(config(examples=written(tmp_path, 2)), tok, [short, long])
  for c in (config(), config(examples=written(tmp_path, 2), skip_broken=True)):
    found = stage._tokens(c, tok, [short, long])
    assert '1 of 2 examples left out' in capsys.readouterr().out
    assert [tok.decode(ids) for ids in found] == [''.join(short) + tok.eos_token]
    element = found.element(0)
    assert tok.decode(element['ids'][element['answer'] > 0]) == 'A text.' + tok.eos_token
  with pytest.raises(ValueError, match=r'row_length=4: no example .* lower data\.upper=24'):
    stage._tokens(config(row_length=4), tok, [short])


def test_both_orders_of_a_runs_pair_are_learnt_or_held_out(tmp_path):
  model_source.keep(tmp_path, fakes.config())
  pairs = [types.Preference(f'Ode {i}.', 'Good.', 'Bad.') for i in range(60)]
  # As of `reward_model`, which has set a share of the requests of a file aside.
  pairs = [pair for pair in pairs if corpus.fraction(pair.prompt, 'heldout') >= 0.2]
  preferences.save(tmp_path / setup.PAIRS, pairs)
  found, note = stage._pairs(config(examples=str(tmp_path), style='direct', heldout=0.2))
  asked = [
    {str(prompt).partition('Ode ')[2].partition('.')[0] for prompt, _ in found[part]}
    for part in ('train', 'heldout')
  ]
  assert not asked[0] & asked[1] and len(asked[0] | asked[1]) == len(pairs)
  assert len(found['train']) == 2 * len(asked[0]) and note.startswith('verdicts on pairs')
  with pytest.raises(ValueError, match=r"have no thoughts.* choose data\.style='direct'"):
    stage._pairs(config(examples=str(tmp_path), style='think'))
