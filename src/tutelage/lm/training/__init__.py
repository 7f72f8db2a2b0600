"""Training language models: losses, batches, the shared-prefix update, supervised fine-tuning, LoRA, many processes."""
