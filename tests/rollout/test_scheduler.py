"""Continuous batching: a trajectory does not depend on slots, order, neighbours or a restart."""

import dataclasses
import functools
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwz.model import lora as lora_lib
from lwz.model import sharding
from lwz.programs import rollout as program
from lwz.rollout import local, queue, sampler, scheduler
from lwz.rollout import slots as slots_lib
from lwz.rollout import spec as spec_lib
from tests import fakes
from tests.rollout import reference, typist

CONFIG = fakes.config()
PARAMS = fakes.params(CONFIG)
P, G, T, STOP, TEMPERATURE = 3, 4, 12, 3, 0.7
LENGTHS = [2, 6, 1]
PROMPTS = fakes.texts(LENGTHS, CONFIG)
PAIRS = np.indices((P, G)).reshape(2, -1)
KEYS = np.asarray(sampler.trajectory_keys(0, 3, *map(jnp.asarray, PAIRS)))
SAMPLING = sampler.Sampling(TEMPERATURE, stop_ids=(STOP,))
REQUESTS = [
  scheduler.Request(PROMPTS[p], key, T, expected=float(p))
  for p, key in zip(PAIRS[0], KEYS, strict=True)
]


@functools.cache
def built(num_slots=4, num_steps=5, exact=False, **changes):
  settings = {'max_prompt_tokens': 6, 'max_tokens': T, 'sampling': SAMPLING} | changes
  config = settings.pop('config', CONFIG)
  shape = {'num_slots': num_slots, 'num_steps': num_steps, 'exact': exact}
  return program.engine(spec_lib.EngineSpec(config, **shape, **settings))


def write(engine, requests, **arguments):
  """Trajectories by the index of their request."""
  found = list(scheduler.run(engine, engine.reshard(PARAMS), requests, **arguments))
  assert len({one.index for one in found}) == len(found) == len(requests)
  return sorted(found, key=lambda one: one.index)


def forced(*lengths):
  """Requests whose trajectories have exactly these lengths."""
  return [
    scheduler.Request(PROMPTS[0], key, num, num, expected=float(num))
    for key, num in zip(KEYS, lengths, strict=False)
  ]


@functools.cache
def one_shot():
  rollout = jax.jit(
    functools.partial(
      reference.generate,
      config=CONFIG,
      num_samples=G,
      max_tokens=T,
      temperature=TEMPERATURE,
      stop_id=STOP,
    )
  )(PARAMS, fakes.padded(PROMPTS), jnp.array(LENGTHS), jnp.asarray(KEYS))
  return jax.device_get(rollout)


def assert_is(one, b, whole=None):
  whole = whole or one_shot()
  num = whole.lengths[b]
  np.testing.assert_array_equal(one.ids, whole.ids[b, :num])
  np.testing.assert_allclose(one.logp, whole.logp[b, :num], atol=1e-5)
  assert one.finished == whole.finished[b]


