"""Tasks of images, drawn here or read from files: Sort-of-CLEVR, triangles, a mix of image sets.

Each task is a module of its name, its settings `…_config`, its data `…_scenes` or `…_images`; `patches` makes tokens.
"""
