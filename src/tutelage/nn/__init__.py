"""JAX network modules (Equinox) and distributions."""
