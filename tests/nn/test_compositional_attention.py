"""Compositional attention in JAX. Its oracle is the PyTorch layer (tests/attention/test_two_frameworks.py)."""

from __future__ import annotations

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.lab.errors import BadInput
from tutelage.nn.compositional_attention import compositional_attention
from tutelage.nn.transformer import attend


def test_one_retrieval_is_multihead_attention_with_one_value() -> None:
    @jax.jit
    def both(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        k_layer, k_x = jax.random.split(key)
        layer, x = compositional_attention(k_layer, 8, 4, 1), jax.random.normal(k_x, (2, 5, 8))
        query, k = (part(x).reshape(2, 5, 4, 2) for part in (layer.query, layer.key))
        value = jnp.broadcast_to(layer.value(x)[:, :, None], (2, 5, 4, 2))
        heads = attend(query, k, value, jnp.tri(5, dtype=jnp.bool_))
        return layer(x, causal=True), layer.merge(heads.reshape(2, 5, 8))

    out, wanted = both(jax.random.key(0))
    np.testing.assert_allclose(np.asarray(out), np.asarray(wanted), atol=1e-6)


@pytest.mark.parametrize(("retrievals", "count"), [(1, 248_800), (2, 265_248), (4, 298_144)])
def test_parameters_are_those_of_the_publication(retrievals: int, count: int) -> None:
    layer = eqx.filter_eval_shape(compositional_attention, jax.random.key(0), 256, 4, retrievals)
    # The bias of shared value keys has no effect, and is not there: e = 32 numbers.
    arrays = jax.tree_util.tree_leaves(
        (layer.query, layer.key, layer.value, layer.select, layer.merge, layer.competition.first)
    )
    assert sum(array.size for array in arrays) + 32 == count


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"searches": 3}, "width = 8: must be a multiple of searches = 3, such as 6 or 9"),
        ({"d_value": 7}, "d_value = 7: must be a multiple of retrievals = 2, such as 6 or 8"),
        ({"retrievals": 0}, "retrievals = 0: must be at least 1"),
        ({"competition": "dott"}, "competition = 'dott': must be one of dot, linear, mlp, static; did you mean 'dot'?"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    sizes = {"d_search": None, "searches": 4, "retrievals": 2, **settings}
    if settings.get("searches"):
        sizes["d_search"] = 9  # the width itself is then what does not divide
    with pytest.raises(BadInput, match=re.escape(message)):
        compositional_attention(jax.random.key(0), 8, **sizes)  # type: ignore[arg-type]