@pytest.mark.parametrize(
  'settings',
  [
    {},
    {'num_slots': 3, 'exact': True},
    pytest.param({'num_slots': 1, 'num_steps': 3}, marks=pytest.mark.slow),
    pytest.param({'num_slots': 16, 'num_steps': 2, 'unstack': False}, marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_a_stream_of_trajectories_is_what_one_program_writes(settings):
  written = write(built(**settings), REQUESTS)
  assert {1, T} < set(one_shot().lengths.tolist())  # so that slots are refilled
  for b, one in enumerate(written):
    assert_is(one, b)
  assert local.rollout(written, T, STOP).ids.tolist() == one_shot().ids.tolist()


def test_greedy_and_sampled_requests_are_written_side_by_side():
  mixed = [dataclasses.replace(r, greedy=i % 3 == 0) for i, r in enumerate(REQUESTS)]
  coldest = built(sampling=sampler.Sampling(0.0, stop_ids=(STOP,)))
  sampled, greedy = write(built(), REQUESTS), write(coldest, REQUESTS)
  for i, one in enumerate(write(built(), mixed)):
    expected = greedy[i] if i % 3 == 0 else sampled[i]
    np.testing.assert_array_equal(one.ids, expected.ids)
  assert any(sampled[i].ids.tolist() != greedy[i].ids.tolist() for i in range(0, len(mixed), 3))


def test_in_exact_mode_a_restart_changes_no_bit():
  """Others alive, other slots, another order: what is written again is what was written."""
  engine = built(num_slots=3, exact=True)
  whole = write(engine, REQUESTS)
  left = [7, 2, 11, 4, 0]
  again = write(engine, [REQUESTS[b] for b in left])
  alone = write(engine, [REQUESTS[6]])
  for one, b in zip([*again, *alone], [*left, 6], strict=True):
    np.testing.assert_array_equal(one.ids, whole[b].ids)
    np.testing.assert_array_equal(one.logp, whole[b].logp)


@pytest.mark.parametrize(
  'attention, shape, unstack',
  [
    ('mosaic', None, True),
    ('triton', None, False),
    ('mosaic', (2, 2, 2), False),
    pytest.param('mosaic', None, False, marks=pytest.mark.slow),
    pytest.param('triton', None, True, marks=pytest.mark.slow),
    pytest.param('triton', (2, 2, 2), True, marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_no_kernel_changes_a_token(attention, shape, unstack):
  config = fakes.config(vocab_size=16, hidden_size=16, intermediate_size=32, head_dim=16)
  params = fakes.params(config)
  plain = built(config=config, num_slots=8, exact=True)
  mesh = None if shape is None else sharding.make_mesh(shape)
  kind = {'attention': attention, 'mesh': mesh, 'unstack': unstack}
  engine = built(config=config, num_slots=8, exact=True, **kind)
  if mesh:
    params = jax.device_put(params, sharding.shardings(config, mesh, sharding.TRAIN))
  found = {r.index: r for r in scheduler.run(engine, engine.reshard(params), REQUESTS)}
  for one in scheduler.run(plain, plain.reshard(fakes.params(config)), REQUESTS):
    np.testing.assert_array_equal(one.ids, found[one.index].ids)
    np.testing.assert_allclose(one.logp, found[one.index].logp, atol=1e-5)


@pytest.mark.parametrize(
  'kind, shape, unstack',
  [
    ('int8', None, True),
    ('int8', (2, 2, 2), False),
    ('int4', None, True),
    pytest.param('int8', None, False, marks=pytest.mark.slow),
    pytest.param('int4', (2, 2, 2), False, marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_quantised_weights_write_what_those_that_they_stand_for_write(kind, shape, unstack):
  """So that the sampler's log-probabilities are a scorer's that has these weights."""
  config = fakes.config(vocab_size=16)
  params = fakes.params(config)
  mesh = None if shape is None else sharding.make_mesh(shape)
  engine = built(config=config, num_slots=8, weights=kind, mesh=mesh, unstack=unstack, exact=True)
  plain = built(config=config, num_slots=8, exact=True)
  stood_for = lora_lib.merged(lora_lib.decoded(params, config, kind), jnp.float32)
  wanted, others = (
    {r.index: r for r in scheduler.run(plain, plain.reshard(x), REQUESTS)}
    for x in (stood_for, params)
  )
  if mesh:
    params = jax.device_put(params, sharding.shardings(config, mesh, sharding.TRAIN))
  gaps = []
  for one in scheduler.run(engine, engine.reshard(params), REQUESTS):
    np.testing.assert_array_equal(one.ids, wanted[one.index].ids)
    np.testing.assert_allclose(one.logp, wanted[one.index].logp, atol=1e-5)
    gaps.append(abs(one.logp[0] - others[one.index].logp[0]))
  assert max(gaps) > 1e-3


@pytest.mark.parametrize('exact', [True, False])
def test_no_kv_segment_changes_a_token(monkeypatch, exact):
  """Blocks that end within a segment, and blocks that go over its edge."""
  monkeypatch.setattr(spec_lib.EngineSpec, 'cache_layout', spec_lib.CacheLayout(24, 24, 3))
  engine = built.__wrapped__(num_slots=3, exact=exact)
  assert engine.read_lengths == ((24,) if exact else (8, 16, 24))
  for b, one in enumerate(write(engine, REQUESTS)):
    assert_is(one, b)


@pytest.mark.parametrize(
  'shape', [(2, 1, 4), pytest.param((1, 8, 1), marks=pytest.mark.slow)], ids=str
)
def test_no_mesh_changes_a_token(shape):
  config = fakes.config(vocab_size=16, hidden_size=16, intermediate_size=32)
  params = fakes.params(config)
  settings = {'config': config, 'num_slots': 8, 'exact': True}
  mesh = sharding.make_mesh(shape)
  alone = built(**settings)
  cut = built(**settings, mesh=mesh, unstack=shape[0] == 2)
  placed = jax.device_put(params, sharding.shardings(config, mesh, sharding.TRAIN))
  found = {one.index: one for one in scheduler.run(cut, cut.reshard(placed), REQUESTS)}
  for one in scheduler.run(alone, alone.reshard(params), REQUESTS):
    np.testing.assert_array_equal(one.ids, found[one.index].ids)
    np.testing.assert_allclose(one.logp, found[one.index].logp, atol=1e-5)
  left = [7, 2, 11]  # and a restart changes no bit
  for one in scheduler.run(cut, cut.reshard(placed), [REQUESTS[b] for b in left]):
    np.testing.assert_array_equal(one.logp, found[left[one.index]].logp)


def test_nothing_is_compiled_twice_and_little_once():
  engine = built()
  write(engine, REQUESTS)
  seen = engine.decode.cache_info().currsize
  assert 1 < seen <= len(engine.batch_sizes) * len(engine.read_lengths) == 4
  write(engine, REQUESTS[::-1])
  assert engine.decode.cache_info().currsize == seen
  compiled = [engine.init, engine.move, engine.reshard]
  assert engine.admit._cache_size() <= 2  # by one prompt, by a batch of them
  batches = zip(engine.prompt_batch_sizes, engine.prompt_lengths, strict=True)
  compiled += [engine.prefill(num, size) for most, size in batches for num in {1, most}]
  assert all(one._cache_size() <= 1 for one in compiled)


def test_the_next_program_is_asked_for_while_a_block_runs():
  """One of three has ended, so that the next batch, once the second has, is of one."""
  lengths, events = (3, 9, 30), []
  plain = typist.Typist(lambda prompt, key: [7] * (lengths[key[1]] - 1) + [0], num_slots=3).engine()

  def decode(size, read):
    events.append(('asked', size))
    return lambda *arguments: events.append(('runs', size)) or plain.decode(size, read)(*arguments)

  engine = dataclasses.replace(plain, decode=decode)
  asked = [scheduler.Request(np.array([1]), np.array([0, i]), 40) for i in range(3)]
  assert [one.index for one in scheduler.run(engine, None, asked)] == [0, 1, 2]
  assert events[0] == ('asked', 3)
  again = [i for i, event in enumerate(events) if event == ('runs', 2)][1]
  assert events.index(('asked', 1)) < again < events.index(('runs', 1))


def test_a_prompt_is_read_once_for_its_group():
  stats = scheduler.Stats()
  write(built(), REQUESTS, stats=stats)
  assert stats.prefilled == P
  assert stats.tokens == one_shot().lengths.sum()
  assert stats.tokens <= stats.computed <= stats.capacity == 4 * stats.steps
  metrics = stats.metrics
  assert 0 < metrics['rollout/seconds_to_first'] <= metrics['rollout/seconds_to_last']
  assert 0 <= metrics['rollout/wasted'] < 1 and 0 < metrics['rollout/active_slots'] <= 1


def test_several_prompts_are_read_at_once_and_no_token_changes():
  engine, stats = built(), scheduler.Stats()
  first_of_each = range(0, P * G, G)
  written = write(engine, [REQUESTS[b] for b in first_of_each], stats=stats)
  for one, b in zip(written, first_of_each, strict=True):
    assert_is(one, b)
  assert stats.prefilled == P
  num, size = engine.prompt_batch_sizes[-1], engine.prompt_lengths[-1]
  assert num > 1 and engine.prefill(num, size)._cache_size() == 1
  exact = built(exact=True, num_slots=3)
  assert set(exact.prompt_batch_sizes) == {1}  # bits depend on no other prompt


def test_a_group_that_waits_in_part_is_not_read_again_though_others_are_of_another_size():
  rows, read = 4, []

  def prefill(num, size):
    return lambda params, prompts: read.append((num, size))

  def decode(params, slots, *_):  # a block in which every trajectory ends
    ids, no = np.zeros((rows, 1), np.int32), np.zeros(rows, bool)
    ones = np.ones(rows, np.int32)
    return slots, slots_lib.Block(ids, ids.astype(np.float32), ones, ~no, no, np.int32(1))

  engine = scheduler.Engine(
    reshard=lambda params: params,
    init=lambda: None,
    prefill=prefill,
    admit=lambda slots, *arguments: slots,
    move=lambda slots, *arguments: slots,
    decode=lambda num_rows, size: decode,
    compiling=lambda num_rows, size: None,
    batch_sizes=(rows,),
    read_lengths=(100,),
    prompt_lengths=(64, 100),
    prompt_batch_sizes=(1, 1),
    max_tokens=1,
    exact=True,
  )
  short, long = np.array([3]), np.full(80, 3)
  asked = [scheduler.Request(prompt, KEYS[0], 1) for prompt in (short, long, *[short] * 5)]
  assert len([*scheduler.run(engine, None, asked)]) == len(asked)
  assert sorted(read) == [(1, 64), (1, 100)]


def test_a_program_of_decoding_is_traced_once_for_each_shape(monkeypatch):
  traced = []

  def decode(*args, inner=slots_lib.decode, **options):
    traced.append((options['batch_size'], options['read_length']))
    return inner(*args, **options)

  monkeypatch.setattr(slots_lib, 'decode', decode)
  write(built.__wrapped__(), REQUESTS)
  assert len(traced) == len(set(traced)) > 1


def test_a_block_whose_program_is_being_compiled_keeps_nobody_waiting():
  begun: futures.Future = futures.Future()
  happened = []

  class Queue(queue.Queue):
    def busy(self):
      happened.append('busy')

  def decode(*shape):
    happened.append('decode')
    begun.set_result(None)
    raise RuntimeError('no further')

  plain = typist.Typist(lambda prompt, key: [7] * 5).engine()
  engine = dataclasses.replace(plain, decode=lambda *shape: decode, compiling=lambda *shape: begun)
  with pytest.raises(RuntimeError, match='no further'):
    list(scheduler.run(engine, None, Queue([scheduler.Request(PROMPTS[0], KEYS[0], 5)])))
  assert happened == ['busy', 'decode']


def test_the_tail_is_computed_in_smaller_batches():
  asked = forced(12, 2, 2, 2)
  stats = scheduler.Stats()
  assert [len(one.ids) for one in write(built(), asked, stats=stats)] == [12, 2, 2, 2]
  assert (stats.steps, stats.computed) == (12, 2 * 4 + 10)


def test_the_longest_start_first():
  seen = []
  engine = built(num_slots=3, exact=True)
  write(engine, forced(3, 9, 5, 12, 2, 7), stop_rule=lambda index, ids: seen.append(index))
  assert list(dict.fromkeys(seen)) == [3, 1, 5, 2, 0, 4]


@pytest.mark.parametrize('least, cap', [(0, 1), (5, 12), (7, 7)])
def test_the_length_of_a_trajectory_is_within_its_limits(least, cap):
  asked = [scheduler.Request(r.prompt, r.key, cap, least) for r in REQUESTS]
  for one in write(built(), asked):
    assert least <= len(one.ids) <= cap
    assert STOP not in one.ids[: least - 1]
    assert one.finished == (one.ids[-1] == STOP)
    assert np.isfinite(one.logp).all()


def test_a_stop_rule_may_end_a_trajectory_at_any_of_its_tokens():
  written = write(built(), REQUESTS, stop_rule=lambda index, ids: 2 if len(ids) > 2 else None)
  for b, one in enumerate(written):
    num = min(one_shot().lengths[b], 2)
    np.testing.assert_array_equal(one.ids, one_shot().ids[b, :num])
    assert one.finished == (one_shot().lengths[b] > 2 or one_shot().finished[b])


def test_what_was_ended_is_computed_no_further():
  stats = scheduler.Stats()
  engine = built(num_slots=3, exact=True)  # blocks of 5 steps
  keep = {0: 2}.get
  written = write(engine, forced(12, 7), stop_rule=lambda index, ids: keep(index), stats=stats)
  assert [len(one.ids) for one in written] == [2, 7]
  assert stats.steps == 7


def test_trajectories_come_as_they_end():
  asked = forced(12, 3, 8)
  engine = built()
  written = scheduler.run(engine, engine.reshard(PARAMS), asked)
  assert [one.index for one in written] == [1, 2, 0]


def test_int8_is_close_and_its_mismatch_is_seen():
  """The rounding of a key or value is at most 1/254 of its largest component."""
  asked = [scheduler.Request(r.prompt, r.key, 5, 5) for r in REQUESTS]
  engines = (built(num_slots=3, exact=True), built(num_slots=3, exact=True, int8=True))
  whole, rounded = (write(engine, asked) for engine in engines)
  gaps = []
  for a, b in zip(whole, rounded, strict=True):
    same = int(np.argmin([*(a.ids == b.ids), False]))  # up to the first token that differs
    gaps += np.abs(a.logp[: same + 1] - b.logp[: same + 1])[:same].tolist()
  assert len(gaps) > 30 and 1e-6 < np.mean(gaps) < 2e-2


@pytest.mark.parametrize(
  'request_, message',
  [
    (scheduler.Request(np.arange(7), KEYS[0], 5), r'prompt 1 has 7 tokens.*max_prompt_tokens=6'),
    (scheduler.Request(np.arange(0), KEYS[0], 5), 'prompt 1 has 0 tokens'),
    (scheduler.Request(PROMPTS[0], KEYS[0], 13), r'request 1 asks for max_tokens=13, .* 12'),
  ],
)
def test_what_no_slot_holds_is_refused_by_name(request_, message):
  with pytest.raises(ValueError, match=message):
    write(built(), [REQUESTS[0], request_])


@pytest.mark.parametrize('temperature', [0.0, TEMPERATURE])
def test_what_overflows_stops_at_its_token(temperature):
  engine = built(sampling=sampler.Sampling(temperature, stop_ids=(STOP,)))
  params = engine.reshard(PARAMS | {'norm': PARAMS['norm'] * np.nan})
  with pytest.raises(ValueError, match=r'request \d: the logits of token 0 are not finite'):
    list(scheduler.run(engine, params, REQUESTS[:3]))


@pytest.mark.parametrize('num_slots', [1, 4])
def test_a_trajectory_goes_on_where_it_stopped(num_slots):
  """Each has been begun by another number of tokens; the longest but for one."""
  whole = one_shot()
  begun = [whole.ids[b, : min(b, whole.lengths[b] - 1)] for b in range(P * G)]
  asked = [dataclasses.replace(r, begun=ids) for r, ids in zip(REQUESTS, begun, strict=True)]
  engine = built(num_slots, max_prompt_tokens=6 + T)
  stats = scheduler.Stats()
  for one in write(engine, asked, stats=stats):
    num = whole.lengths[one.index]
    np.testing.assert_array_equal(one.ids, whole.ids[one.index, :num])
    fresh = slice(len(begun[one.index]), num)
    np.testing.assert_allclose(one.logp[fresh], whole.logp[one.index, fresh], atol=1e-5)
    assert (one.logp[: fresh.start] == 0).all()
  assert stats.tokens == sum(whole.lengths) - sum(map(len, begun))


@pytest.mark.parametrize('unstack', [False, True])
def test_a_long_prompt_is_read_in_chunks(monkeypatch, unstack):
  spec = spec_lib.EngineSpec(CONFIG, 2, 16, T, sampling=SAMPLING, exact=False, unstack=unstack)
  params = program.engine(spec).reshard(PARAMS)
  prompts = fakes.padded(fakes.texts([11, 7], CONFIG))
  whole = slots_lib.prefill(params, prompts, spec)
  monkeypatch.setattr(slots_lib, 'PREFILL_CHUNK', 4)
  found = jax.jit(functools.partial(slots_lib.prefill, spec=spec))(params, prompts)
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, whole)


@pytest.mark.parametrize('unstack', [False, True])
def test_a_prefill_s_memory_is_linear_in_its_prompt(unstack):
  def temporary(num_tokens):
    spec = spec_lib.EngineSpec(
      CONFIG, 2, num_tokens, T, sampling=SAMPLING, exact=False, unstack=unstack
    )
    built = program.prefill(spec, batch_size=1, num_tokens=num_tokens).lower().compile()
    return built.memory_analysis().temp_size_in_bytes

  short, long = temporary(4_096), temporary(16_384)
  scores = 4 * CONFIG.num_attention_heads * slots_lib.PREFILL_CHUNK * 16_384  # of a chunk
  assert long < 4.1 * short and long < scores / 4
