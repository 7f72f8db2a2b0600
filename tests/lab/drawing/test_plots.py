import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tutelage.lab.drawing import plots
from tutelage.lab.drawing.svg import INK
from tutelage.lab.errors import BadInput

SVG = "{http://www.w3.org/2000/svg}"
BACKGROUNDS = ("#fbfaf7", "#15181d")

# Machado, Oliveira & Fernandes (2009): what the three kinds of dichromats see, in linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return linear(colour) @ [0.2126, 0.7152, 0.0722]


def oklab(rgb):
    """Ottosson's perceptual space, in which a distance of 0.02 is just visible."""
    to_lms = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566]]
    to_lms.append([0.0883024619, 0.2817188376, 0.6299787005])
    to_lab = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099]]
    to_lab.append([0.0259040371, 0.7827717662, -0.8086757660])
    return np.array(to_lab) @ np.cbrt(np.array(to_lms) @ np.clip(rgb, 0, 1))


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("colour", plots.PALETTE)
def test_every_colour_stands_out_on_light_and_dark(colour, background):
    light, dark = sorted((luminance(colour), luminance(background)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 2.9  # WCAG asks 3:1 of graphics; the paper is not quite white


@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_are_told_apart_by_everyone(sight):
    seen = [oklab(np.array(SIGHTS[sight]) @ linear(colour)) for colour in plots.PALETTE]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 0.1


def test_a_series_has_its_own_colour_or_dash():
    looks = [(plots.colour(series), str(plots.dash(series))) for series in range(24)]
    assert len(set(looks)) == 24


def line(label="a", series=0, y=(1.0, 2.0, 4.0)):
    y = np.array(y)
    return plots.Curve(label, np.arange(len(y)), y, y - 0.5, y + 0.5, series)


EVERY = {
    "curves": lambda **k: plots.curves([line("a"), line("b", 1)], title="t", work=("steps", 10.0), **k),
    "bars": lambda **k: plots.bars([plots.Bar("a", 1, 0.5, 1.5, (0.6, 1.4)), plots.Bar("b", 2)], title="t", **k),
    "heat_map": lambda **k: plots.heat_map([[1, np.nan], [3, 4]], rows=["a", "b"], columns=["c", "d"], title="t", **k),
    "scatter": lambda **k: plots.scatter([1, 2], [3, 4], groups=["a", "b"], title="t", **k),
    "plane": lambda **k: plots.plane([plots.Cloud("a", [1, 2], [3, 4]), plots.Cloud("b", [2], [1], 1)], title="t", **k),
    "octaves": lambda **k: plots.curves([line("a", y=(1.0, 2.0, 4.0))], scale="log2", title="t", **k),
    "small_multiples": lambda **k: plots.small_multiples({"p": [line()], "q": [line()]}, title="t", **k),
}


@pytest.fixture(params=EVERY)
def draw(request):
    return EVERY[request.param]


def test_document_is_self_contained_and_takes_the_ink_of_its_page(draw):
    svg = draw()
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert {element.tag for element in root.iter()} <= {
        f"{SVG}{tag}"
        for tag in ("svg", "title", "desc", "style", "defs", "clipPath", "g", "path", "use", "text", "rect")
    }
    addresses = re.findall(r"https?://[^\"' ]+", svg)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}
    assert "currentColor" in svg
    assert INK not in svg
    assert "DejaVu" not in svg
    assert re.sub(r"svg:root\{[^}]*\}", "", root.find(f"{SVG}style").text) == "@media (prefers-color-scheme:dark){}"


def test_text_stays_text(draw):
    words = [element.text for element in ElementTree.fromstring(draw()).iter(f"{SVG}text")]
    assert "t" in words


def test_equal_input_equal_bytes_and_settings_are_put_back(draw):
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert draw() == draw()
    assert dict(matplotlib.rcParams) == before


def test_ids_are_own_unique_and_all_referred_to(draw):
    first, second = (ElementTree.fromstring(draw(name=name)) for name in ("one", "two <&"))
    ids = [element.get("id") for element in first.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"plot-one-[a-z0-9]+", word) for word in ids)
    assert not set(ids) & {element.get("id") for element in second.iter() if element.get("id")}
    text = ElementTree.tostring(first, encoding="unicode")
    for word in ids:
        assert f"#{word}" in text or word in first.get("aria-labelledby")
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)
    assert {element.get("href")[1:] for element in first.iter() if element.get("href")} <= set(ids)


