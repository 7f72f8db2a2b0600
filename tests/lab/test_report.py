"""The report from folders: what it says, what it leaves out, and that nothing from outside becomes markup."""

import dataclasses
import html.parser
import io
import itertools
import json
import math
import re

import numpy as np
import pytest
from lab import paper_study
from lab.paper_study import ATTACK, STUDY, write_run, write_study
from rich.console import Console

from tutelage.lab.errors import BadInput
from tutelage.lab.report import numbers, terminal_table, write_report
from tutelage.lab.report.gather import gather
from tutelage.lab.report.markup import Markup, element
from tutelage.lab.report.summary import course, final, work_per_update
from tutelage.lab.storage.record import RunFolder, write_result
from tutelage.lab.study import RunResult

VOID = {"meta", "img", "br", "hr", "wbr"}


class Outline(html.parser.HTMLParser):
    """The page taken apart by the standard library: its elements, its text, and whether it is well nested."""

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.words, self.broken = [], [], [], False
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.broken = tag == "wbr"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.broken:  # one word, which may be broken here
            data = self.words.pop()[1] + data
        self.broken = False
        self.words.append((self.open[-1] if self.open else "", data))

    @property
    def text(self):
        return " ".join(" ".join(words for tag, words in self.words if tag != "style").split())

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def read(path):
    return Outline(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "study")


@pytest.fixture(scope="module")
def page(study_folder):
    path = write_report([study_folder], study=STUDY)
    assert path == study_folder / "report.html"
    return read(path)


def test_page_says_what_was_asked_and_found(page):
    for words in (
        STUDY.paper.title,
        "Nobody, Nemo & Niemand, 2026.",
        "tutelage study paper --preset quick --seeds 0:5 --schedule.num-updates 500",
        "4 of 8",
        "4 hold · 2 fail · 2 undecided",
        "Editing levels (ACCEL) generalises to unseen mazes better than domain randomisation.",
        "mean of suite_solved: accel − dr > 0",
        "No run of sfl.",
        "> 120×",
        "not measured here",
        "the mean over 5 seeds",
        "learning steps of one seed",
        "Walk: Labyrinth",
        "Step size of Adam.",
        "CPU, 2 cores",
        "0.10.2",
    ):
        assert words in page.text, words


def test_comparisons_are_drawn_from_all_runs_and_kept(page, study_folder):
    headings = [words for tag, words in page.words if tag == "h2"]
    assert headings[:4] == ["Claims", "Results", "Comparisons", "Learning curves"]
    titles = [words for tag, words in page.words if tag == "title"]
    assert {"suite_solved", "episode_length against held_out_solved"} <= set(titles)  # inline, for those who hear them
    described = next(words for tag, words in page.words if tag == "desc" and words.startswith("accel: "))
    assert [words.partition(":")[0] for words in described.split("; ")] == [  # as the arms come in the page
        "accel", "dr", "plr", "plr_robust", "paired", "random_replay"
    ]  # fmt: skip
    for seed, result in enumerate(json.loads(f.read_text()) for f in study_folder.glob("accel/seed-0/result.json")):
        assert f"accel {result['figures'][str(seed)]['suite_solved']:.2f}" in page.text
    kept = {path.name for path in (study_folder / "figures").iterdir()}
    assert kept == {"against-return.svg", "plane.svg", "hostile.svg", "first.json", "index.json"}


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("small") / "study", arms=("dr", "accel"), seeds=1, exhibits=False)
    write_report([folder], study=STUDY)
    return folder


def test_comparisons_kept_before_are_shown_where_the_study_is_not_known(small_folder, tmp_path):
    text = write_report([small_folder], tmp_path / "page.html").read_text()
    again = Outline(text)
    assert "Comparisons" in [words for tag, words in again.words if tag == "h2"]
    assert "Solved against return" in again.text
    assert "accel: " not in [words for tag, words in again.words if tag == "desc"]  # a file is a picture, no markup
    assert len(again.of("img")) == 3
    assert "<script>" not in text


