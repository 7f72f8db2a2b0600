"""What a run is to the machine and to whoever watches it: how far it is, whether it fits, whether it was asked to stop.

Begin with `progress`; `interruption` hears signals, `memory` refuses what cannot fit before anything is compiled.
"""
