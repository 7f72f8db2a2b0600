"""MiniGrid's maze once more, slowly and plainly: one object per cell, one episode at a time, no code of ours.

Written from the specification (AMaze: MiniGrid in which the agent does not step onto the goal).
"""

from collections import deque

import numpy as np

WALL, GOAL, NOTHING = ("wall", "grey"), ("goal", "green"), None
OBJECT = {"empty": 1, "wall": 2, "goal": 8, "agent": 10}
COLOUR = {"red": 0, "green": 1, "grey": 5}
MOVE = {0: (1, 0), 1: (0, 1), 2: (-1, 0), 3: (0, -1)}


class NumpyMaze:
    """State is public: `grid[y][x]`, `x`, `y`, `direction`, `time`, `done`."""

    def __init__(self, wall, agent, direction, goal, max_steps, view=5, see_agent=False):
        self.grid = [[WALL if cell else NOTHING for cell in row] for row in np.asarray(wall)]
        goal_x, goal_y = (int(place) for place in goal)
        self.grid[goal_y][goal_x] = GOAL
        self.x, self.y = (int(place) for place in agent)
        self.direction, self.max_steps = int(direction), int(max_steps)
        self.view, self.see_agent = view, see_agent
        self.time, self.done = 0, False

    def look_at(self, x, y):
        inside = 0 <= y < len(self.grid) and 0 <= x < len(self.grid[0])
        return self.grid[y][x] if inside else WALL

    def step(self, action):
        """Returns the reward."""
        reward = 0.0
        if action == 0:
            self.direction -= 1
            if self.direction < 0:
                self.direction += 4
        elif action == 1:
            self.direction = (self.direction + 1) % 4
        elif action == 2:
            x, y = self.x + MOVE[self.direction][0], self.y + MOVE[self.direction][1]
            ahead = self.look_at(x, y)
            if ahead is NOTHING:
                self.x, self.y = x, y
            elif ahead is GOAL:
                reward = 1 - 0.9 * (self.time + 1) / self.max_steps
                self.done = True
        self.time += 1
        self.done = self.done or self.time >= self.max_steps
        return reward

    def encode(self, thing):
        if thing is NOTHING:
            return (OBJECT["empty"], 0, 0)
        return (OBJECT[thing[0]], COLOUR[thing[1]], 0)

    def observe(self):
        """[view, view, 3]: the square in front of the agent, cut in the frame of the map, then turned."""
        side, half = self.view, self.view // 2
        left, top = {
            0: (self.x, self.y - half),
            1: (self.x - half, self.y),
            2: (self.x - side + 1, self.y - half),
            3: (self.x - half, self.y - side + 1),
        }[self.direction]
        image = np.zeros((side, side, 3), dtype=np.uint8)
        for row in range(side):
            for column in range(side):
                image[row, column] = self.encode(self.look_at(left + column, top + row))
        image = np.rot90(image, self.direction + 1).copy()
        own = (OBJECT["agent"], COLOUR["red"], self.direction) if self.see_agent else (OBJECT["empty"], 0, 0)
        image[side - 1, half] = own
        return image


def fewest_actions(wall, agent, direction, goal):
    """Breadth-first search with a queue over (x, y, direction); None if the goal cannot be reached."""
    wall = np.asarray(wall)
    goal = tuple(int(place) for place in goal)
    start = (int(agent[0]), int(agent[1]), int(direction))
    queue, seen = deque([(start, 0)]), {start}
    while queue:
        (x, y, d), count = queue.popleft()
        following = [(x, y, (d - 1) % 4), (x, y, (d + 1) % 4)]
        ahead = (x + MOVE[d][0], y + MOVE[d][1])
        if ahead == goal:
            return count + 1
        if 0 <= ahead[0] < wall.shape[1] and 0 <= ahead[1] < wall.shape[0] and not wall[ahead[1], ahead[0]]:
            following.append((*ahead, d))
        for state in following:
            if state not in seen:
                seen.add(state)
                queue.append((state, count + 1))
    return None