def test_what_a_comparison_lacks_costs_the_comparison_alone(small_folder, tmp_path):
    def broken(results):
        raise KeyError(f"pass@8 {ATTACK}")

    for panels, problem in ((broken, "could not be drawn (KeyError: "), (lambda results: [], None)):
        study = dataclasses.replace(STUDY, panels=panels)
        text = write_report([small_folder], tmp_path / "page.html", study=study).read_text()
        page = Outline(text)
        assert "Comparisons" not in [words for tag, words in page.words if tag == "h2"]
        assert ("What is missing" in page.text) == (problem is not None)
        assert problem is None or problem in page.text
        assert "<script>" not in text


def test_unfinished_runs_are_compared_as_far_as_they_are(tmp_path):
    folder = write_study(tmp_path / "study", arms=("dr", "accel"), seeds=2, exhibits=False)
    (folder / "accel" / "seed-1" / "result.json").unlink()
    seen = []
    study = dataclasses.replace(STUDY, panels=lambda results: seen.extend(results) or [])
    write_report([folder], study=study)
    assert [(result.arm, result.seed) for result in seen] == [("accel", 0), ("accel", 1), ("dr", 0), ("dr", 1)]
    assert all("suite_solved" in result.figures for result in seen)
    assert [result.cost.get("work_per_second") for result in seen] == [6.5 * 2048, None, 6.5 * 2048, 6.5 * 2048]
    write_report([folder / "dr" / "seed-0"], study=study)
    assert len(seen) == 4  # one run compares with nothing


def test_a_folder_that_cannot_keep_comparisons_is_still_reported(tmp_path):
    folder = write_study(tmp_path / "study", arms=("dr", "accel"), seeds=1, exhibits=False)
    (folder / "figures").write_text("in the way")
    page = read(write_report([folder], tmp_path / "page.html", study=STUDY))
    assert "The comparisons are not kept" in page.text
    assert "Comparisons" in [words for tag, words in page.words if tag == "h2"]


def test_claims_stand_with_their_verdicts(page):
    chips = [attributes["class"] for attributes in page.of("span") if "chip" in attributes.get("class", "")]
    assert chips == ["chip holds"] * 4 + ["chip fails"] * 2 + ["chip undecided"] * 2


def test_headline_figures_are_the_seeds_means(page, study_folder):
    for arm in paper_study.ARMS:
        results = [json.loads((study_folder / arm / f"seed-{s}" / "result.json").read_text()) for s in range(5)]
        mean = np.mean([result["figures"][str(s)]["suite_solved"] for s, result in enumerate(results)])
        assert f"{mean:.2f} [" in page.text


def test_nothing_is_fetched_and_nothing_runs(page, study_folder):
    text = (study_folder / "report.html").read_text()
    for tag in ("script", "link", "iframe", "object", "embed", "base", "form", "video", "audio"):
        assert page.of(tag) == []
    sources = [attributes["src"] for attributes in page.of("img")]
    assert len(sources) == 4 + 5 * 3 + 1
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "https://arxiv.org/abs/"))
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_what_comes_from_outside_is_text(page):
    assert page.text.count("<script>document.title=") >= 4  # claim, its source, caption, table: seen as characters
    assert "attacked" not in "".join(words for tag, words in page.words if tag in ("title", "style", "script"))


def test_page_is_accessible(page):
    assert page.of("html") == [{"lang": "en"}]
    assert len(page.of("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(image["alt"] for image in page.of("img"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for word in attributes.get("aria-labelledby", "").split():
            assert word in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
    for attributes in page.of("div"):
        if attributes.get("class") == "scroll":  # a box that scrolls can be reached and named without a mouse
            assert attributes["tabindex"] == "0" and attributes["aria-label"]
    for attributes in page.of("svg"):
        assert attributes.get("role") == "img" or attributes.get("aria-hidden") == "true"


def test_configuration_shows_what_differs_first(page):
    changed, whole = page.text.split("All 14 settings")
    assert "learner.learning_rate" in changed.split("What differs from the defaults.")[1]
    assert "learner.discount" not in changed.split("What differs from the defaults.")[1]
    assert "learner.discount" in whole


def test_one_run_of_one_seed_says_that_it_has_no_interval(tmp_path):
    folder = write_run(tmp_path / "alone", "dr", 3)
    page = read(write_report([folder], tmp_path / "page.html", study=STUDY))
    assert "One seed has no interval" in page.text
    assert "One seed: a single curve has no interval." in page.text
    assert "tutelage run paper/dr --preset quick --seed 3 --schedule.num-updates 500" in page.text
    assert "Claims are judged over all arms and seeds of a study folder" in page.text


def test_several_runs_without_the_study(tmp_path):
    folders = [write_run(tmp_path / f"run{seed}", "plr", seed) for seed in range(3)]
    page = read(write_report([*folders, write_run(tmp_path / "other", "dr", 0)], tmp_path / "page.html"))
    assert "All arms have the same settings" not in page.text
    assert "What differs between the arms." in page.text
    assert "1 seed, so no interval" in page.text
    assert "3 seeds" in page.text


def test_a_study_of_another_name_is_not_believed(tmp_path):
    folder = write_run(tmp_path / "alone", "dr", 0)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"study": "other"}))
    page = read(write_report([folder], tmp_path / "page.html", study=STUDY))
    assert STUDY.paper.title not in page.text


