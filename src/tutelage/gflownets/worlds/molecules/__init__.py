"""Molecules built of fragments or of atoms, and their objectives (needs the extra `mo`, for RDKit).

Begin with `fragments` and `atoms`, the two worlds; `objectives` measures, `toolkit` is all that touches RDKit.
"""
