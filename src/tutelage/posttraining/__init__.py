"""Finetuning language models: verifiable tasks, graders, rewards, and the algorithms that learn from them."""
