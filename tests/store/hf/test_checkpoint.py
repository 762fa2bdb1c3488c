"""Models of Hugging Face: read as theirs, written as theirs, and never half or by guess."""

import dataclasses
import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from lwz.model import qwen, sharding
from lwz.store.hf import checkpoint as hf
from lwz.store.hf import mapping, placement
from tests import fakes

CONFIG = fakes.config()
EVEN = fakes.config(vocab_size=14)  # what 2-way tensor divides
FORMS = {'own': {}, 'tied': {'tie_word_embeddings': True}, 'scalar': {'scalar_head': True}}
FILE = 'model.safetensors'


def saved(folder, config=CONFIG, dtype=jnp.float32, **options):
  """A random model of ours in a folder of theirs."""
  params = jax.tree.map(lambda leaf: leaf.astype(dtype), fakes.params(config))
  hf.save(folder, config, params, **options)
  return params


def tensors_of(folder):
  """{tensor: (dtype, bytes)} of all files, read by safetensors."""
  found = {}
  for path in sorted(pathlib.Path(folder).glob('*.safetensors')):
    loaded = safetensors.numpy.load_file(path)
    found |= {name: (value.dtype.name, value.tobytes()) for name, value in loaded.items()}
  return found


def edit_tensors(path, change):
  loaded = safetensors.numpy.load_file(path)
  change(loaded)
  safetensors.numpy.save_file(loaded, path, metadata={'format': 'pt'})


def edit_config(folder, **changes):
  """Sets keys of config.json; a key set to None goes."""
  path = folder / 'config.json'
  raw = json.loads(path.read_text()) | changes
  path.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))


def assert_same(params, others):
  assert fakes.shapes(params) == fakes.shapes(others)
  jax.tree.map(np.testing.assert_array_equal, params, others)


# Ours alone.


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_what_was_saved_is_loaded(tmp_path, form, dtype):
  config = dataclasses.replace(CONFIG, dtype=dtype, **FORMS[form])
  params = saved(tmp_path, config, dtype)
  loaded_config, loaded = hf.load(tmp_path)
  assert loaded_config == config
  assert_same(loaded, params)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('options', [{}, {'shard_bytes': 900}])
def test_import_then_export_is_the_identity(tmp_path, form, options):
  saved(tmp_path / 'a', dataclasses.replace(CONFIG, **FORMS[form]), jnp.bfloat16, **options)
  hf.save(tmp_path / 'b', *hf.load(tmp_path / 'a'), **options)
  before, after = ({p.name: p.read_bytes() for p in (tmp_path / x).iterdir()} for x in 'ab')
  assert before == after


def test_float32_asked_for_is_float32_throughout(tmp_path):
  config = dataclasses.replace(CONFIG, dtype=jnp.bfloat16)
  params = saved(tmp_path, config, jnp.bfloat16)
  loaded_config, loaded = hf.load(tmp_path, dtype=jnp.float32)
  assert loaded_config == CONFIG
  assert_same(loaded, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params))
  assert fakes.forward(loaded, jnp.zeros((1, 2), jnp.int32), loaded_config).dtype == jnp.float32


def test_without_a_dtype_in_config_that_of_the_embedding_counts(tmp_path):
  params = saved(tmp_path, CONFIG, jnp.bfloat16)
  edit_config(tmp_path, dtype=None, torch_dtype=None)
  config, loaded = hf.load(tmp_path)
  assert config.dtype == jnp.bfloat16
  assert_same(loaded, params)


def test_mixed_dtypes_are_kept_in_the_file_and_loaded_as_the_widest(tmp_path):
  params = fakes.params(CONFIG)
  params['head'] = params['head'].astype(jnp.bfloat16)
  hf.save(tmp_path, CONFIG, params)
  assert tensors_of(tmp_path)['lm_head.weight'][0] == 'bfloat16'
  config, loaded = hf.load(tmp_path)
  assert config.dtype == loaded['head'].dtype == jnp.float32
  np.testing.assert_array_equal(loaded['head'], params['head'].astype(jnp.float32))


