"""A language model as an OpenAI-compatible server.

Begin with `server`; `server_format` reads requests and writes answers.
"""
