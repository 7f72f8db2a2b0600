"""What a small base model reads before anybody teaches it: `wordmath` problems, solved badly, and sheets of arithmetic.

It makes the base strong in skills and weak in policy. Every step, right or wrong, is written as a right one would be,
and the sheets drill the arithmetic, so samples reach the answer; but many solutions slip or take a wrong turn, so that
the likeliest one is often wrong. That is where supervised and reinforcement finetuning have something to gain.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tutelage.lab.configuration import validate
from tutelage.lab.settings import setting
from tutelage.lm.tokens import begin_with_bos
from tutelage.posttraining.wordmath.problems import Difficulty, problems
from tutelage.posttraining.wordmath.solutions import solve
from tutelage.posttraining.wordmath.templates import NAMES, STEPS, THINGS, cuts, vocabulary

TEMPLATE = "{question}\n"
"""How a base made from this corpus is asked: as its documents begin."""

FACTS_PER_SHEET = 8
_SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
_OTHER_PROBLEMS = 2**32  # added to the seed: a task of the same seed draws its own training problems


@dataclass(frozen=True)
class CorpusConfig:
    """What the base reads."""

    documents: int = setting(16_000, "Problems, each with one solution.", interval="[1, inf)")
    noise: float = setting(0.15, "Chance that a step's result is wrong.", interval="[0, 1]")
    wrong_plan: float = setting(0.1, "Chance that a step takes a wrong operation or operand.", interval="[0, 1]")
    habit: float = setting(
        0.0, "Chance that such a mistake is the same one always: to add what should not be added.", interval="[0, 1]"
    )
    fact_sheets: int = setting(1_000, "Documents of right equations alone.", interval="[0, inf)")
    digits: bool = setting(False, "Whether every digit is a token of its own, as in Llama's tokenizer.")


def corpus(config: CorpusConfig, difficulty: Difficulty, seed: int = 0) -> list[str]:
    """Documents: problems of the training split, each the question, a new line and a solution; then the fact sheets.

    The same for the same arguments on every platform. No computation of the test split of this difficulty (or of any
    other one with a `test_share` that is not larger) is among the problems.

    Raises:
        BadInput: a setting outside its range, or a difficulty that has not so many problems.
    """
    validate(config)
    texts = []
    for index, each in enumerate(problems(difficulty, config.documents, seed=seed + _OTHER_PROBLEMS)):
        rng = random.Random(f"corpus {seed} {index}")
        solution = solve(
            each,
            rng,
            noise=config.noise,
            wrong_plan=config.wrong_plan,
            habit=config.habit,
            max_value=difficulty.max_value,
        )
        texts.append(TEMPLATE.replace("{question}", each.question) + solution.text)
    rng = random.Random(f"facts {seed}")
    return texts + [fact_sheet(difficulty, rng) for _ in range(config.fact_sheets)]


def fact_sheet(difficulty: Difficulty, rng: random.Random) -> str:
    """Right equations with operands as problems have them, in one phrasing: `Ada: 12 + 3 = 15`, one a line."""
    phrasing, thing = rng.choice(STEPS), rng.choice(THINGS)
    lines = []
    for _ in range(FACTS_PER_SHEET):
        op = rng.choice(difficulty.operations)
        if op in "+-":
            total = rng.randrange(2, difficulty.max_value + 1)
            one = rng.randrange(1, total)
            a, b, result = (one, total - one, total) if op == "+" else (total, one, total - one)
        else:
            factor = rng.randrange(2, min(difficulty.max_factor, difficulty.max_value) + 1)
            one = rng.randrange(1, difficulty.max_value // factor + 1)
            a, b, result = (one, factor, one * factor) if op == "*" else (one * factor, factor, one)
        if op in "+*" and rng.random() < 0.5:
            a, b = b, a
        lines.append(phrasing.format(c=rng.choice(NAMES), equation=f"{a} {op} {b} = {result}", things=thing))
    return "\n".join(lines)


def tokenizer(max_value: int, *, digits: bool = False) -> Any:
    """A fast tokenizer of transformers for problems and solutions with numbers in 0..max_value.

    Its tokens are `templates.pieces`, with ids from 4 on in the order of `vocabulary`; pad, bos, eos and unk
    are 0 to 3. It puts bos before a text.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*_SPECIAL, *vocabulary(max_value, digits=digits)]
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(cuts(digits=digits)), "isolated")  # type: ignore[assignment]
    made.decoder = decoders.Fuse()  # type: ignore[assignment]
    made.add_special_tokens([AddedToken(token, special=True) for token in _SPECIAL])
    plain = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    return begin_with_bos(plain)
