"""From three pure functions to a program that the lab can drive: one module per framework.

`lab` and `measures` know no framework and the families know exactly one; what joins them lives here.
Begin with `jax_program` or `torch_program`, the `tutelage.lab.program.Program` of each; `jax_host_program` is for JAX
systems whose loop stays on the host, the `_state` modules make a state named arrays and back, the others are the
framework's compiler cache, memory and threads.
"""
