"""Problems written in JAX, with their exact fronts where they can be listed.

Begin with `hypergrid`; `sequences` is what `ngrams`, `ehrlich` and `aptamers` share, `molecules` needs the extra
`mo`.
"""
