"""Mazes: dynamics, levels and where they come from, exact solutions, texts, pictures, and the teacher's editor."""

from tutelage.envs.maze.dynamics import MazeState as MazeState
from tutelage.envs.maze.dynamics import make_maze as make_maze
from tutelage.envs.maze.editor import EditorObs as EditorObs
from tutelage.envs.maze.editor import EditorState as EditorState
from tutelage.envs.maze.editor import level_of as level_of
from tutelage.envs.maze.editor import make_editor as make_editor
from tutelage.envs.maze.generator import random_level as random_level
from tutelage.envs.maze.level import Level as Level
from tutelage.envs.maze.level import equal as equal
from tutelage.envs.maze.level import is_valid as is_valid
from tutelage.envs.maze.level import pad as pad
from tutelage.envs.maze.level import stack as stack
from tutelage.envs.maze.mutation import mutate as mutate
from tutelage.envs.maze.observation import CHANNELS as CHANNELS
from tutelage.envs.maze.observation import MazeObs as MazeObs
from tutelage.envs.maze.observation import channels as channels
from tutelage.envs.maze.observation import view_channels as view_channels
from tutelage.envs.maze.render import Walk as Walk
from tutelage.envs.maze.render import walk_of as walk_of
from tutelage.envs.maze.suites import LevelSource as LevelSource
from tutelage.envs.maze.suites import suite as suite
from tutelage.envs.maze.text import format_level as format_level
from tutelage.envs.maze.text import format_levels as format_levels
from tutelage.envs.maze.text import parse_level as parse_level
from tutelage.envs.maze.text import parse_levels as parse_levels
