"""Worlds as pure step functions, their levels and renderers; adapters to others' environments.

Begin with `environment`, the protocol, and `conformance`, the battery that every world passes; `maze` and `classic`
are our own.
"""
