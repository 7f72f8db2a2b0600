"""Training language models: from texts and token ids to losses, updates and models on disk.

`pretraining` makes a small model and its tokenizer from a `corpus`; `sft` fine-tunes any model on examples and is where
to begin: three verbs over a state. `batches` makes examples and tensors of texts (`encode` reads a prompt as samplers
do, see `tutelage.lm.tokens.prompt_ids`); `losses` has masks, normalisers and KL estimators in the open; `shared_prefix`
gives log-probabilities of samples with gradient, each prompt read once: reinforcement learning begins there.
`adapters` is LoRA, `distributed` several processes, `architecture` what is asked of a model whatever wraps it,
`evaluation` loss and exact match, `config` the numbers.
"""
