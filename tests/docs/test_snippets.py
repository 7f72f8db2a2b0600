"""The documentation, run: its Python blocks, its generated tables, its command lines, and the names that it drops.

`PYTHONPATH=src:tests python tests/docs/test_snippets.py` writes the generated tables anew.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from studies.tiny_minimax import tiny

from tutelage import studies
from tutelage.cli import COMMANDS, lm, lm_models, options
from tutelage.lab import driver
from tutelage.lab.configuration import configure, fields, flatten, override
from tutelage.lab.errors import BadInput
from tutelage.lab.overrides import parse_values
from tutelage.lab.study import Study
from tutelage.lm.training import corpus, pretraining
from tutelage.lm.training.config import PretrainConfig
from tutelage.studies.mogfn.panels import ACTIVE, LAWS

ROOT = Path(__file__).parents[2]
PAGES = (
    "guides/library.md",
    "guides/add-a-study.md",
    "studies/minimax.md",
    "studies/mixing.md",
    "studies/compositional_attention.md",
)
STUDY_PAGE = "studies/minimax.md"
MODELS_PAGE = "guides/language-models.md"
FEEDBACK_PAGE = "studies/reason_rl.md"
OBJECTIVES_PAGE = "studies/mogfn.md"
minimax = studies.load("minimax")


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def blocks(name: str) -> Iterator[tuple[int, str]]:
    """The Python blocks of a page, each with the number of its first line."""
    text = page(name)
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start(1)) + 1, match.group(1)


BLOCKS = [pytest.param(name, line, code, id=f"{name}:{line}") for name in PAGES for line, code in blocks(name)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the files that the pages tell the reader to save, from which they can be imported."""
    folder = tmp_path_factory.mktemp("reader")
    saved = {}
    for name in PAGES:
        for _, code in blocks(name):
            if match := re.match(r"# (\w+)\.py\n", code):
                saved[match.group(1)] = code
    for module, code in saved.items():
        (folder / f"{module}.py").write_text(code, "utf-8")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for module in saved:
        sys.modules.pop(module, None)


@pytest.fixture(scope="module")
def finished_run(workplace):
    """The run that the pages load."""
    config = tiny("dr", schedule__num_updates=2, schedule__evaluate_every=0, evaluation__robust_levels=0)
    driver.run(minimax, "dr", "quick", config, [0], workplace / "runs" / "demo", quiet=True)


@pytest.mark.parametrize(("name", "line", "code"), BLOCKS)
def test_every_block_runs_by_itself(name, line, code, workplace, monkeypatch, request):
    if "runs/demo" in code:
        request.getfixturevalue("finished_run")
    monkeypatch.chdir(workplace)
    snippet = types.ModuleType("snippet")  # in the table of modules, where dataclasses look for their own
    monkeypatch.setitem(sys.modules, "snippet", snippet)
    try:
        # The lines before it keep the numbers of a traceback those of the page.
        exec(compile("\n" * (line - 1) + code, f"docs/{name}", "exec"), snippet.__dict__)
    except Exception as error:
        error.add_note(f"in the block at line {line} of docs/{name}")
        raise


def test_the_blocks_about_language_models_run_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reader = types.ModuleType("reader")
    for line, code in blocks(MODELS_PAGE):
        exec(compile("\n" * (line - 1) + code, f"docs/{MODELS_PAGE}", "exec"), reader.__dict__)


def test_the_blocks_about_learning_from_feedback_run_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problems = corpus.arithmetic(40, seed=0)
    settings = PretrainConfig(size="nano", num_epochs=2.0, batch_tokens=1024, learning_rate=8e-3)
    pretraining.pretrain([each.text for each in problems], "models/base", settings, quiet=True)
    rows = [json.dumps({"question": each.question, "answer": each.answer}) for each in problems]
    Path("questions.jsonl").write_text("\n".join(rows), "utf-8")
    reader = types.ModuleType("reader")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="max_new_tokens")  # so small a model rambles
        for line, code in blocks(FEEDBACK_PAGE):
            exec(compile("\n" * (line - 1) + code, f"docs/{FEEDBACK_PAGE}", "exec"), reader.__dict__)
    assert Path("models/after/config.json").is_file()


TINY_GRID = {
    "hypergrid.side": 4,
    "gflownet.batch_size": 4,
    "gflownet.network.width": 8,
    "gflownet.network.layers": 1,
    "gflownet.network.z_layers": 0,
    "evaluation.bins": 2,
    "evaluation.final_bins": 2,
    "evaluation.num_samples": 10,
    "evaluation.exact_bins": 0,
    "evaluation.held_out": 8,
    "schedule.num_updates": 1,
    "schedule.log_every": 1,
    "schedule.evaluate_every": 0,
}


