"""Problems written in JAX: hypergrids, sequences with counted motifs, Ehrlich functions; their exact fronts."""