def test_a_file_holds_no_more_than_its_share(tmp_path):
  saved(tmp_path, shard_bytes=2_500)
  index = json.loads((tmp_path / 'model.safetensors.index.json').read_text())
  files = sorted(tmp_path.glob('*.safetensors'))
  assert files[0].name == f'model-00001-of-{len(files):05}.safetensors'
  assert len(files) > 3 and {p.name for p in files} == set(index['weight_map'].values())
  assert index['metadata']['total_size'] == 4 * qwen.num_params(CONFIG)
  for path in files:
    with safetensors.safe_open(path, framework='np') as opened:
      assert opened.metadata() == {'format': 'pt'}
      assert {index['weight_map'][name] for name in opened.keys()} == {path.name}  # noqa: SIM118
    header = 8 + int.from_bytes(path.read_bytes()[:8], 'little')
    assert header % 8 == 0 and path.stat().st_size - header <= 2_500


@pytest.mark.parametrize('axes', [('fsdp', 'tensor'), ('data', 'fsdp')])
def test_onto_a_mesh_every_device_reads_its_part(tmp_path, axes):
  params = saved(tmp_path, EVEN)
  mesh = jax.make_mesh((4, 2), axes, axis_types=(jax.sharding.AxisType.Auto,) * 2)
  _, loaded = hf.load(tmp_path, mesh)
  assert_same(loaded, params)
  wide = {name: leaf.sharding.spec for name, leaf in mapping.flatten(loaded).items()}
  P = jax.sharding.PartitionSpec
  if 'tensor' in axes:
    assert wide['layers.wq'] == P(None, 'fsdp', 'tensor', None)
    assert wide['layers.w_down'] == P(None, 'tensor', 'fsdp')
    assert wide['embed'] == P('tensor', 'fsdp')
    assert loaded['layers']['wq'].addressable_shards[0].data.shape == (2, 4, 2, 6)
  else:
    assert wide['layers.wq'] == P(None, 'fsdp', None, None)
  hf.save(tmp_path / 'again', EVEN, loaded)
  assert tensors_of(tmp_path / 'again') == tensors_of(tmp_path)


def test_a_mesh_that_does_not_divide_a_model_is_refused_by_name(tmp_path):
  saved(tmp_path)
  with pytest.raises(ValueError, match=r"embed: dimension 'vocab' of 13 is not divisible by the 2"):
    hf.load(tmp_path, sharding.make_mesh((1, 4, 2)))


@pytest.mark.parametrize('piece', [64, 1_000])
def test_pieces_put_together_are_the_whole(tmp_path, monkeypatch, piece):
  params = saved(tmp_path, EVEN)
  monkeypatch.setattr(placement, 'PIECE', piece)
  assert_same(hf.load(tmp_path)[1], params)
  mesh = sharding.make_mesh((1, 4, 2))
  assert_same(hf.load(tmp_path, mesh)[1], params)


def test_progress_counts_every_tensor(tmp_path):
  saved(tmp_path)
  seen = []
  hf.load(tmp_path, progress=lambda done, total: seen.append((done, total)))
  total = len(mapping.tensors(CONFIG))
  assert seen == [(i, total) for i in range(1, total + 1)]


def test_a_part_is_read_once_and_only_where_it_lies(tmp_path, monkeypatch):
  """Eight devices in pairs that hold the same: each value is read once, no leaf in one piece."""
  saved(tmp_path, EVEN)
  read = {}
  to_ours = mapping.to_ours

  def counted(tensor, source, index):
    part = to_ours(tensor, source, index)
    read.setdefault(tensor.leaf, []).append(part.size)
    return part

  monkeypatch.setattr(mapping, 'to_ours', counted)
  auto = (jax.sharding.AxisType.Auto,) * 3
  hf.load(tmp_path, jax.make_mesh((2, 2, 2), ('data', 'fsdp', 'tensor'), axis_types=auto))
  for name, param in mapping.flatten(qwen.describe(EVEN)).items():
    assert sum(read[name]) == np.prod(param.shape), name
  assert max(read['layers.wq']) == 16 * 4 * 6 / 4


# What is refused.


def strip(name):
  return lambda tensors: tensors.pop(name)


