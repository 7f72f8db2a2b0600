"""Sampling objects in proportion to a reward: conditional GFlowNets, their baselines, their exact law.

Begin with `environment` (how objects are built), `problem` and `method`; `learning` is the GFlowNet, `sampling` puts
a trained one to use, `exact` is the truth of small worlds, `active` measures little, `oracles` are objectives of
one's own.
"""