DAMAGE = {
    "no result": lambda run: (run / "result.json").unlink(),
    "torn result": lambda run: (run / "result.json").write_text('{"figures": {"0": {'),
    "strange result": lambda run: (run / "result.json").write_text('{"figures": [1], "work_per_second": "fast"}'),
    "torn metrics": lambda run: (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:-40]),
    "damaged metrics": lambda run: (run / "metrics.jsonl").write_bytes(
        b'{"kind": "metrics", "seed": 0, "step": 1, "x": 1}\n\xff\xfe\n'
    ),
    "strange metrics": lambda run: (run / "metrics.jsonl").write_text('{"kind": 3}\n{"seed": "a"}\n'),
    "no metrics": lambda run: (run / "metrics.jsonl").unlink(),
    "torn config": lambda run: (run / "config.json").write_text("{"),
    "no seeds": lambda run: (run / "config.json").write_text('{"study": "paper", "arm": "dr", "seeds": "0"}'),
    "deep config": lambda run: (run / "config.json").write_text("[" * 100_000),
    "torn index": lambda run: (run / "figures" / "index.json").write_text("[{"),
    "foreign picture": lambda run: (run / "figures" / "levels.svg").write_text("<html>"),
    "no picture": lambda run: (run / "figures" / "levels.svg").unlink(),
    "strange table": lambda run: (run / "figures" / "table.json").write_text("{}"),
    "way out": lambda run: (run / "figures" / "index.json").write_text('[{"name": "../result"}]'),
    "torn claims": lambda run: (run.parent.parent / "claims.json").write_text("["),
    "no claims": lambda run: (run.parent.parent / "claims.json").unlink(),
    "torn plan": lambda run: (run.parent.parent / "study.json").write_text("["),
    "half a plan": lambda run: (run.parent.parent / "study.json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_torn_and_missing_files_are_named_and_the_report_comes(damage, tmp_path):
    folder = write_study(tmp_path / "study", arms=("dr",), seeds=1)
    before = gather([folder])
    assert before.problems == []
    DAMAGE[damage](folder / "dr" / "seed-0")
    page = read(write_report([folder], study=STUDY))
    assert "What is missing" in page.text


def test_runs_that_were_planned_but_never_started_are_named(tmp_path):
    folder = write_study(tmp_path / "study", arms=("dr", "plr"), seeds=2, exhibits=False)
    (folder / "plr" / "seed-1" / "config.json").unlink()
    assert "plr has not been run for seed 1." in gather([folder]).problems
    (folder / "plr" / "seed-0" / "config.json").unlink()
    assert "plr has not been run." in gather([folder]).problems


def test_a_seed_given_twice_counts_once(tmp_path):
    first, again = (write_run(tmp_path / name, "dr", 0) for name in ("a", "b"))
    material = gather([first, again])
    assert len(material.results("dr")) == 1
    assert material.problems == ["dr seed 0 is in a and in b; the first counts."]


@pytest.mark.parametrize("make", [lambda path: path / "nowhere", lambda path: path])
def test_folders_without_anything_are_refused(make, tmp_path):
    with pytest.raises(BadInput, match="report: "):
        write_report([make(tmp_path)])
    with pytest.raises(BadInput, match="no folder given"):
        write_report([])


def result(seed, steps, values):
    return RunResult("a", seed, {"f": values[-1]}, {("metrics", "f"): (np.array(steps), np.array(values, dtype=float))})


def test_a_curve_covers_the_steps_that_all_seeds_have():
    curve = course([result(0, [1, 2, 3], [1, 2, 3]), result(1, [1, 2], [3, 6])], "metrics", "f")
    np.testing.assert_array_equal(curve.steps, [1, 2])
    np.testing.assert_array_equal(curve.interval.estimate, [2, 4])
    assert curve.num_seeds == 2
    assert course([result(0, [1], [math.nan])], "metrics", "f") is None
    assert course([result(0, [1], [1]), result(1, [2], [1])], "metrics", "f") is None


def test_a_long_curve_is_shown_in_means():
    steps = np.arange(1, 1001)
    curve = course([result(0, steps, steps), result(1, steps, 3 * steps)], "metrics", "f")
    assert curve.binned == 7
    np.testing.assert_allclose(curve.interval.estimate, 2 * curve.steps)
    assert curve.steps[0] == 4  # the mean of 1 … 7
    assert curve.steps[-1] == np.mean(np.arange(995, 1001))


def test_final_figures_leave_out_what_is_not_finite():
    found = final([result(0, [1], [1]), result(1, [1], [math.inf]), result(2, [1], [3])], "f")
    assert found.values == (1, 3)
    assert (found.estimate, found.low, found.high) == (2, 1, 3)
    assert final([result(0, [1], [math.nan])], "f") is None


def test_work_of_one_update_is_known_where_all_runs_agree(tmp_path):
    folders = [write_run(tmp_path / str(seed), "dr", seed) for seed in range(2)]
    assert work_per_update(gather(folders)) == ("learning steps", 2048)
    about = RunFolder(folders[0]).result()
    about["work_per_second"]["value"] *= 2
    write_result(RunFolder(folders[0]), about)
    assert work_per_update(gather(folders)) is None


def test_terminal_lines_are_plain_without_a_terminal(study_folder, capsys):
    terminal_table([study_folder], study=STUDY)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("holds: accel_generalises: 0.19 [0.15, 0.23] (")
    assert any(line.startswith("accel: suite_solved 0.83 [") for line in lines)
    assert "\x1b" not in out
    assert "│" not in out


def test_terminal_table_shows_the_same(study_folder):
    console = Console(force_terminal=True, width=140, record=True, file=io.StringIO())
    terminal_table([study_folder], study=STUDY, console=console)
    text = console.export_text()
    for words in ("✓ holds", "✕ fails", "? undecided", "0.83 [0.79, 0.86]", "Final figures"):
        assert words in text


def test_names_cannot_steer_the_terminal(tmp_path, capsys):
    folder = write_run(tmp_path / "run", "dr", 0)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"arm": "dr\x1b[2J[red]\n"}))
    terminal_table([folder])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "dr [2J[red] :" in out


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (numbers.number(0.12345), "0.123"),
        (numbers.number(1234567.0), "1 234 567"),
        (numbers.number(-2.5e-7), "−2.50e−07"),
        (numbers.number(math.nan), "–"),
        (numbers.alike([0.5, 0.25, math.nan]), ["0.50", "0.25", "–"]),
        (numbers.alike([0.0123, 0.01, 0.02]), ["0.0123", "0.0100", "0.0200"]),
        (numbers.alike([24.51, 23.8, 25.29]), ["24.5", "23.8", "25.3"]),
        (numbers.duration(45.2), "45 s"),
        (numbers.duration(200), "3 min 20 s"),
        (numbers.duration(7500), "2 h 05 min"),
        (numbers.size(7.4e8), "706 MiB"),
        (numbers.size(3 * 2**30), "3.0 GiB"),
        (numbers.rate(13312.0), "13.3k"),
        (numbers.seeds([2, 0, 1]), "0:3"),
        (numbers.seeds([4]), "4"),
        (numbers.seeds([1, 4]), "1,4"),
    ],
)
def test_numbers_as_a_reader_wants_them(shown, wanted):
    assert shown == wanted


def test_markup_escapes_all_but_markup():
    built = element("p", "<b>", Markup("<i></i>"), None, ["&", 3], class_="a\"b'", title=None, open=True)
    assert built == '<p class="a&quot;b&#x27;" open>&lt;b&gt;<i></i>&amp;3</p>'
    assert element("p", "a\x00b\ud800c") == "<p>a b c</p>"
    assert element("br") == "<br>"
    assert ATTACK not in element("p", ATTACK)