def fault_of(folder):
  with pytest.raises(ValueError) as caught:
    hf.load(folder)
  return str(caught.value)


def test_every_faulty_tensor_is_named(tmp_path):
  saved(tmp_path)

  def spoil(tensors):
    del tensors['model.norm.weight'], tensors['model.layers.1.mlp.up_proj.weight']
    tensors['model.layers.2.mlp.up_proj.weight'] = np.zeros((20, 16), np.float32)
    q_proj = 'model.layers.0.self_attn.q_proj.weight'
    tensors[q_proj] = np.ascontiguousarray(tensors[q_proj].T)
    tensors['lm_head.weight'] = tensors['lm_head.weight'].astype(np.int8)

  edit_tensors(tmp_path / FILE, spoil)
  fault = fault_of(tmp_path)
  assert str(tmp_path) in fault
  for line in (
    f'{FILE}: model.norm.weight is missing',
    f'{FILE}: model.layers.1.mlp.up_proj.weight is missing',
    f'{FILE}: model.layers.2.mlp.up_proj.weight is no tensor of this model',
    f'{FILE}: model.layers.0.self_attn.q_proj.weight has shape [16, 24], not [24, 16]',
    f'{FILE}: lm_head.weight is I8, not F32 or BF16 or F16',
  ):
    assert line in fault
  assert len(fault.splitlines()) == 6


def test_tensors_of_a_file_cut_short_are_named(tmp_path):
  saved(tmp_path, shard_bytes=2_500)
  index = json.loads((tmp_path / 'model.safetensors.index.json').read_text())['weight_map']
  path = sorted(tmp_path.glob('*.safetensors'))[1]
  path.write_bytes(path.read_bytes()[:-1])
  last = [name for name, file in index.items() if file == path.name][-1]
  assert fault_of(tmp_path).splitlines()[1:] == [f'  {path.name}: {last} is cut off']
  path.write_bytes(path.read_bytes()[:200])
  assert f'{path}: no whole safetensors header' in fault_of(tmp_path)
  path.write_bytes(b'')
  assert f'{path}: no whole safetensors header' in fault_of(tmp_path)


@pytest.mark.parametrize(
  'text', [b'version https://git-lfs.github.com/spec/v1\n', b'\2' + bytes(7) + b'[]']
)
def test_a_file_that_is_no_safetensors_is_named(tmp_path, text):
  saved(tmp_path)
  (tmp_path / FILE).write_bytes(text)
  assert f'{tmp_path / FILE}: no whole safetensors header' in fault_of(tmp_path)


def test_bytes_that_no_tensor_has_are_an_error(tmp_path):
  saved(tmp_path)
  with (tmp_path / FILE).open('ab') as file:
    file.write(bytes(8))
  assert f'{tmp_path / FILE}: ' in fault_of(tmp_path)


def test_a_tensor_in_two_files_is_an_error(tmp_path):
  saved(tmp_path, shard_bytes=2_500)
  first, *_, last = sorted(tmp_path.glob('*.safetensors'))
  twice = next(iter(safetensors.numpy.load_file(first)))
  value = safetensors.numpy.load_file(first)[twice]
  edit_tensors(last, lambda tensors: tensors.update({twice: value}))
  assert f'{last.name}: {twice} is in {first.name} too' in fault_of(tmp_path)


def test_a_missing_tensor_is_looked_for_where_the_index_promised_it(tmp_path):
  saved(tmp_path, shard_bytes=2_500)
  last = sorted(tmp_path.glob('*.safetensors'))[-1]
  edit_tensors(last, strip('lm_head.weight'))
  assert f'{last.name}: lm_head.weight is missing' in fault_of(tmp_path)


