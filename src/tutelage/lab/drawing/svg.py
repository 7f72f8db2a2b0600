"""Matplotlib's drawings made into SVG text that can live anywhere: own ids, the page's ink and font, nothing else."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#010203"
"""Stands for `currentColor`, which matplotlib has no name for; no plot may use it for anything else."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tutelage",
    "text.parse_math": False,  # a name with dollar signs is a name
    "font.size": 11.0,
    "axes.titlesize": 12.0,
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 11.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.8,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK
    ),
    "grid.color": INK,
}
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"


def plain(text: str, longest: int = 60) -> str:
    """Any text as one line that fits on a plot: no control characters, cut with an ellipsis."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def render(draw: Callable[[Figure], None], size: tuple[int, int], title: str, description: str, name: str) -> str:
    """One complete SVG document of what `draw` puts on a figure of `size` pixels; `name` begins its ids."""
    with rc_context(_STYLE), warnings.catch_warnings():
        # Which letters matplotlib's own font has is of no concern: the reader's browser sets the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # 72 dots an inch: one point of matplotlib is one pixel of the SVG.
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72, layout="constrained")
        FigureCanvasSVG(figure)
        figure.get_layout_engine().set(w_pad=2 / 72, h_pad=2 / 72)  # type: ignore[union-attr]
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    return _clean(file.getvalue(), size, title, description, name)


def rendered(svg: str) -> bool:
    """Whether `render` made this document, so that it can be put into a page as it is."""
    root = svg[: svg.find(">") + 1]
    return root.startswith(f'<svg xmlns="{_SVG}" viewBox="0 0 ') and ' class="plot" ' in root


def _clean(text: str, size: tuple[int, int], title: str, description: str, name: str) -> str:
    """Matplotlib's SVG made fit to live in a page: own ids, no rules for other elements, the page's font and ink."""
    root = ElementTree.fromstring(text[text.index("<svg") :])
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    prefix = re.sub(r"[^A-Za-z0-9_-]", "-", name) or hashlib.blake2s(body.encode(), digest_size=5).hexdigest()
    prefix = f"plot-{prefix}"
    _rename(root, prefix)
    for element in root.iter():
        if element.tag == f"{{{_SVG}}}path" and "d" in element.attrib:
            rounded = re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}", element.get("d", ""))
            element.set("d", " ".join(rounded.split()))
        if "style" in element.attrib:
            style = element.get("style", "").replace(INK, "currentColor")
            # The root names the family; size and weight stay.
            element.set("style", re.sub(r"font-family:[^;]*;\s*", "", style))
    ElementTree.register_namespace("", _SVG)
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    body = body.replace(f' xmlns="{_SVG}"', "").replace(f' xmlns:ns0="{_SVG}"', "")
    head = ElementTree.Element("svg")
    for tag, words in (("title", title), ("desc", description)):
        child = ElementTree.SubElement(head, tag, {"id": f"{prefix}-{tag}"})
        child.text = plain(words, 600)
    words = "".join(ElementTree.tostring(child, encoding="unicode") for child in head)
    # `svg:root` is this element only where the SVG is a document of its own; inside a page it takes the page's colour.
    own = "svg:root{color:#22262c}@media (prefers-color-scheme:dark){svg:root{color:#e4e2dc}}"
    return (
        f'<svg xmlns="{_SVG}" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}" role="img" '
        f'aria-labelledby="{prefix}-title {prefix}-desc" class="plot" '
        f'style="max-width:100%;height:auto;font-family:system-ui,sans-serif;stroke-linejoin:round">'
        f"{words}<style>{own}</style>{body}</svg>"
    )


def _rename(root: ElementTree.Element, prefix: str) -> None:
    """Only ids that something refers to are kept, numbered behind the prefix; references become plain `href`."""
    used: dict[str, str] = {}

    def own(old: str) -> str:
        return used.setdefault(old, f"{prefix}-{len(used)}")

    for element in root.iter():
        if (target := element.attrib.pop(_XLINK, "")).startswith("#"):
            element.set("href", "#" + own(target[1:]))
        for attribute in ("clip-path", "style", "fill", "stroke", "mask"):
            if "url(#" in element.get(attribute, ""):
                renamed = re.sub(r"url\(#([^)]*)\)", lambda match: f"url(#{own(match[1])})", element.get(attribute, ""))
                element.set(attribute, renamed)
    for element in root.iter():
        if (old := element.attrib.pop("id", "")) in used:
            element.set("id", used[old])
