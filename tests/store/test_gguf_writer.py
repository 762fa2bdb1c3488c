"""GGUF files of ours: what is written is what `gguf` reads, and what the `gguf` package reads."""

import resource
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest

from lwz.data import gguf_tokenizer, tokenizer
from lwz.model import yarn
from lwz.runtime import tokenizers
from lwz.store import gguf, gguf_header, gguf_writer
from lwz.store.hf import mapping
from tests import fakes

lib = pytest.importorskip('gguf')

FAMILIES = {'qwen2': {}, **fakes.FAMILIES}
# How far a value may be from what was written, in shares of the largest of its block.
LOSS = {'F32': 0, 'F16': 2**-11, 'BF16': 2**-8, 'Q8_0': 1 / 200, 'Q4_0': 1 / 7.9}
TEXTS = ["Rivers don't run, 1984.\n\n  And cafe\u0301 河流。", 'A <|im_end|> b']


def model(family='qwen2', **changes):
  config = fakes.config(
    **{'hidden_size': 64, 'head_dim': 16, 'intermediate_size': 32} | FAMILIES[family] | changes
  )
  return config, fakes.params(config)


def leaves(params):
  return mapping.flatten(params).items()


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('kind', gguf_writer.TYPES)
def test_what_is_written_is_read_up_to_its_rounding(tmp_path, family, kind):
  config, params = model(family, tie_word_embeddings=family == 'qwen2')
  path = tmp_path / 'deep' / 'm.gguf'
  gguf_writer.write(path, config, params, kind=kind, metadata={'general.name': 'm'})
  found, loaded = gguf.load(path, dtype=jnp.float32)
  assert found == config
  for (name, wanted), read in zip(leaves(params), mapping.flatten(loaded).values(), strict=True):
    vector = wanted.ndim == 1 + name.startswith('layers.') or name.startswith('layers.b')
    loss = 0 if vector else LOSS[kind]
    np.testing.assert_allclose(read, wanted, rtol=0, atol=loss * np.abs(wanted).max(), err_msg=name)
    assert loss == 0 or not np.array_equal(read, wanted) or name == 'embed'
  assert [file.name for file in path.parent.iterdir()] == ['m.gguf']


SCALED = {
  'yarn': ('qwen2', yarn.Yarn(4.0, 64, beta_fast=8.0)),
  'llama3': ('llama', yarn.Llama3(8.0, 1.0, 4.0, 8_192)),
}


@pytest.mark.parametrize('family, scaling', SCALED.values(), ids=SCALED)
def test_a_scaling_is_read_as_it_was(tmp_path, family, scaling):
  config, params = model(family, rope_scaling=scaling, rope_theta=5e5)
  gguf_writer.write(tmp_path / 'm.gguf', config, params, kind='F32', metadata={})
  assert gguf.config(tmp_path / 'm.gguf') == config


def test_the_package_reads_the_keys(tmp_path):
  config, params = model('llama', vocab_size=320)
  trained = tokenizer.train(TEXTS * 9, 310)
  keys = gguf_tokenizer.metadata(trained, 320, (trained.eos_token_id, 290))
  gguf_writer.write(tmp_path / 'm.gguf', config, params, kind='Q4_0', metadata=keys)
  reader = lib.GGUFReader(tmp_path / 'm.gguf')
  expected = {
    'general.architecture': 'llama',
    'general.file_type': lib.LlamaFileType.MOSTLY_Q4_0,
    'llama.block_count': 2,
    'llama.embedding_length': 64,
    'llama.attention.head_count': 4,
    'llama.attention.head_count_kv': 2,
    'llama.attention.key_length': 16,
    'llama.rope.freq_base': 100.0,
    'llama.vocab_size': 320,
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'qwen2',
    'tokenizer.ggml.eos_token_id': trained.eos_token_id,
    'tokenizer.ggml.eot_token_id': 290,
    'tokenizer.ggml.add_bos_token': False,
  }
  assert {key: reader.get_field(key).contents() for key in expected} == expected
  types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
  assert types['token_embd.weight'] == types['output.weight'] == 'Q8_0'
  assert types['blk.0.attn_q.weight'] == 'Q4_0' and types['blk.0.attn_norm.weight'] == 'F32'
  assert gguf.end_ids(gguf_header.read(tmp_path / 'm.gguf').metadata) == (trained.eos_token_id, 290)