def test_names_from_outside_are_text():
    hostile = "<script>alert(1)</script> $\\frac{1}{0}$ _x \x00\x1b 名前 \"' &amp;"
    svg = plots.curves([line(hostile)], title=hostile, x_label=hostile, y_label=hostile, work=(hostile, 2.0))
    svg += plots.scatter([1.0], [1.0], groups=[hostile], title="_hidden")
    svg += plots.plane([plots.Cloud(hostile, [1.0, 2.0], [1.0, 0.0])], title=hostile, x_label=hostile)
    svg += plots.bars([plots.Bar(hostile, 1.0)]) + plots.small_multiples({hostile: [line(hostile)]})
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg
    assert "frac{1}{0}" in svg


def positions(svg, element):
    """The drawn points of the first path of a colour, in pixels."""
    data = re.search(rf'<path d="([^"]*)"[^>]*stroke: {element}', svg)[1]
    return np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", data), dtype=float)


def test_curve_is_drawn_where_the_numbers_are():
    drawn = positions(plots.curves([line(y=(1.0, 2.0, 4.0))], labels=False), plots.PALETTE[0])
    assert drawn.shape == (3, 2)
    steps = np.diff(drawn, axis=0)
    assert steps[0, 0] == pytest.approx(steps[1, 0], abs=0.02)
    assert steps[1, 1] == pytest.approx(2 * steps[0, 1], abs=0.05)
    assert steps[0, 1] < 0  # up


def test_labels_at_the_ends_never_overlap():
    lines = [line(f"arm {k}", k, y=(0.0, 1.0 + 0.001 * k)) for k in range(15)]
    root = ElementTree.fromstring(plots.curves(lines, size=(700, 360)))
    rows = sorted(float(text.get("y")) for text in root.iter(f"{SVG}text") if (text.text or "").startswith("arm"))
    assert len(rows) == 15
    assert min(np.diff(rows)) > 11
    assert rows[0] > 0 and rows[-1] < 360


def test_labels_of_points_in_a_plane_never_overlap():
    clouds = [plots.Cloud(f"arm {k}", [0.1 * k, 0.2], [0.5, 0.5 + 0.001 * k], k) for k in range(14)]
    root = ElementTree.fromstring(plots.plane(clouds))
    texts = [text for text in root.iter(f"{SVG}text") if (text.text or "").startswith("arm")]
    rows = sorted(float(text.get("y")) for text in texts)
    assert len(rows) == 14
    assert min(np.diff(rows)) > 11
    assert rows[0] > 0 and rows[-1] < 340
    assert len({text.get("x") for text in texts}) == 1  # a column beside the plane


def ticks(svg):
    """The words under the horizontal axis with their places."""
    texts = [text for text in ElementTree.fromstring(svg).iter(f"{SVG}text") if "middle" in text.get("style", "")]
    return {text.text: float(text.get("x")) for text in texts if re.fullmatch(r"[\d.k]+", text.text or "")}


def test_an_axis_of_octaves_gives_each_doubling_the_same_room():
    ks = np.array([1, 2, 4, 8, 16, 32, 96])
    svg = plots.curves([plots.Curve("a", ks, np.linspace(0, 1, ks.size))], scale="log2")
    found = ticks(svg)
    assert list(found) == ["1", "2", "4", "8", "16", "32", "64"]
    np.testing.assert_allclose(np.diff(list(found.values())), np.diff(list(found.values()))[0], atol=0.05)
    drawn = positions(svg, plots.PALETTE[0])
    np.testing.assert_allclose(drawn[:6, 0], list(found.values())[:6], atol=0.05)
    assert list(ticks(plots.curves([plots.Curve("a", 2.0 ** np.arange(21), np.arange(21))], scale="log2")))[:3] == [
        "1",
        "8",
        "64",
    ]


