"""How far along the way the learner is."""

from workbook import notebook_files as files
from workbook.exercises import registry
from workbook.learner import passed
from workbook.paths import NOTEBOOKS

MARK = {"passed": "#", "changed": "?", "open": "."}
BAR = 30


def table() -> str:
    """One line a notebook, one sign an exercise, and the share of all that pass."""
    states = passed()
    lines = []
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        number = path.name[:2]
        own = [states[e] for e in registry() if e.startswith(f"{number}.")]
        signs = "".join(MARK[state] for state in own)
        count = f"{own.count('passed')}/{len(own)}" if own else "-"
        lines.append(f"{number}  {files.title(files.read(path)):<48.48} {signs:<8} {count:>5}")
    done = list(states.values()).count("passed")
    share = done / max(1, len(states))
    filled = round(share * BAR)
    lines += ["", f"[{'#' * filled}{'.' * (BAR - filled)}] {done} of {len(states)} exercises, {100 * share:.0f}%"]
    if "changed" in states.values():
        changed = ", ".join(e for e, state in states.items() if state == "changed")
        lines.append(f"? passed, and edited since: {changed}. Check again: python -m workbook check NN")
    following = next((e for e, state in states.items() if state == "open"), None)
    if following is not None:
        lines.append(f"Next: {following} {registry()[following].title}")
    return "\n".join(lines)
