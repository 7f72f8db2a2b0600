"""Multi-head attention and its relatives are what they are called."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tutelage.attention.baselines.mixture_of_heads import balance_losses
from tutelage.attention.cache import LayerCache
from tutelage.attention.config import AttentionConfig
from tutelage.attention.equal_parameters import equal_parameters, num_parameters
from tutelage.attention.kinds import attention_layer
from tutelage.attention.layer import AttentionLayer
from tutelage.lab.errors import BadInput


def made(kind: str, width: int = 16, **settings: Any) -> Any:
    torch.manual_seed(0)
    found = attention_layer(AttentionConfig(kind=kind, **{"searches": 4, **settings}), width).double().eval()
    for parameter in found.parameters():  # biases are not 0 in a trained layer
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.5)
    return found


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_torch(mine: Any, width: int = 16) -> nn.MultiheadAttention:
    """PyTorch's multi-head attention with the weights of ours."""
    theirs = nn.MultiheadAttention(width, mine.heads, batch_first=True, dtype=torch.float64).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in (mine.query, mine.key, mine.value)]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in (mine.query, mine.key, mine.value)]))
        theirs.out_proj.weight.copy_(mine.output.weight)
        theirs.out_proj.bias.copy_(mine.output.bias)
    return theirs


@pytest.mark.parametrize("case", ["self", "cross", "causal", "padding", "boolean", "additive"])
def test_multihead_is_the_one_of_pytorch(case: str) -> None:
    mine, x = made("multihead"), tokens(3, 5, 16)
    memory = tokens(3, 7, 16, seed=2) if case == "cross" else x
    real = torch.ones(3, 5, dtype=torch.bool)
    real[1, 3:] = False
    pattern = torch.rand(5, 5, generator=torch.Generator().manual_seed(3)) > 0.4
    pattern.fill_diagonal_(True)
    added = tokens(5, 5, seed=4)
    ours: dict[str, dict[str, Any]] = {
        "causal": {"is_causal": True},
        "padding": {"key_padding_mask": real},
        "boolean": {"attn_mask": pattern},
        "additive": {"attn_mask": added},
    }
    theirs: dict[str, dict[str, Any]] = {
        "causal": {"attn_mask": ~torch.ones(5, 5, dtype=torch.bool).tril()},
        "padding": {"key_padding_mask": ~real},
        "boolean": {"attn_mask": ~pattern},
        "additive": {"attn_mask": added},
    }
    wanted, weights = of_torch(mine)(x, memory, memory, average_attn_weights=False, **theirs.get(case, {}))
    out, found = mine(x, memory, need=("search",), **ours.get(case, {}))
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(found["search"], weights, rtol=0, atol=1e-12)
    torch.testing.assert_close(mine(x, memory, **ours.get(case, {})), wanted, rtol=0, atol=1e-12)


def test_multihead_has_the_parameters_of_the_publication() -> None:
    found = attention_layer(AttentionConfig(kind="multihead", searches=4), 256)
    assert isinstance(found, AttentionLayer)
    assert sum(parameter.numel() for parameter in found.parameters()) == 263_168
    # The official model of contextual retrieval has 29,729: these, and 8,961 of its encoder and decoder.
    assert num_parameters(AttentionConfig(kind="multihead", searches=2, join_input=True), 64) == 20_768


def test_an_unknown_baseline_is_named() -> None:
    with pytest.raises(BadInput, match=r"kind = 'multihed'.*multihead"):
        attention_layer(AttentionConfig(kind="multihed"), 16)


def test_the_value_size_is_shared_out_among_the_heads() -> None:
    assert made("multihead", d_value=24, d_search=8).value.weight.shape == (24, 16)
    with pytest.raises(BadInput, match=r"d_value = 26: .*searches = 4, such as 24 or 28"):
        attention_layer(AttentionConfig(kind="multihead", d_value=26), 16)


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(BadInput, match=r"need has 'serch'.*'search'"):
        made("multihead")(tokens(1, 2, 16), need=("serch",))


def literal_heads(mine: Any, x: Tensor, values: Tensor) -> Tensor:
    """(S, N, d_v): what each head brings for one sequence (N, D), given its values (S, N, d_v); causal."""
    brought = []
    for head in range(mine.heads):
        rows = slice(head * mine.d, (head + 1) * mine.d)
        query = x @ mine.query.weight[rows].T + mine.query.bias[rows]
        key = x @ mine.key.weight[rows].T + mine.key.bias[rows]
        brought.append(
            torch.stack(
                [
                    ((key[: n + 1] @ query[n]) / math.sqrt(mine.d)).softmax(0) @ values[head, : n + 1]
                    for n in range(len(x))
                ]
            )
        )
    return torch.stack(brought)


