"""Between text and tokens: prompts, the seam between a context and its continuation, text as it comes, choices."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from tutelage.lab.errors import BadInput
from tutelage.lm.request import Message

Tokenizer = Any
"""A tokenizer of transformers; `Any` because loading it is what this module is spared."""
Context = str | tuple[Message, ...]
"""A raw prompt, or messages for the chat template."""


def prompt_ids(tokenizer: Tokenizer, context: Context) -> list[int]:
    """What a model reads of a context: the same ids in training, sampling and scoring.

    The tokenizer says which special tokens stand before a raw prompt, and its chat template which stand in messages. A
    prompt that has them written out already gets no second ones. What the tokenizer would put behind a text is left
    out, for the text goes on. Nothing at all is read as the token for begin (else end) of text.

    Raises `BadInput` for messages that have no template or are refused by it (see `context_text`), and as `encode`.
    """
    return encode(tokenizer, context_text(tokenizer, context), raw=isinstance(context, str))[0]


def raw_prompts_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """`prompt_ids` of many raw prompts, faster."""
    return [ids or [_first(tokenizer)] for ids, *_ in _read(tokenizer, texts, raw=True)]


def context_text(tokenizer: Tokenizer, context: Context) -> str:
    """The prompt itself, or the messages in the tokenizer's chat template, opened for a reply.

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

    `raw` prompts get special tokens in front as `prompt_ids` says; a chat template has written its own. Raises
    `BadInput` for an empty text where the tokenizer has no token to begin with, and for a text that is no Unicode
    (lone surrogates).
    """
    fast = bool(getattr(tokenizer, "is_fast", False))
    [(ids, added, offsets)] = _read(tokenizer, [text], raw=raw, offsets=fast)
    if not ids:
        return [_first(tokenizer)], [0]
    if not fast:
        return ids, [len(decode(tokenizer, ids[added : n + 1], special=True)) for n in range(len(ids))]
    read, ends = 0, []
    for _, end in offsets:
        read = max(read, end)
        ends.append(read)
    return ids, ends


def begin_with_bos(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, or where it does not put its BOS before a raw prompt a copy that does, from disk too.

    For models that are made here, which read every text after BOS. Raises `BadInput` for a tokenizer without BOS, and
    for one in Python alone, whose code decides.
    """
    if tokenizer.bos_token_id is None:
        raise BadInput("tokenizer: has no bos token; a text must begin with one")
    if _front(tokenizer)[:1] == [tokenizer.bos_token_id]:
        return tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise BadInput("tokenizer: does not put its bos token before a text; must, or be one that has a tokenizer.json")
    from tokenizers import processors

    made = copy.deepcopy(tokenizer)
    bos = made.bos_token
    first = processors.TemplateProcessing(
        single=[bos, "$A"], pair=[bos, "$A", "$B"], special_tokens=[(bos, made.bos_token_id)]
    )
    before = made.backend_tokenizer.post_processor
    made.backend_tokenizer.post_processor = first if before is None else processors.Sequence([before, first])
    return made


def fingerprint(tokenizer: Tokenizer) -> str:
    """32 hex digits over all that says which ids a text has, and which text a list of ids has."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    core = (
        backend.to_str() if backend is not None else [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())]
    )
    parts = [core, tokenizer.bos_token_id, tokenizer.eos_token_id, getattr(tokenizer, "chat_template", None)]
    return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _read(
    tokenizer: Tokenizer, texts: Sequence[str], *, raw: bool, offsets: bool = False
) -> list[tuple[list[int], int, list[tuple[int, int]]]]:
    """Of each text the ids, special tokens before but not behind it; how many of these the text itself has not; and
    with `offsets` (fast tokenizers) the characters that each stands for."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadInput(f"the text has a lone surrogate at character {error.start}: must be Unicode") from None
    if not texts:
        return []
    results = []
    for ids, (start, end), spans in _marked(tokenizer, texts, raw, offsets):
        if start == end:
            front = _front(tokenizer) if raw else []
            results.append((front, len(front), [(0, 0)] * len(front) if offsets else []))
            continue
        if ids[:start] == ids[start : 2 * start]:  # written out in the text
            ids, spans, start, end = ids[start:], spans[start:], 0, end - start
        results.append((ids[:end], start, spans[:end]))
    return results


def _marked(
    tokenizer: Tokenizer, texts: Sequence[str], raw: bool, offsets: bool
) -> Iterator[tuple[list[int], tuple[int, int], list[tuple[int, int]]]]:
    """Of each text the ids with special tokens, where its own ones begin and end, and their characters."""
    texts, options = list(texts), {"return_offsets_mapping": True} if offsets else {}
    if getattr(tokenizer, "is_fast", False):
        found = tokenizer(texts, add_special_tokens=raw, return_special_tokens_mask=True, verbose=False, **options)
        for number, (ids, special) in enumerate(zip(found["input_ids"], found["special_tokens_mask"], strict=True)):
            own = [place for place, mark in enumerate(special) if not mark]
            body = (own[0], own[-1] + 1) if own else (0, 0)
            yield ids, body, found["offset_mapping"][number] if offsets else []
        return
    # The code of a tokenizer in Python need not mark its special tokens, but it shows where they stand.
    shown = tokenizer.build_inputs_with_special_tokens([-1]) if raw else [-1]
    start = shown.index(-1)
    for own in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]:
        yield [*shown[:start], *own], (start, start + len(own)), []


def _front(tokenizer: Tokenizer) -> list[int]:
    """The special tokens before a raw prompt."""
    known = tokenizer.bos_token or tokenizer.eos_token  # a text of one token in every vocabulary
    if known is None:
        return []
    [(ids, (start, _), _)] = _marked(tokenizer, [known], True, False)
    return ids[:start]


def _first(tokenizer: Tokenizer) -> int:
    """What is read where there is no text. Raises `BadInput` where there is nothing."""
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if first is None:
        raise BadInput(
            "no token stands before what is to come, and the tokenizer has none to begin with: give a prompt"
        )
    return first


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
            ids, split = [_first(tokenizer), *ids], 1
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


def decode(tokenizer: Tokenizer, ids: Iterable[int], *, special: bool = False) -> str:
    """Text, spaces as they are; without special tokens unless they are wanted."""
    return tokenizer.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)


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