def test_the_blocks_about_several_objectives_run_one_after_another_and_explain_every_figure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mogfn = studies.load("mogfn")
    config = override(mogfn.arms["grid"].configure(mogfn.config()), TINY_GRID)
    [result] = driver.run(mogfn, "grid", "quick", config, [0], "runs/grid", quiet=True)
    reader = types.ModuleType("reader")
    for line, code in blocks(OBJECTIVES_PAGE):
        exec(compile("\n" * (line - 1) + code, f"docs/{OBJECTIVES_PAGE}", "exec"), reader.__dict__)
    assert Path("scores.jsonl").is_file() and Path("recipes.safetensors").is_file()
    told = re.findall(r"`([^`]*)`", page(OBJECTIVES_PAGE))
    assert {*result.figures, *(f"{law}@β" for law in LAWS), *ACTIVE} <= set(told)


# Tables made from the code.


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def paper_settings() -> dict[str, dict[str, object]]:
    return {arm: flatten(configure(minimax, arm, "paper", {})[0]) for arm in minimax.arms}


REPLAY, EDITS = ("plr", "accel"), ("accel",)
COLUMNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "N": ("rollout.num_tasks", ()),
    "students": ("rollout.num_students", ()),
    "step size": ("ppo.learning_rate", ()),
    "γ": ("ppo.discount", ()),
    "λ": ("ppo.gae_lambda", ()),
    "entropy": ("ppo.entropy_coefficient", ()),
    "clip": ("ppo.clip", ()),
    "p": ("teacher.replay.probability", REPLAY),
    "ρ": ("teacher.replay.staleness", REPLAY),
    "β": ("teacher.replay.temperature", REPLAY),
    "score": ("teacher.replay.score", REPLAY),
    "robust": ("teacher.replay.robust", REPLAY),
    "parallel": ("teacher.replay.parallel", REPLAY),
    "weights": ("teacher.replay.prioritisation", REPLAY),
    "edits": ("teacher.edit.num_edits", EDITS),
    "walls drawn": ("num_training_walls", ()),
}
"""Heading: field, and the kinds of teacher that read it (all when empty)."""


def arms_table() -> str:
    rows = []
    for arm, values in paper_settings().items():
        walls = values["maze.num_walls"] if values["num_training_walls"] == -1 else values["num_training_walls"]
        builds = values["teacher.kind"] in ("paired", "population_paired", "minimax")
        values = {**values, "num_training_walls": "–" if builds else walls}
        if values["teacher.replay.prioritisation"] == "uniform":  # which reads neither score nor staleness
            values |= {f"teacher.replay.{name}": "–" for name in ("staleness", "temperature", "score")}
        cells = [
            shown(values[path]) if not kinds or values["teacher.kind"] in kinds else "–"
            for path, kinds in COLUMNS.values()
        ]
        rows.append([f"`{arm}`", *cells])
    return markdown(["arm", *COLUMNS], rows)


COMMON = (
    "maze.height", "maze.width", "maze.num_walls", "maze.max_steps", "maze.view", "maze.num_actions",
    "network.body", "network.hidden", "network.num_filters", "network.direction_embedding", "network.head_hidden",
    "network.activation", "ppo.num_epochs", "ppo.num_minibatches", "ppo.clip_value", "ppo.value_coefficient",
    "ppo.max_grad_norm", "ppo.adam_eps", "ppo.anneal", "rollout.num_copies", "rollout.num_steps",
    "teacher.replay.buffer_size", "teacher.replay.min_fill", "teacher.replay.dedupe", "teacher.edit.criterion",
    "teacher.adversary.budget", "teacher.adversary.noise", "teacher.adversary.ppo.learning_rate",
    "teacher.adversary.ppo.discount", "teacher.adversary.ppo.gae_lambda",
    "teacher.adversary.ppo.entropy_coefficient", "teacher.adversary.net.num_filters", "teacher.sfl.every",
    "teacher.sfl.num_batches", "teacher.sfl.batch_size", "teacher.sfl.rollout_steps", "teacher.sfl.keep",
    "teacher.sfl.share", "evaluation.num_held_out", "evaluation.num_episodes", "evaluation.final_episodes",
    "evaluation.robust_levels", "evaluation.robust_alpha", "schedule.num_updates", "schedule.evaluate_every",
)  # fmt: skip


def common_table() -> str:
    known, every = fields(minimax.config), paper_settings()
    rows = []
    for path in COMMON:
        values = {shown(values[path]) for values in every.values()}
        assert len(values) == 1, f"{path} differs between arms: {values}"
        rows.append([f"`{path}`", values.pop(), known[path].unit or "", known[path].help.rstrip(".")])
    return markdown(["setting", "value", "unit", "what it is"], rows)


