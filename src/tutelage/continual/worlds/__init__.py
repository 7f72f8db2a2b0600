"""Families of decision processes, each a table and a stepper at once."""
