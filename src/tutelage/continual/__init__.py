"""Average reward and mixing times: how slowly a policy's chain forgets, and agents that plan with its stationary law."""