def test_grouped_query_is_multihead_whose_neighbours_share_keys_and_values() -> None:
    grouped, whole, x = made("grouped_query", retrievals=2), made("multihead"), tokens(2, 5, 16)
    shared = [0, 0, 1, 1]
    with torch.no_grad():
        for name in ("query", "output"):
            getattr(whole, name).load_state_dict(getattr(grouped, name).state_dict())
        for name in ("key", "value"):
            for part in ("weight", "bias"):
                blocks = getattr(getattr(grouped, name), part).chunk(2)
                getattr(getattr(whole, name), part).copy_(torch.cat([blocks[group] for group in shared]))
    torch.testing.assert_close(grouped(x, is_causal=True), whole(x, is_causal=True), rtol=0, atol=1e-12)


def test_grouped_query_needs_groups_of_equal_size() -> None:
    with pytest.raises(BadInput, match="retrievals = 3: must divide searches = 4, so be one of 1, 2, 4"):
        made("grouped_query", retrievals=3)


def test_a_mixture_of_all_heads_without_preference_is_multihead() -> None:
    for settings in ({}, {"shared_heads": 1}, {"shared_heads": 4}):
        mixed, whole, x = made("mixture_of_heads", **settings), made("multihead"), tokens(2, 5, 16)
        whole.load_state_dict({name: part for name, part in mixed.state_dict().items() if "router" not in name})
        with torch.no_grad():
            for name, parameter in mixed.named_parameters():
                if "router" in name:
                    parameter.zero_()
        torch.testing.assert_close(mixed(x), whole(x), rtol=0, atol=1e-12)


def test_a_mixture_of_heads_is_the_sum_of_the_publication() -> None:
    mine, x = made("mixture_of_heads", searches=4, shared_heads=1, top_k=2), tokens(2, 5, 16)
    mine.requires_grad_(False)
    out, found = mine(x, is_causal=True, need=("routing",))
    for row in range(2):
        values = torch.stack((x[row] @ mine.value.weight.T + mine.value.bias).split(4, -1))
        heads = literal_heads(mine, x[row], values)
        for n in range(5):
            alpha = 2 * (mine.sort_router.weight @ x[row, n]).softmax(0)
            share = (mine.routed_router.weight @ x[row, n]).softmax(0).tolist()
            best = sorted(range(3), key=lambda each: -share[each])[:2]
            total = sum(share[each] for each in best)
            gates = [float(alpha[0])]  # the softmax over one shared head is 1
            gates += [float(alpha[1]) * 2 * share[each] / total if each in best else 0.0 for each in range(3)]
            wanted = mine.output.bias.clone()
            for head, gate in enumerate(gates):
                wanted += gate * mine.output.weight[:, 4 * head : 4 * head + 4] @ heads[head, n]
            torch.testing.assert_close(out[row, n], wanted, rtol=0, atol=1e-12)
            torch.testing.assert_close(found["routing"][row, n].tolist(), gates, rtol=0, atol=1e-12)


def test_the_load_balance_loss_is_told_once_for_each_call_and_moves_only_the_router() -> None:
    mine, x = made("mixture_of_heads", shared_heads=1, top_k=1), tokens(2, 5, 16)
    with balance_losses(nn.Sequential(mine)) as told:
        mine(x)
        mine(x)
    mine(x)
    share = (x.flatten(0, 1) @ mine.routed_router.weight.T).softmax(-1)
    used = torch.stack([(share.argmax(-1) == head).double().mean() for head in range(3)])
    assert len(told) == 2
    torch.testing.assert_close(told[0], 3 * (used * share.mean(0)).sum())
    told[0].backward()
    assert [name for name, part in mine.named_parameters() if part.grad is not None] == ["routed_router.weight"]


def test_the_load_balance_loss_of_balanced_heads_is_the_number_in_use() -> None:
    mine = made("mixture_of_heads", top_k=2)
    with torch.no_grad():
        mine.routed_router.weight.zero_()
    with balance_losses(mine) as told:
        mine(tokens(2, 5, 16))
    assert told[0].item() == pytest.approx(2.0, abs=1e-12)


