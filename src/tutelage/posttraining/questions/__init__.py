"""What is asked: questions with answers from files, hubs and generators, and what is practised and tested on.

Begin with `question`; `sources` knows other people's sets, `tasks` makes training and test of any of them.
"""
