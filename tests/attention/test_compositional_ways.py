"""Every way to compute compositional attention gives what the page's formulas give, with every limit and gradient."""

from __future__ import annotations

import warnings

import pytest
import torch
from literal_attention import literal, shaken

from tutelage.attention.cache import LayerCache
from tutelage.attention.compositional import fused, pairs, tiled
from tutelage.attention.compositional.layer import CompositionalAttention
from tutelage.attention.compositional.pairs import dots, mixture

DOUBLE = torch.float64
WAYS = ("stacked", "expanded", "literal", "auto")
CASES = ("free", "causal", "padding", "cross", "boolean", "additive", "alone", "alone causal")


def made(backend: str, dtype: torch.dtype = DOUBLE, **options) -> CompositionalAttention:
    options = {"d_value": 12, "d_select": 6} | options
    return shaken(CompositionalAttention(8, 4, 3, backend=backend, **options).to(dtype))


def tokens(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def limits(case: str) -> tuple[dict, dict, torch.Tensor | None, torch.Tensor | None]:
    """The layer's options, the call's, the memory, and what all that allows, (B, S, N, M) or what broadcasts to it."""
    memory = tokens(2, 9, 8, seed=1) if case == "cross" else None
    queries, keys = 7, 7 if memory is None else 9
    draw = torch.Generator().manual_seed(3)
    at, to = torch.arange(queries)[:, None], torch.arange(keys)[None]
    real = torch.ones(2, keys, dtype=torch.bool)
    real[0, 4:], real[1, :3] = False, False
    allowed = torch.rand(4, queries, keys, generator=draw) < 0.6
    match case:
        case "causal":
            return {}, {"is_causal": True}, None, to <= at
        case "padding":
            # Causal and padded on the left: the first queries of the second row have no key at all.
            return {}, {"is_causal": True, "key_padding_mask": real}, None, (to <= at) & real[:, None, None]
        case "cross":
            return {}, {"key_padding_mask": real}, memory, real[:, None, None]
        case "boolean":
            allowed[:, 2] = False
            return {}, {"attn_mask": allowed, "key_padding_mask": real}, None, allowed & real[:, None, None]
        case "additive":
            mask = torch.zeros(4, queries, keys, dtype=DOUBLE).masked_fill(~allowed, -torch.inf)
            return {}, {"attn_mask": mask}, None, allowed
        case "alone":
            return {"exclude_self": True}, {}, None, to != at
        case "alone causal":
            return {"exclude_self": True}, {"is_causal": True}, None, to < at
    return {}, {}, None, None


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", WAYS)
def test_every_way_gives_the_pages_formulas_and_their_gradients_under_every_limit(backend, case, monkeypatch):
    options, call, memory, allowed = limits(case)
    monkeypatch.setattr(tiled, "TILE", 24)  # several tiles a row
    wanted_layer, layer = made("literal", **options), made(backend, **options)
    direction = tokens(2, 7, 8, seed=9)
    results = []
    for use, way in ((wanted_layer, None), (layer, backend)):
        x = tokens(2, 7, 8).requires_grad_()
        y = None if memory is None else memory.clone().requires_grad_()
        out = use(x, y, **call) if way else literal(use, x, y, allowed)[0]
        leaves = [x, *use.parameters(), *([] if y is None else [y])]
        results.append((out, *torch.autograd.grad((out * direction).sum(), leaves)))
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["stacked", "expanded"])
@pytest.mark.parametrize("case", ["causal", "padding", "cross"])
def test_in_single_precision_outputs_agree_to_1e_5_and_gradients_to_1e_4(backend: str, case: str):
    _, call, memory, allowed = limits(case)
    found, wanted = [], []
    for use, values in ((made(backend, torch.float32), found), (made("literal", torch.float32), wanted)):
        x, y = tokens(2, 7, 8, dtype=torch.float32).requires_grad_(), None if memory is None else memory.float()
        out = use(x, y, **call) if values is found else literal(use, x, y, allowed)[0]
        values += [out, *torch.autograd.grad(out.square().sum(), [x, *use.parameters()])]
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    for one, other in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", WAYS)
def test_in_bfloat16_outputs_are_within_2e_2(backend: str):
    torch.manual_seed(0)
    layer = CompositionalAttention(32, 4, 2, backend=backend)
    x = torch.randn(2, 16, 32)
    wanted = layer(x, is_causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x, is_causal=True)
    mixed.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())
    low = layer.to(torch.bfloat16)(x.to(torch.bfloat16), is_causal=True)
    for found in (mixed, low):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    "options",
    [
        {"competition": "mlp"},
        {"competition": "mlp", "bias": False},
        {"competition": "static"},
        {"per_retrieval_key": True},
        {"bias": False},
        {"compose_query": True},
        {"join_input": True, "temperature": 0.5},
        {"d_search": 20, "d_value": 6},
    ],
    ids=str,
)
def test_every_variant_is_what_its_formula_says(options: dict):
    x = tokens(2, 7, 8)
    for backend in ("stacked", "expanded"):
        layer = made(backend, **options)
        out, found = layer(x, need=("competition",))
        wanted, _, c = literal(layer, x)
        torch.testing.assert_close(out, wanted, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found["competition"], c, rtol=1e-10, atol=1e-10)


