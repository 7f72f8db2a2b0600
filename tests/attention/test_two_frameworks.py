"""The PyTorch layer and its JAX twin are each the other's oracle, with the same weights."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import Tensor

from tutelage.attention.compositional.layer import CompositionalAttention
from tutelage.nn.compositional_attention import CompositionalAttention as Twin
from tutelage.nn.compositional_attention import compositional_attention

WIDTH, SEARCHES, RETRIEVALS, SELECT = 12, 3, 2, 5
KINDS = [("dot", False), ("dot", True), ("linear", False), ("mlp", False), ("static", False)]


def pair(competition: str, own: bool) -> tuple[CompositionalAttention, Twin]:
    """A layer with weights of a trained one's size, biases not 0, and the twin that has them too."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d_search": 12, "d_value": 8, "d_select": SELECT, "per_retrieval_key": own}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of linear, whose value query has no effect
        layer = CompositionalAttention(WIDTH, SEARCHES, RETRIEVALS, competition=competition, **sizes)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    kind = functools.partial(compositional_attention, competition=competition, **sizes)
    twin = eqx.filter_eval_shape(kind, jax.random.key(0), WIDTH, SEARCHES, RETRIEVALS)  # every array is replaced
    state = {name: jnp.asarray(value.numpy()) for name, value in layer.state_dict().items()}
    names = {"query": "query", "key": "key", "value": "value", "select": "value_query", "merge": "output"}
    for mine, theirs in names.items():
        replaced = (state[f"{theirs}.weight"].T, state[f"{theirs}.bias"])
        twin = eqx.tree_at(lambda t, mine=mine: (getattr(t, mine).weight, getattr(t, mine).bias), twin, replaced)
    compete = twin.competition
    shift = state["competition.bias"] if own or competition == "mlp" else jnp.zeros(())
    last = state["competition.weight_out"][0] if competition == "mlp" else jnp.zeros(())
    assert compete.first.shape == state["competition.weight"].shape
    assert (compete.shift.shape, compete.last.shape) == (shift.shape, last.shape)
    replaced = (state["competition.weight"], shift, last)
    twin = eqx.tree_at(lambda t: (t.competition.first, t.competition.shift, t.competition.last), twin, replaced)
    return layer, twin


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@eqx.filter_jit
def answers(twin: Twin, x: jax.Array, memory: jax.Array, visible: jax.Array, to: jax.Array, causal: bool) -> Any:
    """Output, A, C, and the gradients of the output's product with `to`."""

    def loss(both: tuple[Twin, jax.Array]) -> tuple[jax.Array, Any]:
        found = both[0].inspect(both[1], memory, visible, causal=causal)
        return (found[0] * to).sum(), found

    (_, found), (twin, x) = eqx.filter_value_and_grad(loss, has_aux=True)((twin, x))
    return *found, twin, x


@pytest.mark.parametrize(
    ("competition", "own", "masks"), [(*KINDS[0], "pattern"), *[(*kind, "both") for kind in KINDS]]
)
def test_the_twin_gives_the_same(competition: str, own: bool, masks: str) -> None:
    layer, twin = pair(competition, own)
    x, memory, to = tokens(2, 4, WIDTH).requires_grad_(), tokens(2, 5, WIDTH, seed=2), tokens(2, 4, WIDTH, seed=4)
    real = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    pattern = torch.rand(2, SEARCHES, 4, 5, generator=torch.Generator().manual_seed(3)) > 0.5
    pattern[0, :, 1] = False  # a token that sees nothing
    if masks == "both":
        given: dict[str, Any] = {"key_padding_mask": real, "is_causal": True}
        visible = jnp.asarray(real.numpy())[:, None, None]
    else:
        given, visible = {"attn_mask": pattern}, jnp.asarray(pattern.numpy())
    wanted, activations = layer(x, memory, need=("search", "competition"), **given)
    (wanted * to).sum().backward()
    arrays = [jnp.asarray(each.detach().numpy()) for each in (x, memory)]
    out, search, chosen, grad, x_grad = answers(twin, *arrays, visible, jnp.asarray(to.numpy()), masks == "both")
    for mine, theirs in ((out, wanted), (search, activations["search"]), (chosen, activations["competition"])):
        np.testing.assert_allclose(np.asarray(mine), theirs.detach().numpy(), rtol=1e-6, atol=1e-6)
    for mine, theirs in (
        (grad.query.weight.T, layer.query.weight),
        (grad.value.weight.T, layer.value.weight),
        (grad.select.weight.T, layer.value_query.weight),
        (grad.competition.first, layer.competition.weight),
        (x_grad, x),
    ):
        assert theirs is not None and theirs.grad is not None
        np.testing.assert_allclose(np.asarray(mine), theirs.grad.numpy(), rtol=1e-5, atol=1e-5)
