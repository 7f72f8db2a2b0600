import io
import re
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from tutelage.envs.config import MazeConfig
from tutelage.envs.maze import Walk, make_maze, parse_level, render, suite, walk_of

LEVEL = parse_level(">.#\n##.\n.G#")
NAMESPACE = "{http://www.w3.org/2000/svg}"


def elements(document, name, kind=None):
    root = ElementTree.fromstring(document)
    assert root.tag == NAMESPACE + "svg"
    return [node for node in root.iter(NAMESPACE + name) if kind is None or node.get("class") == kind]


def test_walls_of_an_svg_are_those_of_the_level():
    document = render.svg(LEVEL, title="<b> & co", cell=10)
    border, walls = (node.get("d") for node in elements(document, "path", "maze-wall"))
    assert border == "M0 0h5v5h-5zM1 1h3v3h-3z"
    assert walls == "M3 1h1v1h-1zM1 2h2v1h-2zM3 3h1v1h-1z"
    (goal,) = elements(document, "rect", "maze-goal")
    assert (float(goal.get("x")), float(goal.get("y"))) == (2.12, 3.12)
    (agent, turned) = elements(document, "g")
    assert (agent.get("transform"), turned.get("transform")) == ("translate(1.5 1.5)", "rotate(0)")
    assert elements(document, "title")[0].text == "<b> & co"
    root = ElementTree.fromstring(document)
    assert (root.get("viewBox"), root.get("width"), root.get("height")) == ("0 0 5 5", "50", "50")
    assert not elements(document, "animateTransform") and not elements(document, "rect", "maze-sight")


@pytest.mark.parametrize("name", ["SixteenRooms", "Labyrinth2", "FourRooms"])
def test_runs_cover_exactly_the_walls(name):
    level = suite([name])[name].sample(jax.random.key(0))
    _, walls = (node.get("d") for node in elements(render.svg(level), "path", "maze-wall"))
    covered = np.zeros(level.wall.shape, dtype=bool)
    for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", walls):
        covered[int(y) - 1, int(x) - 1 : int(x) - 1 + int(length)] = True
    np.testing.assert_array_equal(covered, level.wall)


def test_an_animated_walk_visits_every_position_and_never_spins_backwards():
    """From up (3) to right (0) is a quarter turn to the right: 270° to 360°, not to 0°."""
    walk = Walk(x=np.array([0, 1, 1, 1]), y=np.array([0, 0, 0, 0]), direction=np.array([3, 3, 0, 1]))
    document = render.svg(LEVEL, walk, seconds_per_step=0.5, view=5)
    move, rotate = elements(document, "animateTransform")
    places = move.get("values").split(";")
    assert places[:4] == ["1.5 1.5", "2.5 1.5", "2.5 1.5", "2.5 1.5"] and set(places[4:]) == {"2.5 1.5"}
    angles = rotate.get("values").split(";")
    assert angles[:4] == ["270", "270", "360", "450"] and len(angles) == len(places)
    assert move.get("dur") == rotate.get("dur") == f"{0.5 * len(places):g}s"
    (sight,) = elements(document, "rect", "maze-sight")
    assert [sight.get(name) for name in ("x", "y", "width", "height")] == ["-.5", "-2.5", "5", "5"]
    (trail,) = elements(document, "polyline", "maze-trail")
    assert trail.get("points") == "1.5,1.5 2.5,1.5 2.5,1.5 2.5,1.5"


def test_a_walk_is_read_from_the_states_of_an_episode():
    env = make_maze(MazeConfig())
    state, _ = env.reset(jax.random.key(0), LEVEL)

    def step(state, action):
        return env.step(jax.random.key(0), state, action)[0], state

    _, states = jax.lax.scan(step, state, jnp.array([2, 1, 0, 6]))
    walk = walk_of(states, 3)
    assert (walk.x.tolist(), walk.y.tolist(), walk.direction.tolist()) == ([0, 1, 1], [0, 0, 0], [0, 0, 1])


def test_a_gallery_shows_all_levels_with_their_captions():
    document = render.gallery([LEVEL] * 3, ["a < b", "", "c"], columns=2)
    assert [node.text for node in elements(document, "text")] == ["a < b", None, "c"]
    assert len(elements(document, "rect", "maze-goal")) == 3
    assert ElementTree.fromstring(document).get("viewBox") == "0 0 11 14"
    assert elements(render.gallery([], []), "svg")
    with pytest.raises(ValueError):
        render.gallery([LEVEL], [])


def test_an_image_has_the_levels_colours_and_a_png_holds_it():
    picture = render.image(LEVEL, cell=4)
    assert picture.shape == (20, 20, 3) and picture.dtype == np.uint8
    middle = picture[2::4, 2::4].astype(int)
    wall, floor, goal, agent = middle[0, 0], middle[1, 2], middle[3, 2], middle[1, 1]
    assert len({tuple(colour) for colour in (wall, floor, goal, agent)}) == 4
    np.testing.assert_array_equal(np.all(middle[1:4, 1:4] == wall, axis=2), LEVEL.wall)
    decoded = matplotlib.image.imread(io.BytesIO(render.png(picture)), format="png")
    np.testing.assert_array_equal(np.round(decoded[..., :3] * 255).astype(np.uint8), picture)


@pytest.mark.parametrize("direction", range(4))
def test_the_agents_triangle_points_where_it_looks(direction):
    """Its base is the long side, so most of its pixels lie behind the middle of the cell."""
    level = LEVEL._replace(direction=jnp.int32(direction))
    picture = render.image(level, cell=32)[32:64, 32:64]
    marked = np.argwhere(np.any(picture != render.image(LEVEL, cell=32)[32:64, 64:96], axis=2))
    y, x = marked.mean(axis=0) - 15.5
    ahead = {0: (1, 0), 1: (0, 1), 2: (-1, 0), 3: (0, -1)}[direction]
    assert x * ahead[0] + y * ahead[1] < -3
    assert abs(x * ahead[1] + y * ahead[0]) < 0.5


def test_the_terminal_shows_two_characters_a_cell():
    text = render.terminal(LEVEL, colour=False)
    assert text.splitlines() == ["██████████", "██▶   ████", "██████  ██", "██  ◆ ████", "██████████"]
    coloured = render.terminal(LEVEL)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == text and "\x1b" in coloured
