"""A model card says what a stranger needs, and no table of what is not known."""

from lwz.report import model_card, summary

KNOWN = {
  'stage': 'grpo',
  'base': 'Qwen/Qwen2.5-0.5B',
  'license': '',
  'lineage': ('grpo_think-0.5b', 'pretrain-0.5b'),
  'settings': {'data.lower': '25'},
  'rewards': {'length': 1.0, 'format': 0.5},
  'prompt': ('think', 'paper'),
  'notes': ['One.', 'Two.'],
  'results': [summary.Row('valid_format', 0.5, 0.9, 0.4)],
}


def test_a_policys_card():
  usage = model_card.transformers_usage(
    'p', ['</answer>'], 256, tokenizer='AutoTokenizer', scalar_head=False
  )
  card = model_card.text('p', usage=usage, **KNOWN)
  front = card.split('---\n')[1]
  assert 'base_model: Qwen/Qwen2.5-0.5B' in front and 'license' not in front
  assert 'License: that of the base model.' in card
  assert 'style `think` and template `paper`' in card
  assert '* One.\n* Two.' in card
  assert '| grpo_think-0.5b < pretrain-0.5b |' in card and '| data.lower | 25 |' in card
  assert '| format | 0.500 |' in card and '| valid_format | 0.500 | 0.900 |' in card
  assert '"stop": ["</answer>"]' in card and '--max-model-len 256' in card
  licensed = model_card.text('p', usage='', **KNOWN | {'license': 'apache-2.0'})
  assert 'license: apache-2.0\n' in licensed


def test_the_card_of_a_model_that_is_no_run():
  nothing = {'lineage': (), 'settings': {}, 'rewards': {}, 'results': (), 'notes': ()}
  known = {'stage': '', 'base': 'm', 'prompt': None}
  card = model_card.text('m', usage='', **KNOWN | nothing | known)
  assert 'No prompt of its training is known' in card and 'did not train it' in card
  assert 'base_model' not in card and '## Training' not in card and '## Results' not in card


def test_a_modelfile_for_each_language_where_they_differ():
  both = model_card.gguf_usage('P', 'p-F16.gguf', languages=True)
  one = model_card.gguf_usage('P.gguf', 'p-F16.gguf', languages=False)
  assert 'ollama create p -f Modelfile ' in both and 'ollama create p-zh -f Modelfile.zh' in both
  assert 'ollama create p -f Modelfile\nllama-server -m p-F16.gguf' in one and 'zh' not in one
