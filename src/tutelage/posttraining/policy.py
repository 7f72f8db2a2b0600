"""What answers questions: a model, its tokenizer, and how a question becomes tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.lab.errors import BadInput
from tutelage.lm.sampling.decoding import sample
from tutelage.lm.sampling.next_token import Sampling
from tutelage.lm.sampling.rows import Row, Sample
from tutelage.lm.tokens import decode, prompt_ids
from tutelage.lm.training.batches import Example, end_token, response_ids
from tutelage.posttraining.questions.question import Question

PLAIN = "Question: {question}\nAnswer:\n"
"""How a question is asked by default; it ends in a new line, over which no tokenizer joins tokens."""


@dataclass(frozen=True, eq=False)
class Policy:
    """A language model that answers questions.

    Attributes:
        model: a causal language model of transformers; it is read, never copied, so training it changes the policy.
        tokenizer: with an end-of-sequence token.
        template: text with `{question}` in it, and worked examples before that if it is to be few-shot.
        suffix: token ids put behind every prompt (control tokens).
        allowed: asked before every token: the only ids that may come, or None for all (see `Row`).

    Raises:
        BadInput: the template has no `{question}`, or the tokenizer no end-of-sequence token.
    """

    model: Any
    tokenizer: Any
    template: str = PLAIN
    suffix: tuple[int, ...] = ()
    allowed: Callable[[Row], list[int] | None] | None = None

    def __post_init__(self) -> None:
        if self.template.count("{question}") != 1:
            raise BadInput(f"template: {self.template[:60]!r}; must have {{question}} in it, once")
        end_token(self.tokenizer)

    def prompt(self, question: Question) -> np.ndarray:
        """Token ids `[P]` of a question as it is asked (`tutelage.lm.tokens.prompt_ids`), then the suffix."""
        text = self.template.replace("{question}", question.text)
        return np.array([*prompt_ids(self.tokenizer, text), *self.suffix], np.int64)

    def example(self, question: Question, solution: str) -> Example:
        """A question and a solution to learn, the end-of-sequence token after it."""
        return Example(self.prompt(question), response_ids(self.tokenizer, solution))

    def text(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The text of a completion, without special and control tokens."""
        return decode(self.tokenizer, [int(token) for token in tokens])

    def sample(
        self,
        questions: Sequence[Question],
        num_samples: int,
        sampling: Sampling,
        seed: int | np.ndarray = 0,
        prefixes: Sequence[Sequence[int]] | None = None,
    ) -> list[list[Sample]]:
        """`[questions][num_samples]` continuations; see `tutelage.lm.sampling.decoding.sample`.

        The model is left as it was.

        Args:
            prefixes: for each question the tokens that its solutions begin with, not part of what is given back.
        """
        prompts = [self.prompt(question).tolist() for question in questions]
        if prefixes is not None:
            prompts = [[*prompt, *prefix] for prompt, prefix in zip(prompts, prefixes, strict=True)]
        return sample(self.model, prompts, num_samples=num_samples, sampling=sampling, seed=seed, allowed=self.allowed)


def spans(tokenizer: Any, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
    """`[T, 2]` first character and one past the last of each token in the completion's text (equal: no text)."""
    ids = [int(token) for token in tokens]
    pieces = [decode(tokenizer, [token]) for token in ids]
    if "".join(pieces) == decode(tokenizer, ids):
        ends = np.cumsum([len(piece) for piece in pieces])
    else:  # pieces that depend on what stands before them: bytes of one character, a first token's space
        ends = np.maximum.accumulate([len(decode(tokenizer, ids[: place + 1])) for place in range(len(ids))])
    edges = np.concatenate([[0], ends]).astype(np.int64)
    return np.stack([edges[:-1], edges[1:]], 1)
