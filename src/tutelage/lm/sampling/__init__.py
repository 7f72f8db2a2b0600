"""From a model's logits to continuations and log-probabilities, on token ids, for one copy of a model.

`decoding` is where to begin: `sample` draws many continuations of many prompts, and its `Decoder` lets rows come and go
while all advance together. A row is in `rows`; what is drawn from its logits, and how (`Sampling`), in `next_token`,
with one random number for each row and position. `shared_cache` and `shared_attention` read a prompt once for all its
rows; `fallback` says which architectures they cover and runs `generate()` with the same draws for the others. `scoring`
gives the log-probabilities of given continuations. `worker` is the thread behind `tutelage.lm.huggingface`, which
speaks in texts. Logits that are no distribution (NaN) end a row with a failure that names the token.
"""
