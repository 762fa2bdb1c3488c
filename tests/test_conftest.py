"""The weather of the tests is as conftest.py promises."""

import socket

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from lwz.learn import advantage


def test_eight_devices():
  assert len(jax.devices()) == 8


def test_no_silent_promotion():
  with pytest.raises(ValueError, match='rank_promotion'):
    jnp.ones((2, 3)) + jnp.ones(3)
  with pytest.raises(jax.dtypes.TypePromotionError):
    jnp.ones(3) + jnp.arange(3)


def test_a_wrong_shape_is_named_at_the_call():
  with pytest.raises(jaxtyping.TypeCheckError, match='reward_PG'):
    advantage.group_relative(jnp.ones(3))
  with pytest.raises(jaxtyping.TypeCheckError, match='reward_PG'):
    jax.jit(advantage.group_relative)(jnp.ones(3))


def test_no_network():
  with pytest.raises(ConnectionRefusedError, match='without a network'):
    socket.create_connection(('192.0.2.1', 80), timeout=1)
