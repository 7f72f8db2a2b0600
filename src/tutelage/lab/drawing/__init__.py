"""Pictures as SVG text: plots, small images, and the comparisons of a study's arms.

Begin with `plots`; `comparisons` draws and tabulates the results of runs, `svg` makes any drawing stand alone.
"""
