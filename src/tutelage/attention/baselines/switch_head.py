"""SwitchHead: each head mixes its value projection, and its output projection, from several experts.

References: Csordás, Piękos, Irie & Schmidhuber (2023), SwitchHead: Accelerating Transformers with Mixture-of-Experts
Attention, arXiv 2312.07987.
"""

from __future__ import annotations

from torch import Tensor, nn

from tutelage.attention.baselines.multihead import MultiHead, split, started
from tutelage.attention.config import AttentionConfig
from tutelage.attention.layer import Activations


class SwitchHead(MultiHead):
    """S heads, each with R value experts and R output experts, chosen by sigmoids (they do not compete).

        V_h[m] = Σ_e s_he(m) W_V^{he} y_m,                s = σ(W_src y_m)
        out[n] = Σ_h Σ_e t_he(n) W_O^{he} (A_h V_h)[n],   t = σ(W_dst x_n)

    The sums are over the `top_k` largest gates of each head (0: all); the routers have no bias. Queries and keys are
    those of multi-head attention, and so is the cache. `d_value` of the configuration is R·d_v, of one head.

    Activations: `search`, and `routing`: t, (B, N, S, R), 0 for experts not in use.
    Deviation: all experts are computed, and those not in use multiplied by 0; with `bias`, each value expert has one,
    inside its gate, and the output one for all, outside.
    """

    def __init__(self, config: AttentionConfig, width: int) -> None:
        super().__init__(config, width)
        self.chosen = config.top_k or config.retrievals
        experts = self.heads * config.retrievals
        self.source_router = started(nn.Linear(width, experts, False))
        self.output_router = started(nn.Linear(width, experts, False))

    def make_values(self) -> None:
        size = self.heads * self.config.retrievals * self.d_v
        self.value = started(nn.Linear(self.width, size, self.config.bias))
        joined = self.d_v if self.config.join_input else 0
        self.output = started(nn.Linear(size + joined, self.width, self.config.bias))

    def gates(self, router: nn.Linear, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, S, R): the gates of the experts in use, 0 of the others."""
        gates = router(x).sigmoid().unflatten(-1, (self.heads, -1))
        if self.chosen == gates.shape[-1]:
            return gates
        chosen = gates.topk(self.chosen, -1)
        return gates.new_zeros(gates.shape).scatter(-1, chosen.indices, chosen.values)

    def values(self, memory: Tensor) -> Tensor:
        gates = self.gates(self.source_router, memory)
        experts = self.value(memory).unflatten(-1, (self.heads, self.config.retrievals, -1))
        return split((experts * gates[..., None]).sum(-2).flatten(2), self.heads)

    def merged(self, attended: Tensor, x: Tensor, found: Activations) -> Tensor:
        gates = self.gates(self.output_router, x)
        found["routing"] = gates
        return self.joined((attended.transpose(1, 2)[..., None, :] * gates[..., None]).flatten(2), x)