def test_search_activations_are_the_rows_of_a_and_empty_says_which_rows_allow_nothing():
    _, call, _, allowed = limits("padding")
    layer, x = made("auto"), tokens(2, 7, 8)
    out, found = layer(x, **call, need=("search", "competition", "empty"))
    wanted, a, c = literal(layer, x, None, allowed)
    for one, other in ((out, wanted), (found["search"], a), (found["competition"], c)):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert torch.equal(found["empty"], a.sum(-1) == 0) and found["empty"].any()
    assert torch.equal(out[1, 0], layer.output.bias)
    assert not layer(x, need=("empty",))[1]["empty"].any()


@pytest.mark.parametrize("backend", WAYS)
def test_rows_that_allow_nothing_have_finite_gradients(backend: str):
    layer, x = made(backend), tokens(2, 7, 8).requires_grad_()
    mask = torch.ones(7, 7, dtype=torch.bool)
    mask[3] = False
    additive = torch.zeros(7, 7, dtype=DOUBLE).masked_fill(~mask, -torch.inf)
    for given in (mask, additive):
        out = layer(x, attn_mask=given)
        assert torch.equal(out[:, 3], layer.output.bias.expand(2, 8))
        out.sum().backward()
    assert torch.isfinite(x.grad).all() and all(torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize("positions", ["none", "rotary", "relative"])
@pytest.mark.parametrize("steps", [(1,) * 6, (3, 1, 2)])
def test_decoding_with_a_cache_gives_what_one_full_pass_gives(positions: str, steps: tuple[int, ...]):
    layer = made("auto", torch.float32, positions=positions, exclude_self=False).eval()
    x = tokens(2, 6, 8, dtype=torch.float32)
    real = torch.ones(2, 6, dtype=torch.bool)
    real[1, 0] = False
    wanted = layer(x, is_causal=True, key_padding_mask=real)
    cache, start, parts = LayerCache(), 0, []
    with torch.no_grad():
        for number in steps:
            end = start + number
            parts.append(layer(x[:, start:end], is_causal=True, key_padding_mask=real[:, :end], cache=cache))
            start = end
    assert cache.length == 6 and cache.k.shape == (2, 4, 6, 2) and cache.v.shape == (2, 3, 6, 4)
    torch.testing.assert_close(torch.cat(parts, 1), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_positions_inside_the_scores_know_distances_only(positions: str):
    layer = made("stacked", positions=positions)
    x = tokens(1, 4, 8)
    padded = torch.cat((tokens(1, 5, 8, seed=4), x), 1)
    real = torch.arange(9)[None] >= 5
    torch.testing.assert_close(layer(padded, key_padding_mask=real)[:, 5:], layer(x), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(layer(x.flip(1)).flip(1), layer(x))
    other = made("literal", positions=positions)
    torch.testing.assert_close(other(x, is_causal=True), layer(x, is_causal=True), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_the_tiles_gradient_of_relative_positions_is_the_literal_one(causal: bool, monkeypatch):
    monkeypatch.setattr(tiled, "TILE", 24)
    x, y = tokens(2, 7, 8), tokens(2, 9, 8, seed=1)
    grads = []
    for backend in ("stacked", "literal", "expanded"):
        layer = made(backend, positions="relative")
        layer(x, y, is_causal=causal).square().sum().backward()
        grads.append(layer.relative.weight.grad)
    for grad in grads[1:]:
        torch.testing.assert_close(grad, grads[0], rtol=1e-10, atol=1e-10)


def test_auto_takes_what_was_measured_as_fastest():
    long = fused.SHORT + 1
    q, few, many = tokens(1, 4, long, 2), tokens(1, 2, long, 2), tokens(1, 3, long, 2)
    free, real = (
        fused.Masks(None, None, True, False),
        fused.Masks(None, torch.ones(1, long, dtype=torch.bool), False, False),
    )

    def way(
        v: torch.Tensor, masks: fused.Masks = free, dropout: float = 0.0, queries: int = long, positions: bool = False
    ):
        return fused.chosen("auto", q[:, :, :queries], q, v, masks, dropout, positions, ())

    assert fused.chosen("auto", q[:, :, 1:], q[:, :, 1:], many[:, :, 1:], free, 0.0, False, ()) == "literal"

    assert (way(few), way(many), way(few, real), way(few, dropout=0.1)) == ("expanded", *["stacked"] * 3)
    assert (way(few, queries=1), way(few, queries=2), way(few, positions=True)) == ("literal", "stacked", "stacked")


@pytest.mark.parametrize("backend", ["stacked", "expanded", "literal"])
def test_dropout_is_on_a_follows_from_the_generator_and_keeps_the_mean(backend: str, monkeypatch):
    monkeypatch.setattr(tiled, "TILE", 24)
    layer, x = made(backend, dropout=0.5), tokens(1, 7, 8)

    def drawn(seed: int) -> torch.Tensor:
        return layer(x, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    torch.manual_seed(0)
    first = layer(x)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first)
    # With values and competition that are the same for all tokens and retrievals, O is what is left of A's rows.
    layer.value.weight.data.zero_()
    draw = torch.Generator().manual_seed(0)
    q, k, v = tokens(1, 4, 7, 2), tokens(1, 4, 7, 2, seed=1), torch.ones(1, 3, 7, 4, dtype=DOUBLE)
    masks = fused.Masks(None, None, False, False)
    rows = torch.stack([fused.found("stacked", q, k, v, masks, None, 0.5, draw) for _ in range(400)])
    assert torch.equal(rows[..., :1, :1].expand_as(rows), rows)  # the same mask for every retrieval
    assert rows.std(0).min() > 0.1 and (rows.mean(0) - 1).abs().max() < 0.2
    assert torch.equal(layer.eval()(x), layer(x))


def test_gradients_through_the_tiles_dropout_are_those_of_the_same_mask(monkeypatch):
    monkeypatch.setattr(tiled, "TILE", 24)
    q, k, v = (tokens(1, 2, 5, 3, seed=s).requires_grad_() for s in range(3))
    seed = torch.tensor(11)

    def out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        stacked = v.transpose(1, 2).flatten(2)
        return tiled.tiled_attention(q, k, stacked, None, None, None, seed, 0.7, True, False, 0.4)

    assert torch.autograd.gradcheck(out, (q, k, v))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors go in several blocks, as large ones do."""
    monkeypatch.setattr(pairs, "_BLOCK", 24)


def test_products_around_found_have_the_gradients_of_their_formulas():
    found, u, c = tokens(2, 3, 4, 5), tokens(2, 3, 5, seed=1), tokens(2, 3, 4, seed=2)
    for tensor in (found, u, c):
        tensor.requires_grad_()
    torch.testing.assert_close(dots(found, u), (found * u[..., None, :]).sum(-1))
    torch.testing.assert_close(mixture(c, found), (found * c[..., None]).sum(-2))
    assert torch.autograd.gradcheck(dots, (found, u)) and torch.autograd.gradgradcheck(dots, (found, u))
    assert torch.autograd.gradcheck(mixture, (c, found)) and torch.autograd.gradgradcheck(mixture, (c, found))


def test_a_mask_that_is_learnt_gets_its_gradient():
    layer, mask = made("stacked"), tokens(4, 7, 7, seed=2).requires_grad_()
    layer(tokens(2, 7, 8), attn_mask=mask).square().sum().backward()
    assert mask.grad.abs().min() > 0


def test_a_size_that_no_kernel_takes_is_computed_in_tiles_with_one_warning(monkeypatch):
    monkeypatch.setattr(fused, "_takes", lambda *_: False)
    fused._warn_once.cache_clear()
    x = tokens(2, 7, 8)
    layer = made("expanded")
    with pytest.warns(UserWarning, match="no fused kernel .* values of size 4 .* in tiles instead"):
        out = layer(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(layer(x), out)
    torch.testing.assert_close(out, literal(layer, x)[0], rtol=1e-10, atol=1e-10)


def test_it_compiles_without_a_graph_break_and_exports():
    torch._dynamo.reset()
    layer = made("stacked", torch.float32)
    x, real = tokens(2, 7, 8, dtype=torch.float32), torch.ones(2, 7, dtype=torch.bool)
    real[0, 5:] = False
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    wanted = layer(x, key_padding_mask=real, is_causal=True)
    found = compiled(x, key_padding_mask=real, is_causal=True)
    torch.testing.assert_close(found, wanted)
    found.square().sum().backward()
    grads = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    wanted.square().sum().backward()
    for one, parameter in zip(grads, layer.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)
    exported = torch.export.export(layer.eval(), (x,), {"is_causal": True}).module()
    torch.testing.assert_close(exported(x, is_causal=True), layer(x, is_causal=True))