@pytest.mark.parametrize(
  'text, fault',
  {
    '{': 'not JSON',
    '{}': 'weight_map is missing',
    '[]': 'expected a JSON object, found list',
    '[' * 100_000: 'not JSON',
    '{"weight_map": []}': 'weight_map = [] is no object',
    '{"weight_map": "x"}': "weight_map = 'x' is no object",
    '{"weight_map": {"a": 1}}': 'a is in 1, no file of this folder',
    '{"weight_map": {"a": null}}': 'a is in None, no file of this folder',
    '{"weight_map": {"a": ["b"]}}': "a is in ['b'], no file of this folder",
    '{"weight_map": {"a": "/etc/passwd"}}': "a is in '/etc/passwd', no file of this folder",
    '{"weight_map": {"a": "../b.safetensors"}}': "a is in '../b.safetensors', no file",
    '{"weight_map": {"a": ""}}': "a is in '', no file of this folder",
  }.items(),
)
def test_a_broken_index_is_named(tmp_path, text, fault):
  saved(tmp_path, shard_bytes=2_500)
  (tmp_path / 'model.safetensors.index.json').write_text(text)
  assert f'index.json: {fault}' in fault_of(tmp_path)


def test_a_tied_model_may_hold_a_copy_of_its_embedding_and_nothing_else(tmp_path):
  params = saved(tmp_path, dataclasses.replace(CONFIG, tie_word_embeddings=True))
  embed = np.asarray(params['embed'])
  edit_tensors(tmp_path / FILE, lambda tensors: tensors.update({'lm_head.weight': embed}))
  assert_same(hf.load(tmp_path)[1], params)
  edit_tensors(tmp_path / FILE, lambda tensors: tensors.update({'lm_head.weight': embed + 1}))
  assert 'lm_head.weight is not the embedding; set tie_word_embeddings' in fault_of(tmp_path)


def test_frequencies_of_rope_in_a_file_are_passed_over(tmp_path):
  saved(tmp_path)
  before = hf.load(tmp_path)[1]
  more = {f'model.layers.{i}.self_attn.rotary_emb.inv_freq': np.ones(3, 'f4') for i in range(2)}
  edit_tensors(tmp_path / FILE, lambda tensors: tensors.update(more))
  assert_same(hf.load(tmp_path)[1], before)


def test_an_untied_model_needs_its_head_and_a_scalar_one_has_none(tmp_path):
  saved(tmp_path, dataclasses.replace(CONFIG, tie_word_embeddings=True))
  edit_config(tmp_path, tie_word_embeddings=False)
  assert 'lm_head.weight is missing' in fault_of(tmp_path)
  edit_config(tmp_path, architectures=['Qwen2ForSequenceClassification'])
  assert 'score.weight is missing' in fault_of(tmp_path)
  saved(tmp_path)
  edit_config(tmp_path, architectures=['Qwen2ForSequenceClassification'])
  assert 'lm_head.weight is no tensor of this model' in fault_of(tmp_path)


def test_what_is_not_there_is_named_with_a_remedy(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such folder'):
    hf.load(tmp_path / 'absent')
  with pytest.raises(FileNotFoundError, match='someone/absent: neither a folder nor a model that'):
    hf.load('someone/absent')
  with pytest.raises(FileNotFoundError, match=r'config\.json: missing.*download'):
    hf.load(tmp_path)
  saved(tmp_path, shard_bytes=2_500)
  path = sorted(tmp_path.glob('*.safetensors'))[0]
  path.unlink()
  with pytest.raises(FileNotFoundError, match=f'{path}: named by'):
    hf.load(tmp_path)
  (tmp_path / 'model.safetensors.index.json').unlink()
  with pytest.raises(FileNotFoundError, match=r'no model\.safetensors .*save it again'):
    hf.load(tmp_path)
  with pytest.raises(ValueError, match='copy the model to a local disk'):
    hf.load('gs://bucket/model')


def test_a_hub_id_is_found_in_the_cache_offline(tmp_path, monkeypatch):
  import huggingface_hub.constants

  params = saved(tmp_path / 'models--some--model' / 'snapshots' / 'abc')
  refs = tmp_path / 'models--some--model' / 'refs'
  refs.mkdir()
  (refs / 'main').write_text('abc')
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path))
  assert_same(hf.load('some/model')[1], params)


# Saving.


