"""The exercises, one module a notebook: `nbNN_topic.py` defines `EXERCISES`, a list of `workbook.exercise.Exercise`."""

import importlib
import pkgutil
from functools import cache

from workbook.exercise import Exercise


@cache
def registry() -> dict[str, Exercise]:
    """All exercises by id, in the order of the course. Raises ValueError when an id is taken twice or misplaced."""
    found: dict[str, Exercise] = {}
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name.startswith("nb"))
    for name in names:
        for exercise in importlib.import_module(f"{__name__}.{name}").EXERCISES:
            if exercise.id in found:
                raise ValueError(f"exercise {exercise.id} is defined twice, the second time in {name}.py")
            if exercise.notebook != name[2:4]:
                raise ValueError(f"exercise {exercise.id} is defined in {name}.py, which is for notebook {name[2:4]}")
            found[exercise.id] = exercise
    return dict(sorted(found.items(), key=lambda item: order(item[0])))


def order(identifier: str) -> tuple[int, int]:
    """Sorts "03.2" before "03.10"."""
    notebook, _, number = identifier.partition(".")
    return int(notebook), int(number)


def select(which: str) -> list[Exercise]:
    """The exercises that "03", "03.2" or "all" names. Raises KeyError when there are none."""
    chosen = [e for e in registry().values() if which in ("all", e.notebook, e.id)]
    if not chosen:
        raise KeyError(f"no exercise {which!r}; there are: {', '.join(registry())}")
    return chosen
