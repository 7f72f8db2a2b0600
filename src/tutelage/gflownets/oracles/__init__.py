"""Rewards from outside compiled programs: Python functions, servers, scores that are kept on disk.

Begin with `own`, objectives of one's own; `oracle` asks for each object once, `endpoint` asks a server, `score_file`
is what survives.
"""