def test_parameters_of_another_config_are_refused_leaf_by_leaf(tmp_path):
  params = fakes.params(CONFIG)
  params['score'] = params['norm']
  params['head'] = params['head'].T
  params['layers']['wq'] = {'a': jnp.zeros((2, 16, 1)), 'b': jnp.zeros((2, 1, 4, 6))}  # low rank
  params['norm'] = params['norm'].astype(jnp.int32)
  with pytest.raises(ValueError) as caught:
    hf.save(tmp_path / 'm', CONFIG, params)
  fault = str(caught.value)
  for name in ('score', 'head', 'layers.wq', 'layers.wq.a', 'layers.wq.b', 'norm'):
    assert f'  {name}: ' in fault
  assert len(fault.splitlines()) == 7
  assert not (tmp_path / 'm').exists()


def test_a_model_is_written_over_but_other_weights_are_not_left_beside_it(tmp_path):
  saved(tmp_path)
  params = saved(tmp_path, fakes.config(rms_norm_eps=0.5))
  config, loaded = hf.load(tmp_path)
  assert config.rms_norm_eps == 0.5
  assert_same(loaded, params)
  with pytest.raises(ValueError, match=r'holds model\.safetensors, which'):
    saved(tmp_path, shard_bytes=2_500)
  hf.load(tmp_path)  # untouched


def test_a_save_cut_short_is_not_taken_for_a_model(tmp_path, monkeypatch):
  saved(tmp_path, shard_bytes=2_500)
  to_theirs, done = mapping.to_theirs, []

  def die(tensor, array):
    done.append(tensor)
    if len(done) > 9:
      raise KeyboardInterrupt
    return to_theirs(tensor, array)

  monkeypatch.setattr(mapping, 'to_theirs', die)
  with pytest.raises(KeyboardInterrupt):
    saved(tmp_path, shard_bytes=2_500)
  with pytest.raises(FileNotFoundError, match=r'config\.json: missing'):
    hf.load(tmp_path)
  monkeypatch.setattr(mapping, 'to_theirs', to_theirs)
  params = saved(tmp_path, shard_bytes=2_500)
  assert_same(hf.load(tmp_path)[1], params)


def test_one_tensor_at_a_time_is_on_the_host(tmp_path, monkeypatch):
  """A tensor is asked for when the one before it is in the file."""
  sizes = []
  to_theirs = mapping.to_theirs

  def watched(tensor, array):
    path = tmp_path / FILE
    sizes.append(path.stat().st_size if path.exists() else 0)
    return to_theirs(tensor, array)

  config = dataclasses.replace(CONFIG, intermediate_size=4_000)  # larger than any buffer
  monkeypatch.setattr(mapping, 'to_theirs', watched)
  saved(tmp_path, config)
  big = [size for a, size in itertools.pairwise(sizes) if size - a >= 4 * 16 * 4_000]
  assert len(big) == 3 * 2


def test_saved_into_a_bucket(bucket, tmp_path):
  for _ in range(2):
    params = saved(bucket / 'model', shard_bytes=2_500)
  assert_same(hf.load(tmp_path / 'gs:' / 'bucket' / 'model')[1], params)


def test_a_tokenizer_is_saved_beside_and_gives_its_ids(tmp_path):
  from lwz.data import tokenizer as tokenizer_lib

  tokenizer = tokenizer_lib.train(['a few words to learn from, a few'], 300)
  saved(tmp_path, tokenizer=tokenizer)
  raw = json.loads((tmp_path / 'config.json').read_text())
  assert raw['eos_token_id'] == raw['bos_token_id'] == tokenizer.eos_token_id
  assert tokenizer_lib.load(tmp_path).encode('few words') == tokenizer.encode('few words')
  hf.load(tmp_path)


def test_of_one_file_beside_an_index_it_is_said_which_is_read(tmp_path):
  saved(tmp_path, shard_bytes=2_500)
  index = (tmp_path / 'model.safetensors.index.json').read_text()
  for path in tmp_path.iterdir():
    path.unlink()
  params = saved(tmp_path)
  (tmp_path / 'model.safetensors.index.json').write_text(index)
  with pytest.warns(UserWarning, match=r'model\.safetensors is read, .*index\.json and its files'):
    assert_same(hf.load(tmp_path)[1], params)


def test_every_end_is_written(tmp_path):
  saved(tmp_path, ends=(3, 5))
  assert json.loads((tmp_path / 'config.json').read_text())['eos_token_id'] == [3, 5]
