"""What a SCAN command means, read top-down from its words: a parser for anybody's commands.

interpret("jump around left twice and walk")  ->  ("I_TURN_LEFT", "I_JUMP", …, "I_WALK")
"""

from __future__ import annotations

from tutelage.lab.errors import BadInput, nearest

_VERBS = {"walk": ["I_WALK"], "look": ["I_LOOK"], "run": ["I_RUN"], "jump": ["I_JUMP"], "turn": []}
_TURNS = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
_TIMES = {"twice": 2, "thrice": 3}
_KNOWN = (*_VERBS, *_TURNS, "opposite", "around", *_TIMES, "and", "after")


def interpret(command: str) -> tuple[str, ...]:
    """The actions of a command of words divided by spaces.

    Raises:
        BadInput: a word that SCAN has not, or a command that its grammar cannot make.
    """
    words = command.split()
    for word in words:
        if word not in _KNOWN:
            raise BadInput(f"command = {command!r}: {word!r} is no word of SCAN{nearest(word, _KNOWN)}")
    joints = [place for place, word in enumerate(words) if word in ("and", "after")]
    if len(joints) > 1:
        raise BadInput(f"command = {command!r}: at most one 'and' or 'after' may join two sentences")
    if not joints:
        return tuple(_sentence(words, command))
    place = joints[0]
    first, second = _sentence(words[:place], command), _sentence(words[place + 1 :], command)
    return tuple(first + second if words[place] == "and" else second + first)


def _sentence(words: list[str], command: str) -> list[str]:
    if words and words[-1] in _TIMES:
        return _TIMES[words[-1]] * _phrase(words[:-1], command)
    return _phrase(words, command)


def _phrase(words: list[str], command: str) -> list[str]:
    match words:
        case [verb] if verb in _VERBS and verb != "turn":
            return list(_VERBS[verb])
        case [verb, side] if verb in _VERBS and side in _TURNS:
            return [_TURNS[side], *_VERBS[verb]]
        case [verb, "opposite", side] if verb in _VERBS and side in _TURNS:
            return [_TURNS[side], _TURNS[side], *_VERBS[verb]]
        case [verb, "around", side] if verb in _VERBS and side in _TURNS:
            return [step for _ in range(4) for step in (_TURNS[side], *_VERBS[verb])]
    raise BadInput(
        f"command = {command!r}: {' '.join(words)!r} is no verb phrase; it must be such as 'walk', 'turn left', "
        "'jump opposite right', 'run around left', then 'twice' or 'thrice' or neither"
    )
