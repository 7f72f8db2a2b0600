import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.envs.maze import Level, format_level, format_levels, parse_level, parse_levels
from tutelage.lab.errors import BadInput

TWO = """
name: first: one
max_steps: 7
>.#
#.G


..G
^##
"""


def test_a_file_of_levels_by_hand():
    levels = parse_levels(TWO, max_steps=99)
    assert list(levels) == ["first: one", "2"]
    first, second = levels.values()
    np.testing.assert_array_equal(first.wall, [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(first.agent, [0, 0])
    np.testing.assert_array_equal(first.goal, [2, 1])
    assert (int(first.direction), int(first.max_steps)) == (0, 7)
    np.testing.assert_array_equal(second.agent, [0, 1])
    assert (int(second.direction), int(second.max_steps)) == (3, 99)
    assert format_level(second) == "..G\n^##"
    assert first.wall.dtype == jnp.bool_ and all(leaf.dtype == jnp.int32 for leaf in first[1:])


@st.composite
def any_level(draw):
    height, width = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    agent, goal = draw(st.lists(st.integers(0, height * width - 1), min_size=2, max_size=2, unique=True))
    wall = np.array(draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width)))
    wall[[agent, goal]] = False
    return Level(
        wall.reshape(height, width),
        np.array([agent % width, agent // width], np.int32),
        np.int32(draw(st.integers(0, 3))),
        np.array([goal % width, goal // width], np.int32),
        np.int32(draw(st.integers(1, 2**31 - 1))),
    )


names = st.text(min_size=1, max_size=12).filter(lambda name: name == name.strip() and len(name.splitlines()) == 1)


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(st.dictionaries(names, any_level(), min_size=1, max_size=4))
def test_written_levels_are_read_back(levels):
    again = parse_levels(format_levels(levels))
    assert list(again) == list(levels)
    for name, level in levels.items():
        jax.tree.map(np.testing.assert_array_equal, again[name], level)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">.\n.x\nG.", "levels, line 2, column 2: 'x' is no cell"),
        (">..\n..\nG..", "levels, line 2, column 3: the row has 2 cells, the first row of its level 3"),
        (">.\n...\nG.", "levels, line 2, column 3: the row has 3 cells"),
        ("\n\n>.G\n.<.", "levels, line 4, column 2: a second agent"),
        (">GG", "levels, line 1, column 3: a second goal"),
        ("..G", "levels, line 1: the level has no agent"),
        (">..", "levels, line 1: the level has no goal"),
        ("max_steps: 0\n>G", r"levels, line 1: max_steps = '0' is not a number of steps; allowed is \[1, 2147483647\]"),
        ("max_steps: ²\n>G", "levels, line 1: max_steps = '²' is not a number of steps"),
        ("max_steps: 2147483648\n>G", "is not a number of steps"),
        ("max_step: 3\n>G", "levels, line 1: unknown field 'max_step'.* did you mean 'max_steps'"),
        ("name:\n>G", "levels, line 1: name is empty"),
        ("name: a\nname: b\n>G", "levels, line 2: name is given twice"),
        (">G\nname: a", "levels, line 2: 'name' stands below its map"),
        ("name: a", "levels, line 1: level 'a' has no map"),
        ("name: a\n>G\n\nname: a\n>G", "levels, line 4: there are two levels with the name 'a'"),
        (" \n\n", "levels: there is no level in it"),
        (".\t>G", "column 2: '\\\\t' is no cell"),
    ],
)
def test_faults_are_named_by_line_and_column(text, message):
    with pytest.raises(BadInput, match=message) as error:
        parse_levels(text)
    assert "\n" not in str(error.value)


def test_one_level_is_wanted():
    with pytest.raises(BadInput, match=r"mine\.txt: there are 2 levels in it"):
        parse_level(TWO, source="mine.txt")


@pytest.mark.parametrize("name", ["", " a", "a\nb", "a\x0bb"])
def test_names_that_would_not_be_read_back_are_not_written(name):
    with pytest.raises(BadInput, match="cannot be written"):
        format_levels({name: parse_level(">G")})
