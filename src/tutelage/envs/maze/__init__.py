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