def suite_table() -> str:
    from tutelage.envs import maze
    from tutelage.envs.maze.solver import best_return, shortest_path

    rows = []
    for name, source in maze.suite().items():
        cells = ["drawn", "", ""]
        if source.fixed:
            level = source.sample(jax.random.key(0))
            cells = ["fixed", str(int(shortest_path(level))), f"{float(best_return(level)):.4f}"]
        rows.append([name, f"{source.height}×{source.width}", str(source.max_steps), *cells])
    return markdown(["maze", "cells", "horizon", "level", "shortest path (actions)", "best return"], rows)


REFUSALS = (
    "minimax/acel",
    "minimax --preset quik",
    "minimax --ppo.lr 1e-3",
    "minimax --ppo.learning-rate fast",
    "minimax/dr --maze.num-walls 79",
    "minimax/accel --num-training-walls 79",
    "minimax/paired --teacher.adversary.budget 79",
    "minimax/dr --domain cartpole --cartpole.length 2,1",
    "minimax/plr_robust --teacher.replay.buffer-size 16",
    "minimax/plr_robust --teacher.replay.min-fill 0.01",
    "minimax/plr_robust --teacher.replay.temperature 0",
    "minimax/plr_robust --teacher.replay.staleness 1.5",
    "minimax/plr_robust --teacher.replay.prioritisation proportional",
    "minimax/plr_robust --teacher.replay.score value_disagreement",
    "minimax/accel --teacher.edit.criterion easy --teacher.edit.subsample 5",
    "minimax/paired --rollout.num-students 3",
    "minimax/paired --domain cartpole",
    "minimax/score_true_regret --domain cartpole",
    "minimax/sfl --domain pendulum",
    "minimax/dr --ppo.num-minibatches 3",
    "minimax/dr --maze.view 4",
    "minimax/dr --schedule.num-updates 205",
)


MOGFN_REFUSALS = (
    "mogfn --preset quik",
    "mogfn --gflownet.beta.value 0",
    "mogfn --gflownet.preference.alpha 0",
    "mogfn --gflownet.reward.scalarisation weighted",
    "mogfn --gflownet.network.heads 7",
    "mogfn --ngrams.min-len 40",
    "mogfn --ngrams.motifs AB,VC",
    "mogfn --ngrams.motifs AV,AV",
    "mogfn --evaluation.top-k 200",
    "mogfn/grid --gflownet.beta.low 16",
    "mogfn/grid --gflownet.network.kind transformer",
    "mogfn/grid --hypergrid.dimensions 1",
    "mogfn/grid --hypergrid.objectives branin,curin",
    "mogfn/al --problem hypergrid",
)


def refusals_table(refused: tuple[str, ...]) -> str:
    rows = []
    for words in refused:
        with pytest.raises(BadInput) as caught:
            check_command(["run", *words.split()])
        message = str(caught.value)
        assert "\n" not in message
        rows.append([f"`tutelage run {words}`", message])
    return markdown(["command", "what it says"], rows)


TABLES = {
    "arms": (STUDY_PAGE, arms_table),
    "common": (STUDY_PAGE, common_table),
    "suite": (STUDY_PAGE, suite_table),
    "refusals": (STUDY_PAGE, lambda: refusals_table(REFUSALS)),
    "refusals of mogfn": (OBJECTIVES_PAGE, lambda: refusals_table(MOGFN_REFUSALS)),
}
"""Name: the page it is on, and what makes it."""
MARKED = r"(<!-- made from the code: {} -->\n)(.*?)(<!-- end -->)"


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_what_the_code_says(name):
    where, table = TABLES[name]
    found = re.search(MARKED.format(name), page(where), re.DOTALL)
    assert found, f"docs/{where} has no place for the table {name!r}"
    assert found.group(2) == f"\n{table()}\n\n", "write it anew: see the head of this file"


# Command lines.


