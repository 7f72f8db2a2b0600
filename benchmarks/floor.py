"""How fast one cycle could be on this machine: `python benchmarks/floor.py [--cores 1] [--json]`.

One domain-randomisation cycle is N environments × T steps under a recurrent policy, then E passes of PPO over them.
Whatever else an implementation does, it multiplies these matrices; so we count the products, measure at what rate XLA
multiplies *these* shapes here, and add up. The element-wise work of the LSTM and the traffic that no fusion avoids are
measured and listed beside it. Seconds are processor seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

VIEW_INPUTS, CONV_OUTPUTS = 5 * 5 * 2, 3 * 3 * 16
"""The 5×5 view in the two channels that are ever non-zero, and its 3×3 convolution with 16 filters, flattened."""
FEATURES = CONV_OUTPUTS + 5
HIDDEN, HEADS = 256, 64
BATCH = 0.1
"""Processor seconds of a batch of calls."""


@dataclass(frozen=True)
class Product:
    """[m, k] @ [k, n], `count` times a cycle; `chained`: each needs the result of the one before (a time step)."""

    part: str
    name: str
    m: int
    k: int
    n: int
    count: int
    chained: bool = False

    @property
    def operations(self) -> int:
        """Floating-point operations in a cycle: a multiplication and an addition per entry."""
        return 2 * self.m * self.k * self.n * self.count


def convolution_operations(rows: int) -> int:
    """The convolution's own operations for `rows` views, however it is carried out: 9 windows of 3·3·2 inputs."""
    return 2 * rows * 9 * 18 * 16


def products(num_envs: int, num_steps: int, num_epochs: int) -> list[Product]:
    """Every matrix product of a cycle with the LSTM-256 student, batched over time wherever time allows it."""
    n, t, gates = num_envs, num_steps, 4 * HIDDEN
    rows = n * t
    return [
        Product("rollout", "input", n, FEATURES, gates, t),
        Product("rollout", "recurrence", n, HIDDEN, gates, t, chained=True),
        Product("rollout", "heads", n, HIDDEN, HEADS, t),
        Product("forward", "input", rows, FEATURES, gates, num_epochs),
        Product("forward", "recurrence", n, HIDDEN, gates, num_epochs * t, chained=True),
        Product("forward", "heads", rows, HIDDEN, HEADS, num_epochs),
        Product("backward", "heads: gradient of features", rows, HEADS, HIDDEN, num_epochs),
        Product("backward", "heads: gradient of weights", HIDDEN, rows, HEADS, num_epochs),
        Product("backward", "recurrence", n, gates, HIDDEN, num_epochs * t, chained=True),
        Product("backward", "recurrence: gradient of weights", HIDDEN, rows, gates, num_epochs),
        Product("backward", "input: gradient of features", rows, gates, FEATURES, num_epochs),
        Product("backward", "input: gradient of weights", FEATURES, rows, gates, num_epochs),
    ]


def least(call: Callable[[], object], seconds: float) -> float:
    """The least processor time of a call, over batches of calls that last long enough to be accounted for exactly.

    (The time of threads that are running on another core at that moment reaches the process's sum late.)
    """
    start = time.process_time()
    for _ in range(3):
        call()
    number = max(1, round(3 * BATCH / max(time.process_time() - start, 1e-6)))
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = time.process_time()
        for _ in range(number):
            call()
        took = time.process_time() - start
        best, spent = min(best, took / number), spent + max(took, 1e-3)
    return best


def product_seconds(product: Product, seconds: float) -> float:
    """Processor seconds that this product takes in a cycle, at the rate measured for its shape."""
    import jax
    import jax.numpy as jnp

    k_a, k_b = jax.random.split(jax.random.key(0))
    a = jax.random.normal(k_a, (product.m, product.k))
    b = jax.random.normal(k_b, (product.k, product.n)) / product.k**0.5
    if not product.chained and product.m < 1024 and product.k < 1024:
        # Too small to time alone: as many as a rollout has, each on another row block so that none is left out.
        many = jnp.broadcast_to(a, (256, *a.shape)) + jnp.arange(256.0)[:, None, None]
        run = jax.jit(lambda many, b: jax.lax.map(lambda a: a @ b, many).sum())
        return least(lambda: run(many, b).block_until_ready(), seconds) * product.count / 256
    if product.chained:
        width = product.k

        def step(a: jax.Array, _: None) -> tuple[jax.Array, None]:
            out = a @ b
            return jnp.resize(out, (product.m, width)) if out.shape[1] < width else out[:, :width], None

        run = jax.jit(lambda a: jax.lax.scan(step, a, None, length=256)[0])
        return least(lambda: run(a).block_until_ready(), seconds) * product.count / 256
    run = jax.jit(jnp.matmul)
    return least(lambda: run(a, b).block_until_ready(), seconds) * product.count