@pytest.mark.parametrize("top_k", [0, 1, 2])
def test_switch_head_is_the_sum_of_the_publication(top_k: int) -> None:
    mine, x = made("switch_head", searches=2, retrievals=3, top_k=top_k), tokens(2, 4, 16)
    mine.requires_grad_(False)
    out, found = mine(x, is_causal=True, need=("routing",))
    d_v, used = 8, top_k or 3
    value, bias = mine.value.weight.view(2, 3, d_v, 16), mine.value.bias.view(2, 3, d_v)
    output = mine.output.weight.view(16, 2, 3, d_v)

    def gates(router: nn.Linear, token: Tensor) -> list[dict[int, Tensor]]:
        all_of = torch.sigmoid(router.weight @ token).view(2, 3)
        return [{int(e): row[e] for e in sorted(range(3), key=lambda e: -float(row[e]))[:used]} for row in all_of]

    for row in range(2):
        values = torch.zeros(2, 4, d_v, dtype=torch.float64)
        for m in range(4):
            for head, chosen in enumerate(gates(mine.source_router, x[row, m])):
                for e, gate in chosen.items():
                    values[head, m] += gate * (value[head, e] @ x[row, m] + bias[head, e])
        heads = literal_heads(mine, x[row], values)
        for n in range(4):
            wanted = mine.output.bias.clone()
            for head, chosen in enumerate(gates(mine.output_router, x[row, n])):
                for e in range(3):
                    torch.testing.assert_close(
                        found["routing"][row, n, head, e], chosen.get(e, torch.tensor(0.0)).double()
                    )
                for e, gate in chosen.items():
                    wanted += gate * output[:, head, e] @ heads[head, n]
            torch.testing.assert_close(out[row, n], wanted, rtol=0, atol=1e-12)