def check_command(argv: list[str]) -> None:
    """What the command would refuse before any work. Words in capitals stand for something and are not looked at."""
    name, *rest = argv
    if name in studies.STUDIES:
        check_tool(studies.load(name), rest)
        return
    if name not in COMMANDS:
        raise BadInput(f"{name!r} is not a command")
    rest = [word for word in rest if word != "--help"]
    if name == "lm":
        check_lm_command(rest)
        return
    kinds = {
        "list": options.ListOptions,
        "resume": options.ResumeOptions,
        "report": options.ReportOptions,
        "doctor": options.DoctorOptions,
    }
    if name not in ("run", "study"):
        if name == "bench":  # what follows the study goes to its script
            rest = rest[:1]
        parsed = options.read(kinds.get(name, options.NoOptions), rest)
        if name in ("where", "bench") and parsed.words and not parsed.words[0].isupper():
            studies.load(parsed.words[0])
        return
    parsed = options.read(options.RunOptions if name == "run" else options.StudyOptions, rest, others=True)
    if parsed.options.seeds:
        options.parse_seeds(parsed.options.seeds)
    if not parsed.words or parsed.words[0].isupper():
        assert not parsed.rest
        return
    subject, _, arm = options.one_word(parsed.words, "study").partition("/")
    study = studies.load(subject)
    arms = [arm or study.main_arm] if name == "run" else [*(parsed.options.arms or study.arms)]
    overrides = parse_values(parsed.rest, fields(study.config))
    for arm in arms:
        config, _ = configure(study, arm, parsed.options.preset, overrides)
        driver.chunk_size(config.schedule)


def check_tool(study: Study, argv: list[str]) -> None:
    name, *rest = argv
    if not name.isupper() and name != "--help":
        kind = study.tools[name].arguments
        if rest:  # otherwise it is only the tool's name
            options.read_all(kind, rest)


def check_lm_command(argv: list[str]) -> None:
    if not argv or argv[0].isupper():
        return
    name, *rest = argv
    if name not in lm.COMMANDS:
        raise BadInput(f"lm {name!r} is not a command")
    if name == "pretrain":
        parsed = options.read(lm_models.PretrainOptions, rest, others=True)
        override(PretrainConfig(), parse_values(parsed.rest, fields(PretrainConfig)))
    else:
        kinds = {"serve": lm.ServeOptions, "sample": lm.SampleOptions, "eval": lm_models.EvalOptions}
        options.read(kinds[name], rest)


def commands(text: str) -> Iterator[str]:
    """Command lines in code spans and in blocks of code, without the remark that two spaces set apart."""
    text = re.sub(MARKED.format("refusals[^>]*"), "", text, flags=re.DOTALL)
    fenced = r"^```\w*\n.*?^```$"
    for block in re.findall(fenced, text, re.MULTILINE | re.DOTALL):
        yield from (line for line in block.splitlines() if line.startswith("tutelage "))
    text = re.sub(fenced, "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"^    (tutelage [^\n]*)", text, re.MULTILINE)
    yield from re.findall(r"`(tutelage [^`\n]*)`", text)


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_is_one(document):
    for line in commands(document.read_text("utf-8")):
        bare = re.split(r"  +| · |  #", line)[0]
        argv = [word.strip("…") for word in shlex.split(bare) if word != "…"][1:]
        if not argv or argv[0].isupper() or argv == ["--help"] or "[" in bare:  # a pattern of commands
            continue
        try:
            check_command(argv)
        except BadInput as error:
            pytest.fail(f"{document.relative_to(ROOT)}: `{line}`: {error}")


# Names.


def test_every_test_that_is_named_exists():
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page(STUDY_PAGE) + page(MODELS_PAGE)))
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text("utf-8"), f"{file}::{test}"


def produced(arm: str) -> set[str]:
    """The names of all metrics and figures of an arm, from the types of its functions alone."""
    from tutelage.studies.minimax.build import environment, system
    from tutelage.studies.minimax.evaluation import evaluators

    config = tiny(arm, evaluation__suite="fixed")
    ued, key = system(config), jax.random.key(0)
    state = jax.eval_shape(ued.init, key)
    _, final = evaluators(config, environment(config))
    return {*jax.eval_shape(ued.update, state)[1], *jax.eval_shape(final, state, key)}


def test_every_figure_is_explained_and_every_explained_figure_exists():
    arms = ("dr", "accel", "paired", "paired_population", "minimax", "sfl")
    real = {re.sub(r"^solved/.*", "solved/<maze>", name) for arm in arms for name in produced(arm)}
    text = page(STUDY_PAGE)
    section = text[text.index("### The figures") :].split("\n## ")[0]
    told = {name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)}
    assert told == real


@pytest.mark.parametrize(("name", "where"), [("minimax", STUDY_PAGE), ("mogfn", OBJECTIVES_PAGE)])
def test_every_arm_claim_and_preset_is_described(name, where):
    study, text = studies.load(name), page(where)
    for told in (*study.arms, *study.presets, *(claim.name for claim in study.claims)):
        assert f"`{told}`" in text, told


if __name__ == "__main__":
    for name, (where, table) in TABLES.items():
        made = f"\n{table()}\n\n"
        text = re.sub(
            MARKED.format(name), lambda match, made=made: match[1] + made + match[3], page(where), flags=re.DOTALL
        )
        (ROOT / "docs" / where).write_text(text, "utf-8")