@pytest.mark.parametrize(("most", "fractions"), [(3, False), (3.5, True)])
def test_an_axis_of_counts_has_no_fractions(most, fractions):
    found = ticks(plots.curves([plots.Curve("a", [2, most], [10.0, 20.0])]))
    assert any("." in word and float(word) < 4 for word in found) == fractions


def test_a_curve_that_ends_before_the_others_ends_in_a_dot():
    short, long = line("short", 0, (1.0, 2.0)), line("long", 1, (1.0, 2.0, 3.0))
    assert plots.curves([short, long]).count("<use") - plots.curves([long, long]).count("<use") == 1


def test_a_curve_that_turns_back_is_drawn_whole():
    svg = plots.curves([plots.Curve("a", [0.0, 3.0, 1.0], [0.0, 1.0, 2.0])])
    drawn = positions(svg, plots.PALETTE[0])
    assert drawn[1, 0] - drawn[0, 0] == pytest.approx(3 * (drawn[2, 0] - drawn[0, 0]), abs=0.1)
    (frame,) = ElementTree.fromstring(svg).iter(f"{SVG}rect")  # what is outside it is cut off
    assert drawn[1, 0] <= float(frame.get("x")) + float(frame.get("width")) + 0.01


def test_points_of_a_plane_are_where_the_numbers_are():
    cloud = plots.Cloud("a", [0.0, 1.0, np.nan], [0.0, 4.0, 2.0])
    root = ElementTree.fromstring(plots.plane([cloud]))
    shade = f"fill: {plots.PALETTE[0]}"
    points = [
        (float(use.get("x")), float(use.get("y"))) for use in root.iter(f"{SVG}use") if shade in use.get("style", "")
    ]
    (x0, y0), (x1, y1), mean = points
    assert mean == pytest.approx(((x0 + x1) / 2, (y0 + y1) / 2), abs=0.01)
    assert x1 > x0 and y1 < y0
    assert "a: 0.5, 2" in plots.plane([cloud])


def test_pooling_moves_labels_as_little_as_needed():
    np.testing.assert_allclose(plots._apart(np.array([0.1, 0.5, 0.9]), 0.1), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(plots._apart(np.array([0.5, 0.5, 0.9]), 0.1), [0.45, 0.55, 0.9])
    np.testing.assert_allclose(plots._apart(np.array([0.5, 0.5, 0.5]), 0.1), [0.4, 0.5, 0.6])


def test_nothing_to_draw_still_draws():
    empty = plots.Curve("none", np.array([]), np.array([]))
    nan = line(y=(np.nan, np.nan))
    none = plots.Cloud("none", [np.nan], [1.0])
    for svg in (
        plots.plane([]),
        plots.plane([none]),
        plots.curves([], scale="log2"),
        plots.curves([nan], scale="log2"),
    ):
        ElementTree.fromstring(svg)
    for svg in (plots.curves([]), plots.curves([empty]), plots.curves([nan]), plots.bars([])):
        ElementTree.fromstring(svg)
    assert "has no values" in plots.curves([nan])


@pytest.mark.parametrize(
    ("number", "words"), [(950, "950"), (1200, "1.2k"), (30_000, "30k"), (4.1e6, "4.1M"), (0, "0")]
)
def test_short_numbers(number, words):
    assert plots.short(number) == words


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.curves([plots.Curve("a", [1, 2], [1])]), "curve 'a'"),
        (lambda: plots.heat_map([[1, 2]], rows=["a"], columns=["b"]), "values"),
        (lambda: plots.scatter([1, 2], [1]), "x, y, groups"),
        (lambda: plots.scatter([1, 2], [1, 2], groups=["a"]), "x, y, groups"),
        (lambda: plots.plane([plots.Cloud("a", [1, 2], [1])]), "cloud 'a'"),
        (lambda: plots.small_multiples({}), "panels"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BadInput, match=message):
        call()