def gate_seconds(num_envs: int, num_steps: int, num_epochs: int, seconds: float) -> float:
    """Processor seconds of the LSTM's element-wise work in a cycle: five squashings a unit, forward only."""
    import jax
    import jax.numpy as jnp

    z = jax.random.normal(jax.random.key(0), (num_steps, num_envs, 4 * HIDDEN))

    def step(cell: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        i, f, g, o = jnp.split(z, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        return cell, jax.nn.sigmoid(o) * jnp.tanh(cell)

    run = jax.jit(lambda z: jax.lax.scan(step, jnp.zeros((num_envs, HIDDEN)), z)[1])
    return least(lambda: run(z).block_until_ready(), seconds) * (1 + num_epochs)


def bandwidth(seconds: float) -> float:
    """Bytes read and written per processor second by an element-wise operation on 256 MB."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones((64 * 2**20,), jnp.float32)
    run = jax.jit(lambda x: 1.5 * x)
    return 2 * x.nbytes / least(lambda: run(x).block_until_ready(), seconds)


def traffic(num_envs: int, num_steps: int, num_epochs: int) -> int:
    """Bytes that a cycle moves between arrays too large for the caches, if each is written and read once per use.

    Per pass over the rollout: the input's share of the gates (written, read), the gates (written, read), their
    gradients (written; read by three products), and of the hidden width: h, c, tanh c (written; read once, h twice)
    and the gradient of h (written, read).
    """
    row = 4 * HIDDEN * 8 + HIDDEN * 9
    return 4 * num_envs * num_steps * row * num_epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=32)
    parser.add_argument("--num-steps", type=int, default=256)
    parser.add_argument("--num-epochs", type=int, default=5)
    parser.add_argument("--cores", type=int, default=0, help="use only so many cores (Linux); 0: all")
    parser.add_argument("--seconds", type=float, default=1.0, help="processor seconds spent on measuring each shape")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    given = parser.parse_args()
    if given.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])

    sizes = (given.num_envs, given.num_steps, given.num_epochs)
    rows = [(product, product_seconds(product, given.seconds)) for product in products(*sizes)]
    gates, bytes_per_second = gate_seconds(*sizes, given.seconds), bandwidth(given.seconds)
    moved = traffic(*sizes)
    operations = sum(product.operations for product, _ in rows)
    total = sum(took for _, took in rows)
    convolution = convolution_operations(given.num_envs * given.num_steps) * (1 + 2 * given.num_epochs)
    record = {
        "sizes": dict(zip(("num_envs", "num_steps", "num_epochs"), sizes, strict=True)),
        "cores": len(os.sched_getaffinity(0)),
        "products": [
            {"part": p.part, "name": p.name, "shape": [p.m, p.k, p.n], "count": p.count, "operations": p.operations}
            | {"cpu_seconds": took, "operations_per_second": p.operations / took}
            for p, took in rows
        ],
        "operations": operations + convolution,
        "products_cpu_seconds": total,
        "convolution_cpu_seconds": convolution * total / operations,
        "gates_cpu_seconds": gates,
        "traffic_bytes": moved,
        "bytes_per_second": bytes_per_second,
        "traffic_cpu_seconds": moved / bytes_per_second,
    }
    record["floor_cpu_seconds"] = total + record["convolution_cpu_seconds"] + gates
    if given.json:
        print(json.dumps(record))
        return
    for p, took in rows:
        shape, gigas = f"[{p.m}, {p.k}] @ [{p.k}, {p.n}]", p.operations / 1e9
        rate = f"{took:7.3f} s {gigas / took:6.1f} Gop/s"
        print(f"{p.part:9} {p.name:32} {shape:28} x{p.count:<6} {gigas:7.2f} Gop {rate}")
    print(f"products      {operations / 1e9:8.1f} Gop {total:7.3f} s ({operations / 1e9 / total:.1f} Gop/s)")
    print(f"convolution   {convolution / 1e9:8.1f} Gop {record['convolution_cpu_seconds']:7.3f} s at the same rate")
    print(f"gates                      {gates:7.3f} s")
    print(f"floor                      {record['floor_cpu_seconds']:7.3f} s of processor time a cycle")
    took, rate = record["traffic_cpu_seconds"], bytes_per_second / 1e9
    print(f"traffic       {moved / 1e9:8.2f} GB  {took:7.3f} s at {rate:.1f} GB/s, if nothing hides it")


if __name__ == "__main__":
    main()
