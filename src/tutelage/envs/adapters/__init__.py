"""Other people's environments behind our protocol; each needs the extra `tutelage[sim]`.

Navix, Craftax and Kinetix have no adapter yet.
"""
