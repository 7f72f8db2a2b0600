"""Ground truth for small worlds: every state, the exact law of a policy, and a battery that environments must pass.

Begin with `law`; `enumeration` writes the states down, `conformance` is for environments of one's own.
"""