def test_switch_head_with_one_expert_and_half_open_gates_is_multihead() -> None:
    mine, whole, x = made("switch_head", retrievals=1), made("multihead"), tokens(2, 5, 16)
    with torch.no_grad():
        mine.source_router.weight.zero_()
        mine.output_router.weight.zero_()
        state = {name: part.clone() for name, part in mine.state_dict().items() if "router" not in name}
        for name in ("value.weight", "value.bias", "output.weight"):
            state[name] *= 0.5
    whole.load_state_dict(state)
    torch.testing.assert_close(mine(x), whole(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("mixture_of_heads", {"shared_heads": 5}, "shared_heads = 5: must be at most searches = 4"),
        ("mixture_of_heads", {"shared_heads": 2, "top_k": 3}, "top_k = 3: must be at most .* = 2"),
        ("switch_head", {"retrievals": 2, "top_k": 3}, "top_k = 3: must be at most retrievals = 2"),
        ("switch_head", {"retrievals": 2, "d_value": 9}, "d_value = 9: .* retrievals = 2"),
        ("multihead", {"d_search": 6}, "d_search = 6: .* searches = 4"),
    ],
)
def test_settings_that_contradict_each_other_are_named(kind: str, settings: dict[str, int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        made(kind, **settings)


KINDS = [
    ("multihead", {}),
    ("grouped_query", {"retrievals": 2}),
    ("mixture_of_heads", {"shared_heads": 1, "top_k": 2}),
    ("switch_head", {"retrievals": 2, "top_k": 1}),
]


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_fused_and_literal_agree_whatever_the_masks(kind: str, settings: dict[str, int]) -> None:
    mine, x, memory = made(kind, join_input=True, **settings), tokens(2, 5, 16), tokens(2, 6, 16, seed=5)
    real = torch.ones(2, 6, dtype=torch.bool)
    real[0, 4:] = False
    pattern = torch.rand(2, 4, 5, 6, generator=torch.Generator().manual_seed(3)) > 0.4
    added = torch.where(pattern, tokens(2, 4, 5, 6), -math.inf)
    for masks in ({}, {"is_causal": True, "key_padding_mask": real}, {"attn_mask": pattern}, {"attn_mask": added}):
        out, found = mine(x, memory, need=("search",), **masks)
        torch.testing.assert_close(mine(x, memory, **masks), out, rtol=0, atol=1e-12)
        total = found["search"].sum(-1)
        assert (((total - 1).abs() < 1e-12) | (total == 0)).all()
    out.sum().backward()
    assert all(part.grad is not None and part.grad.isfinite().all() for part in mine.parameters())


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_layers_compile_without_a_break(kind: str, settings: dict[str, int]) -> None:
    mine, x, real = made(kind, **settings), tokens(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)
    real[0, 3:] = False
    torch.compiler.reset()
    compiled = torch.compile(mine, fullgraph=True, backend="eager")
    masks: dict[str, Any] = {"is_causal": True, "key_padding_mask": real}
    torch.testing.assert_close(compiled(x, **masks), mine(x, **masks))


@pytest.mark.parametrize(("kind", "settings"), KINDS)
@pytest.mark.parametrize("positions", ["none", "rotary", "relative"])
def test_token_by_token_with_a_cache_is_the_whole_at_once(kind: str, settings: dict[str, int], positions: str) -> None:
    mine, x, cache = made(kind, positions=positions, **settings), tokens(2, 6, 16), LayerCache()
    if positions == "relative":
        nn.init.normal_(mine.relative.weight)
    real = torch.ones(2, 6, dtype=torch.bool)
    real[0, :2] = False
    with torch.no_grad():
        whole = mine(x, is_causal=True, key_padding_mask=real)
        parts = [
            mine(x[:, a:b], is_causal=True, key_padding_mask=real[:, :b], cache=cache)
            for a, b in ((0, 3), (3, 4), (4, 6))
        ]
        literal, _ = mine(x, is_causal=True, key_padding_mask=real, need=("search",))
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-6 if positions == "rotary" else 1e-12)
    torch.testing.assert_close(literal, whole, rtol=0, atol=1e-12)


def test_a_memory_is_read_once_into_a_fixed_cache() -> None:
    mine, x, memory = made("grouped_query"), tokens(2, 2, 16), tokens(2, 5, 16, seed=2)
    cache = LayerCache().memory
    torch.testing.assert_close(mine(x, memory, cache=cache), mine(x, memory))
    torch.testing.assert_close(mine(x, torch.zeros_like(memory), cache=cache), mine(x, memory))


def test_dropout_follows_from_the_generator() -> None:
    mine, x = made("multihead", dropout=0.5).train(), tokens(2, 5, 16)
    draws = [mine(x, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    torch.manual_seed(0)
    assert not torch.equal(mine(x), mine(x))


@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS])
def test_what_cannot_be_used_is_said_before_any_work(kind: str) -> None:
    mine, x = made(kind), tokens(2, 3, 16)
    for call, message in (
        (lambda: mine(tokens(2, 3, 8)), r"x has shape \(2, 3, 8\): .* D = 16"),
        (lambda: mine(x, tokens(1, 3, 16)), "memory has 1 rows"),
        (lambda: mine(x, key_padding_mask=torch.ones(2, 4, dtype=torch.bool)), "True = a real token"),
        (lambda: mine(x, attn_mask=torch.ones(3, 3, dtype=torch.bool).triu(1)), "True = may attend"),
        (lambda: made(kind, exclude_self=True)(x, x), "exclude_self"),
        (lambda: made(kind, positions="rotary", d_search=12), "d must be even"),
    ):
        with pytest.raises(BadInput, match=message):
            call()


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_a_token_that_may_attend_to_nothing_brings_zeros(kind: str, settings: dict[str, int]) -> None:
    mine, x = made(kind, **settings), tokens(1, 3, 16)
    nothing = torch.ones(3, 3, dtype=torch.bool)
    nothing[1] = False
    out, found = mine(x, attn_mask=nothing, need=("search",))
    torch.testing.assert_close(out[0, 1], mine.output.bias)
    torch.testing.assert_close(mine(x, attn_mask=nothing), out)
    assert (found["search"][0, :, 1] == 0).all()


def test_no_token_attends_to_itself_where_that_is_excluded() -> None:
    _, found = made("multihead", exclude_self=True)(tokens(2, 4, 16), need=("search",))
    assert (found["search"].diagonal(dim1=-2, dim2=-1) == 0).all()


@pytest.mark.parametrize("retrievals", [1, 2, 4])
def test_multihead_has_the_parameters_of_a_compositional_attention(retrievals: int) -> None:
    config = AttentionConfig(searches=4, retrievals=retrievals, d_select=32)
    wanted, found = num_parameters(config, 256), equal_parameters(config, 256)
    assert wanted == {1: 248_800, 2: 265_248, 4: 298_144}[retrievals]
    assert abs(num_parameters(found, 256) - wanted) <= 1024  # half of what one more number in a head costs


def test_equal_parameters_come_from_heads_of_another_size() -> None:
    grouped = AttentionConfig(kind="grouped_query", searches=4, retrievals=1, d_search=64, d_value=16)
    found = equal_parameters(grouped, 64)
    wanted = num_parameters(grouped, 64)
    assert (found.kind, found.searches) == ("multihead", 4)
    counts = {
        2 * (64 * 4 * d + 4 * d) + (64 * 4 * d_v + 4 * d_v) + (4 * d_v * 64 + 64)
        for d in range(1, 30)
        for d_v in range(max(1, d - 1), d + 2)
    }
    assert abs(num_parameters(found, 64) - wanted) == min(abs(count - wanted) for count in counts)


def test_equal_parameters_may_be_out_of_reach() -> None:
    with pytest.raises(BadInput, match="smallest heads"):
        equal_parameters(AttentionConfig(kind="multihead", d_search=4, d_value=4), 16, kind="switch_head")
