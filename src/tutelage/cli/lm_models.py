"""`lm pretrain` and `lm eval`: models from text, and how good they are."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tutelage.cli import DONE, options
from tutelage.lab.configuration import fields, override
from tutelage.lab.errors import BadInput
from tutelage.lab.overrides import parse_values
from tutelage.lab.settings import setting


@dataclass(frozen=True)
class PretrainOptions:
    """Options of `lm pretrain`."""

    out: str = setting("models/base", "Folder of the model.")
    seed: int = setting(0, "Seed of weights, order and generated text.", interval="[0, 4294967295]")
    documents: int = setting(20_000, "Documents of each built-in generator.", interval="[1, inf)")
    quiet: bool = setting(False, "No progress, only the last line.")


@dataclass(frozen=True)
class EvalOptions:
    """Options of `lm eval`."""

    data: str = setting("", "Text (.txt), or JSONL with 'text' or with 'question' and 'answer'; needed.")
    limit: int = setting(0, "The most texts or questions, from the first; 0: all.", interval="[0, inf)")
    max_tokens: int = setting(128, "Longest answer.", interval="[1, inf)", unit="tokens")
    json: bool = setting(False, "Print JSON, for programs.")


def pretrain(argv: list[str]) -> int:
    """Make a small model from files or a built-in generator."""
    from tutelage.lm.training.config import PretrainConfig

    if options.wants_help(argv):
        from tutelage.cli import help

        usage = "tutelage lm pretrain CORPUS…"
        text = "A tokenizer and a small Llama-architecture model from text (.txt, .jsonl, or: arithmetic)."
        help.show(usage, text, PretrainOptions(), PretrainConfig())
        return DONE
    parsed = options.read(PretrainOptions, argv, others=True)
    config = override(PretrainConfig(), parse_values(parsed.rest, fields(PretrainConfig)))

    from tutelage.lm.training import corpus
    from tutelage.lm.training.pretraining import pretrain as make

    chosen = parsed.options
    texts = corpus.texts(parsed.words, number=chosen.documents, seed=chosen.seed)
    figures = make(texts, chosen.out, config, chosen.seed, quiet=chosen.quiet)
    print(f"{chosen.out}: loss {figures['loss']:.3f} nats per token at the end, from {len(texts)} documents")
    return DONE


def evaluate(argv: list[str]) -> int:
    """How well a model predicts a file, and how many of its questions it answers right."""
    if options.wants_help(argv):
        from tutelage.cli import help

        text = "Loss, perplexity and bits per byte of a text; and exact match, where it is questions with answers."
        help.show("tutelage lm eval MODEL --data FILE", text, EvalOptions())
        return DONE
    parsed = options.read(EvalOptions, argv)
    chosen, name = parsed.options, options.one_word(parsed.words, "model (a folder or hub id)")
    if not chosen.data:
        raise BadInput("--data: a file of text or questions is needed")

    from tutelage import lm
    from tutelage.backends.torch_threads import single_threaded
    from tutelage.lm import folders
    from tutelage.lm.training import corpus, evaluation

    most = chosen.limit or None
    with single_threaded():
        if corpus.has_questions(chosen.data):
            problems = corpus.problems(chosen.data)[:most]
            figures = evaluation.prediction(*folders.load(name), [(each.prompt, each.answer) for each in problems])
            answering = lm.connect(name)
            figures |= lm.run(evaluation.exact_match(answering, problems, max_tokens=chosen.max_tokens))
            lm.run(answering.close())
        else:
            texts = corpus.texts([chosen.data])[:most]
            figures = evaluation.prediction(*folders.load(name), [("", text) for text in texts])
    if chosen.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{figure.replace('_', ' '):<14}{value:.6g}" for figure, value in figures.items()))
    return DONE
