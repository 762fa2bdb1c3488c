"""A model card says what a stranger needs, and no table of what is not known."""

import dataclasses

from lwz.report import model_card, summary

KNOWN = model_card.Provenance(
  'p',
  base='Qwen/Qwen2.5-0.5B',
  license='',
  stage='grpo',
  lineage=('grpo_think-0.5b', 'pretrain-0.5b'),
  settings={'data.lower': '25'},
  rewards={'length': 1.0, 'format': 0.5},
  prompt=('think', 'paper'),
  sampling={'stop_strings': ['</answer>']},
  context=256,
  results=(summary.Row('valid_format', 0.5, 0.9, 0.4),),
)


def test_a_policys_card():
  usage = model_card.transformers_usage(KNOWN, tokenizer='AutoTokenizer', scalar_head=False)
  card = model_card.text(KNOWN, notes=['One.', 'Two.'], usage=usage)
  front = card.split('---\n')[1]
  assert 'base_model: Qwen/Qwen2.5-0.5B' in front and 'license' not in front
  assert 'License: that of the base model.' in card
  assert 'style `think` and template `paper`' in card
  assert '* One.\n* Two.' in card
  assert '| grpo_think-0.5b < pretrain-0.5b |' in card and '| data.lower | 25 |' in card
  assert '| format | 0.500 |' in card and '| valid_format | 0.500 | 0.900 |' in card
  assert '"stop": ["</answer>"]' in card and '--max-model-len 256' in card
  licensed = model_card.text(dataclasses.replace(KNOWN, license='apache-2.0'))
  assert 'license: apache-2.0\n' in licensed


def test_the_card_of_a_model_that_is_no_run():
  card = model_card.text(model_card.Provenance('m', base='m', license=''))
  assert 'No prompt of its training is known' in card and 'did not train it' in card
  assert 'base_model' not in card and '## Training' not in card and '## Results' not in card


def test_a_modelfile_for_each_language_where_they_differ():
  both = model_card.gguf_usage('P', 'p-F16.gguf', languages=True)
  one = model_card.gguf_usage('P.gguf', 'p-F16.gguf', languages=False)
  assert 'ollama create p -f Modelfile ' in both and 'ollama create p-zh -f Modelfile.zh' in both
  assert 'ollama create p -f Modelfile\nllama-server -m p-F16.gguf' in one and 'zh' not in one
