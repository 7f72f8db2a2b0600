"""Compositional attention (Mittal et al. 2022): searches and retrievals as two pools, and a competition between them.

Begin with `layer`, the module itself; `fused` computes it without the matrix of all weights, by `tiled` and `pairs`;
`competition` is how a search chooses.
"""
