"""The report in a real browser: what a person sees, on a desk, on a phone, in the dark and on paper.

The picture that attacks (`paper_study.HOSTILE`) and the hostile names are in the page that is opened here.
"""

import io

import numpy as np
import pytest
from chromium import Chromium
from lab.paper_study import STUDY, write_run, write_study
from matplotlib.image import imread

from tutelage.lab.report import write_report


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    running = Chromium(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("runs") / "study")
    return write_report([folder], study=STUDY).as_uri()


@pytest.fixture(scope="module")
def desk(browser, address):
    return browser.open(address, width=1280)


def pixels(picture):
    return imread(io.BytesIO(picture))[..., :3]


def brightness(page):
    return float(np.median(pixels(page.screenshot())))


def test_content_is_there(desk):
    assert desk.evaluate("document.title") == f"{STUDY.paper.title} · Tutelage report"
    headings = desk.evaluate("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    first = ["Claims", "Results", "Comparisons", "Learning curves"]
    assert headings == [*first, "Exhibits", "Configuration", "Cost", "Versions"]
    assert desk.evaluate("document.querySelectorAll('.claims > li').length") == 8
    assert desk.evaluate("[...document.querySelectorAll('.chip')].map(c => c.textContent)").count("✓ holds") == 4
    assert desk.evaluate("document.querySelectorAll('.claims .strip .interval').length") == 7


def test_nothing_is_said_and_nothing_asked_for(desk, address):
    assert desk.complaints() == []
    assert [request for request in desk.requests() if not request.startswith("data:")] == [address]


def test_scripts_cannot_run(desk):
    assert desk.evaluate("document.scripts.length") == 0
    # The policy stops what an attacker would add if the escaping had a hole.
    desk.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'document.title = \"attacked\"';"
        "document.body.append(s); s.remove(); })()"
    )
    assert "attacked" not in desk.evaluate("document.title")


def test_every_picture_is_drawn(desk):
    pictures = desk.evaluate(
        "Promise.all([...document.images].map(i => i.decode().then(() => [i.naturalWidth, i.alt.length > 0])))"
    )
    assert len(pictures) == 20
    assert all(width > 0 and named for width, named in pictures)


def test_colours_of_the_curves_are_drawn(desk):
    strokes = desk.evaluate(
        "[...new Set([...document.querySelectorAll('.wide-only .plot path')].map(p => getComputedStyle(p).stroke))]"
    )
    assert {"rgb(45, 105, 150)", "rgb(255, 90, 0)", "rgb(45, 165, 135)"} <= set(strokes)


def test_animations_play(browser, address):
    page = browser.open(address)
    page.evaluate("document.querySelector('.exhibits img').scrollIntoView({behavior: 'instant'})")
    box = page.evaluate(
        "(r => [r.x, r.y, r.width, r.height])(document.querySelector('.exhibits img').getBoundingClientRect())"
    )
    left, top, width, height = (round(side) for side in box)

    def picture():
        return pixels(page.screenshot())[max(top, 60) : top + height, left : left + width]

    before = picture()
    moved = 0.0
    for _ in range(20):  # four seconds a round: it has moved by then
        page.evaluate("new Promise(done => setTimeout(done, 200))")
        moved = float(np.abs(picture() - before).max())
        if moved > 0.2:
            break
    assert moved > 0.2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_has_no_sideways_scroll(browser, address, scheme):
    page = browser.open(address, width=390, height=844, prefers_color_scheme=scheme)
    assert page.evaluate("innerWidth") == 390
    for opened in (False, True):
        page.evaluate(f"document.querySelectorAll('details').forEach(d => d.open = {str(opened).lower()})")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        wide = page.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, svg') && "
            "e.getBoundingClientRect().right > 391).map(e => e.outerHTML.slice(0, 80))"
        )
        assert wide == []
    assert page.evaluate("getComputedStyle(document.querySelector('.narrow-only')).display") == "block"
    assert page.evaluate("getComputedStyle(document.querySelector('.wide-only')).display") == "none"
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('main p')].map(p => parseFloat(getComputedStyle(p).fontSize)))"
    )
    assert smallest >= 13


CONTRAST = """(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = colour => colour.slice(0, 3).map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
  let worst = [99, ''];
  for (const e of document.querySelectorAll('h1,h2,h3,p,a,th,td,b,small,summary,li,dt,dd,figcaption,.chip')) {
    if (!e.textContent.trim() || !e.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 100)];
  }
  return worst;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser, address, scheme):
    page = browser.open(address, prefers_color_scheme=scheme)
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where


def test_dark_and_light(browser, address):
    light, dark = (browser.open(address, prefers_color_scheme=scheme) for scheme in ("light", "dark"))
    assert brightness(light) > 0.9
    assert brightness(dark) < 0.15
    ink = "getComputedStyle(document.querySelector('.wide-only .plot text')).fill"
    assert light.evaluate(ink) == "rgb(29, 33, 38)"
    assert dark.evaluate(ink) == "rgb(230, 228, 222)"


def test_everything_can_be_reached_by_keyboard(desk):
    boxes = desk.evaluate(
        "[...document.querySelectorAll('.scroll, summary, nav a')].filter(e => e.tabIndex < 0).map(e => e.outerHTML)"
    )
    assert boxes == []


def test_print_clips_nothing(browser, address):
    page = browser.open(address, width=718, media="print")  # A4 within the browser's margins
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    clipped = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('svg') && e.getClientRects().length && "
        "e.getBoundingClientRect().right > 719).map(e => e.outerHTML.slice(0, 100))"
    )
    assert clipped == []
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.pdf().startswith(b"%PDF")


def test_one_run_and_no_study(browser, tmp_path):
    folder = write_run(tmp_path / "alone", "dr", 0)
    (folder / "metrics.jsonl").unlink()
    page = browser.open(write_report([folder]).as_uri(), width=390)
    assert "What is missing" in page.evaluate("document.body.innerText")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.complaints() == []


def test_screenshots(browser, address, tmp_path):
    """Whole pages as pictures (look at them under pytest's --basetemp): not blank, and as long as the page."""
    for name, width, scheme in (("desk", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light")):
        page = browser.open(address, width=width, prefers_color_scheme=scheme)
        page.screenshot(tmp_path / f"{name}.png", whole=True)
        shown = imread(tmp_path / f"{name}.png")
        assert shown.shape[1] == width
        assert shown.shape[0] == page.evaluate("document.documentElement.scrollHeight")
        assert len(np.unique(shown[::5, ::5, :3] @ [1.0, 256.0, 65536.0])) > 50  # colours