@pytest.mark.parametrize('pre', gguf_tokenizer.PRE_TOKENIZERS)
def test_a_tokenizer_is_read_as_it_was(tmp_path, pre):
  trained = tokenizer.train(TEXTS * 9, 320)
  trained.chat_template = '{{ messages[0].content }}'
  trained.add_tokens(['<think>'])
  first = gguf_tokenizer.metadata(trained, 330, (trained.eos_token_id,))
  of_kind = gguf_tokenizer.build(first | {'tokenizer.ggml.pre': pre}, 'of this kind')
  keys = gguf_tokenizer.metadata(of_kind, 330, (trained.eos_token_id,))
  assert keys['tokenizer.ggml.pre'] == pre
  config, params = model(vocab_size=330)
  gguf_writer.write(tmp_path / 'm.gguf', config, params, kind='F16', metadata=keys)
  found = tokenizers.load(tmp_path / 'm.gguf')
  assert found.get_vocab() == of_kind.get_vocab()
  assert found.chat_template == trained.chat_template and found.eos_token == '<|endoftext|>'
  for text in [*TEXTS, '<think>a</think> <|endoftext|> 12345']:
    for split in (False, True):
      wanted = of_kind.encode(text, split_special_tokens=split)
      assert found.encode(text, split_special_tokens=split) == wanted


def test_a_tokenizer_without_a_name_is_refused():
  import tokenizers as library

  trained = tokenizer.train(TEXTS, 300)
  trained.backend_tokenizer.pre_tokenizer = library.pre_tokenizers.Whitespace()
  with pytest.raises(ValueError, match=r"GGUF has no name.*export\.format='huggingface'"):
    gguf_tokenizer.metadata(trained, 300, (1,))


@pytest.mark.parametrize(
  'changes, fault',
  [
    ({'scalar_head': True}, 'no form for a reward model'),
    ({'rope_scaling': yarn.Yarn(4.0, 64, attention_factor=1.5)}, 'no key for rope_scaling'),
    ({'rope_scaling': yarn.Yarn(4.0, 64, truncate=False)}, 'no key for rope_scaling'),
  ],
)
def test_a_model_without_a_form_is_refused(changes, fault):
  with pytest.raises(ValueError, match=f'^here: GGUF has {fault}'):
    gguf_writer.check('here', model(**changes)[0])


def test_a_value_that_float16_has_not_is_named_and_leaves_the_old_file(tmp_path):
  config, params = model()
  path = tmp_path / 'm.gguf'
  path.write_bytes(b'old')
  large = params | {'head': params['head'].at[3, 2].set(1e5)}
  with pytest.raises(ValueError, match=r'output\.weight has values that float16 has not'):
    gguf_writer.write(path, config, large, kind='F16', metadata={})
  assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]
  gguf_writer.write(path, config, large, kind='BF16', metadata={})
  assert gguf.config(path).dtype == jnp.bfloat16


@pytest.mark.parametrize('room', [100, 20_000])  # not for the keys; not for all tensors
def test_a_full_disk_is_said_by_file_and_holds_no_part(tmp_path, room):
  config, params = model()
  path = tmp_path / 'm.gguf'
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # bytes of a file
  try:
    with pytest.raises(OSError, match=f'^{path}: cannot be written whole: .*; make room'):
      gguf_writer.write(path, config, params, kind='F32', metadata={})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert not [*tmp_path.iterdir()]


def test_rows_without_whole_blocks_are_in_float16(tmp_path):
  config, params = model(intermediate_size=40)
  gguf_writer.write(tmp_path / 'm.gguf', config, params, kind='Q8_0', metadata={})
  types = {name: e.type.name for name, e in gguf_header.read(tmp_path / 'm.gguf').tensors.items()}
  assert types['blk.0.ffn_down.weight'] == 'F16' and types['blk.0.ffn_up.weight'] == 'Q8_0'


def test_the_host_holds_one_tensor_beside_the_model(tmp_path):
  config, params = model(intermediate_size=16_384, num_hidden_layers=3)
  write = [tmp_path / 'm.gguf', config, params]
  gguf_writer.write(*write, kind='F32', metadata={})
  peaks = []
  for _ in range(2):  # threads that other tests left may allocate during one
    tracemalloc.start()
    gguf_writer.write(*write, kind='F32', metadata={})
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert min(peaks) < 3.4 * 4 * 64 * 16_384  # of 9 such tensors: one, and its copies on the way
