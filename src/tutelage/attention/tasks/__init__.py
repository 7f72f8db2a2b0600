"""Tasks that tell attention mechanisms apart: data, the model around the layer, and figures."""
