"""Between text and tokens: prompts, the seam between a context and its continuation, text as it comes, choices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.lab.errors import BadInput
from tutelage.lm.request import Message

Tokenizer = Any
"""A tokenizer of transformers; `Any` because loading it is what this module is spared."""


def context_text(tokenizer: Tokenizer, context: str | tuple[Message, ...]) -> str:
    """What the model reads: the prompt itself, or the messages in the tokenizer's chat template, opened for a reply.

    Raises `BadInput` where there is no template, or where it refuses the messages (roles in an order it forbids).
    """
    if isinstance(context, str):
        return context
    if not getattr(tokenizer, "chat_template", None):
        raise BadInput("messages need a chat template and this tokenizer has none: give a prompt instead")
    turns = [{"role": message.role, "content": message.content} for message in context]
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # whatever the template's own code raises
        raise BadInput(f"the chat template refuses these messages: {str(error).splitlines()[0]}") from error


def encode(tokenizer: Tokenizer, text: str, *, raw: bool) -> tuple[list[int], list[int]]:
    """Ids, and for each the number of characters of `text` that are read once it is in.

    `raw` prompts get the special tokens that the tokenizer puts in front (a template has written its own). An
    end-of-text token that it would put behind is left out. An empty text begins with the token for begin (else end)
    of text. Raises `BadInput` where there is neither, and for a text that is no Unicode (lone surrogates).
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"the text has a lone surrogate at character {error.start}: must be Unicode") from None
    fast = bool(getattr(tokenizer, "is_fast", False))
    found = tokenizer(
        text, add_special_tokens=raw, return_offsets_mapping=fast, return_special_tokens_mask=True, verbose=False
    )
    ids, special = list(found["input_ids"]), list(found["special_tokens_mask"])
    while ids and raw and special[-1] and ids[-1] == tokenizer.eos_token_id and not text.endswith(tokenizer.eos_token):
        ids, special = ids[:-1], special[:-1]
    if fast:
        read, ends = 0, []
        for _, end in found["offset_mapping"][: len(ids)]:
            read = max(read, end)
            ends.append(read)
    else:
        ends = [len(tokenizer.decode(ids[: n + 1], skip_special_tokens=raw)) for n in range(len(ids))]
    if not ids:
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if first is None:
            raise BadInput(
                "the prompt is empty and the tokenizer has no token to begin with: give at least one character"
            )
        return [first], [0]
    return ids, ends


def continuations(
    tokenizer: Tokenizer, context: str, options: Sequence[str], *, raw: bool
) -> list[tuple[list[int], int]]:
    """For each option the ids of context and option tokenised as one text, and how many of them are the context's.

    A token that reaches over the seam counts as the option's.
    """
    found = []
    for option in options:
        ids, ends = encode(tokenizer, context + option, raw=raw)
        split = next((place for place, end in enumerate(ends) if end > len(context)), len(ids))
        if split == 0:
            first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
            if first is None:
                raise BadInput(
                    "the context has no token before the continuation: give a context, or a tokenizer with one"
                )
            ids, split = [first, *ids], 1
        found.append((ids, split))
    return found


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many leading ids all have in common."""
    count = 0
    for column in zip(*sequences):
        if any(each != column[0] for each in column):
            break
        count += 1
    return count


@dataclass
class GrowingText:
    """The text of tokens as they come: whole characters only, and nothing that may turn out to be a stop text.

    Attributes:
        text: all so far, cut before the stop text once one is met.
        stopped: whether one is.
    """

    tokenizer: Tokenizer
    stop: tuple[str, ...] = ()
    text: str = ""
    stopped: bool = False
    _ids: list[int] = field(default_factory=list)
    _from: int = 0
    _read: int = 0
    _given: int = 0

    def push(self, token: int) -> str:
        """Takes a token; returns the text that is now certain and was not given before."""
        self._ids.append(token)
        known, now = self._decode(self._ids[self._from : self._read]), self._decode(self._ids[self._from :])
        if self.stopped or now.endswith("\ufffd"):  # the bytes of a character, not all of them yet
            return ""
        return self._grown(now[len(known) :])

    def finish(self) -> str:
        """What is left: held back text, and bytes that never became a character as U+FFFD."""
        given = self._given
        if not self.stopped:
            known, now = self._decode(self._ids[self._from : self._read]), self._decode(self._ids[self._from :])
            self._grown(now[len(known) :])
        self._given = len(self.text)
        return self.text[given:]

    def _grown(self, new: str) -> str:
        self._from, self._read = self._read, len(self._ids)
        searched = max(0, len(self.text) - max(map(len, self.stop), default=1) + 1)
        self.text += new
        places = [place for stop in self.stop if (place := self.text.find(stop, searched)) >= 0]
        if places:
            self.text, self.stopped = self.text[: min(places)], True
        certain = len(self.text) if self.stopped else len(self.text) - self._suspicious()
        piece = self.text[self._given : certain]
        self._given = max(self._given, certain)
        return piece

    def _suspicious(self) -> int:
        """Length of the longest end of the text that begins a stop text."""
        longest = min(len(self.text), max(map(len, self.stop), default=1) - 1)
        ends = (size for size in range(longest, 0, -1) if any(s.startswith(self.text[-size:]) for s in self.stop))
        return next(ends, 0)

    def _decode(self, ids: list[int]) -> str:
        return decode(self.tokenizer, ids)


def decode(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """Text without special tokens, spaces as they are."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


class Choices:
    """Which tokens may come so that the text is one of the `choices`, given as ids (a trie, walked anew for each row).

    Where a choice is the beginning of another, an end token decides between them. Raises `BadInput` where one would
    have to and there is none, for an empty choice, and for one with an end token in it.
    """

    def __init__(self, choices: Sequence[str], ids: Sequence[Sequence[int]], ends: frozenset[int]) -> None:
        self._ends = sorted(ends)
        self._names: dict[tuple[int, ...], str] = {}
        self._next: dict[tuple[int, ...], set[int]] = {}
        self.longest = max(map(len, ids)) + 1
        for name, sequence in zip(choices, ids):
            if not sequence:
                raise BadInput(f"choice {name!r} has no token: must have at least one")
            if not ends.isdisjoint(sequence):
                raise BadInput(f"choice {name!r} has an end-of-sequence token in it: nothing can follow that")
            self._names.setdefault(tuple(sequence), name)
            for place, token in enumerate(sequence):
                self._next.setdefault(tuple(sequence[:place]), set()).add(token)
        for sequence, name in self._names.items():
            if sequence in self._next and not ends:
                raise BadInput(f"choice {name!r} begins another one, and this model has no token to end it with")

    def allowed(self, tokens: Sequence[int]) -> list[int]:
        """The ids that may follow."""
        here = tuple(tokens)
        return sorted(self._next.get(here, ())) + (self._ends if here in self._names else [])

    def settled(self, tokens: Sequence[int]) -> bool:
        """Whether these tokens are a choice that no other one continues."""
        return tuple(tokens) in self._names and tuple(tokens) not in self._next

    def name(self, tokens: Sequence[int]) -> str:
        """The choice that was taken; an end token at the end does not matter."""
        here = tuple(tokens)
        return self._names[here] if here in self._names else self._names[here[:-1]]
