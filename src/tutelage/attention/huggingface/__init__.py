"""Language models with any of our attentions as transformers knows models: a folder that the Auto classes read.

Begin with `models`; `config` is what stands in `config.json`, `cache` what decoding keeps.
"""
