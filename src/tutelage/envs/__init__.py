"""Worlds as pure step functions, their levels and renderers; adapters to others' environments."""
