"""What pretraining learns from: the sources that are named, and held-out documents of all."""

import pytest

from experiments import pretrain
from lwz.data import tokenizer
from lwz.runtime import sources
from lwz.stages import pretrain as stage


def config(**changes):
  c = pretrain.get_config('micro')
  c.data.update({'formatted_share': 0.0} | changes)
  return c


@pytest.fixture
def folder(tmp_path):
  for name in ('books/river', 'reports/lake'):
    path = tmp_path / f'{name}.txt'
    path.parent.mkdir()
    path.write_text(f'{name}\n\n' + f'{name} of water. ' * 20)
  (tmp_path / 'reports' / 'more.jsonl').write_text(
    ''.join(f'{{"title": "t{i}", "text": "A text of number {i}."}}\n' for i in range(40))
  )
  return str(tmp_path)


def learnt(c) -> dict[str, int]:
  """Returns the number of documents of each part."""
  found = stage._encoded(c, tokenizer.train(['A text of water 0123456789.'], 300))
  counts = {'train': 0, 'heldout': 0}
  for part, number, _ in found:
    counts[part] += number
  return counts


def test_named_sources_are_learnt_from_and_held_out_documents_are_of_all(folder):
  every = learnt(config(folder=folder))
  trained, held = sources.documents(config(folder=folder))
  assert every == {'train': len(trained), 'heldout': len(held)} and len(held) > 2
  for pattern in ('books/*', 'reports/*'):
    some = learnt(config(folder=folder, sources=(pattern,)))
    kept = [d for d in trained if d.source.startswith(pattern[:-1])]
    assert some == {'train': len(kept), 'heldout': len(held)}
  both = learnt(config(folder=folder, sources=('books/*', 'reports/*')))
  assert both == every


def test_the_embedded_corpus_has_two_sources():
  names = ((), ('reference',), ('stdlib',))
  every, reference, stdlib = (learnt(config(sources=found))['train'] for found in names)
  assert every == reference + stdlib and min(reference, stdlib) > 100


def test_a_source_that_no_document_has_is_refused_before_work(folder):
  stage.check(config(folder=folder, sources=('reports/more.*',)))
  for sources_of in (('novels',), ('books/*', 'novels')):
    with pytest.raises(ValueError, match=r"like 'novels'; choose from books/river\.txt"):
      stage.check(config(folder=folder, sources=sources_of))
  with pytest.raises(ValueError, match=r"like 'reference'; choose from passages\.jsonl"):
    stage.check(config(folder='passages:small', sources=('reference',)))
