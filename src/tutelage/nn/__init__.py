"""Network modules in JAX (Equinox), and distributions: small, pure, vectorised by whoever calls them.

Begin with `actor_critic`, an agent's network: an encoder, a `body` that remembers or does not, and heads;
`transformer` is the causal one of other families.
"""
