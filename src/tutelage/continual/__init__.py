"""Average reward and mixing: how slowly a policy's chain forgets, and agents that plan with its stationary law."""
