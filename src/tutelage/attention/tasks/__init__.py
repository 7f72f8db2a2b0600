"""Tasks that tell attention mechanisms apart: data, the model around the layer, and figures.

Begin with `task`, the protocol, and `contextual_retrieval`, the paper's own; `pictures` and `words` hold the others.
"""
