"""The course in a terminal.

python -m workbook start                  make learn/, your copy of the notebooks and kernels
python -m workbook check 03.2 (or 03, all)   check your copy; --solved checks the solved notebooks
python -m workbook progress               what passes, and how far along the way you are
python -m workbook solution 03.2          show a solution; --write puts it into your copy
python -m workbook reset 03.2             give an exercise its starter back
"""

import argparse
import os
import sys
from pathlib import Path

from mili.console import run
from workbook import learner, regions
from workbook import notebook_files as files
from workbook.checks import check_source
from workbook.compare import CheckFailed
from workbook.exercise import Exercise
from workbook.exercises import select
from workbook.paths import LEARN, NOTEBOOKS, ROOT
from workbook.progress import table


def confirmed(question: str, force: bool) -> bool:
    """Ask, unless forced. Without a terminal to ask on, the answer is no."""
    if force:
        return True
    if not sys.stdin.isatty():
        print(f"{question} Not done: say --force, or run this in a terminal.", file=sys.stderr)
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def command_start(force: bool) -> int:
    """Make or update learn/."""
    for line in learner.start(force):
        print(line)
    print(f"Your copy is in {os.path.relpath(LEARN, ROOT)}/. Open it with: make lab")
    return 0


def command_check(exercises: list[Exercise], solved: bool) -> int:
    """Check exercises and print a line for each. Returns 1 when one fails."""
    folder: Path = NOTEBOOKS if solved else LEARN
    status = 0
    for exercise in exercises:
        source = files.cell_source(folder, exercise)
        try:
            count = check_source(exercise, source)
        except CheckFailed as failure:
            print(f"not yet  {failure.text}")
            status = 1
            continue
        print(f"passed   {exercise.id} {exercise.title} ({count} cases)", flush=True)
        if not solved:
            learner.record(exercise, source)
    return status


def command_solution(exercises: list[Exercise], write: bool, force: bool) -> int:
    """Show solutions, or write them into the learner's copy."""
    for exercise in exercises:
        source = files.cell_source(NOTEBOOKS, exercise)
        if not write:
            print(f"{exercise.id} {exercise.title}\n")
            print("\n...\n".join("\n".join(body) for body in regions.bodies(source)), end="\n\n")
        elif confirmed(f"Replace your cell of {exercise.id} by the solution?", force):
            print(f"written  {exercise.id} (your version: {learner.write_cell(exercise, source)})")
        else:
            return 1
    return 0


def command_reset(exercises: list[Exercise], force: bool) -> int:
    """Give exercises their starter back."""
    for exercise in exercises:
        if not confirmed(f"Reset {exercise.id}?", force):
            return 1
        print(f"reset    {exercise.id} (your version: {learner.reset(exercise)})")
    return 0


def main() -> int:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m workbook", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="make your copy of the notebooks and kernels")
    check = commands.add_parser("check", help="check exercises")
    commands.add_parser("progress", help="what passes")
    solution = commands.add_parser("solution", help="show a solution")
    reset = commands.add_parser("reset", help="give an exercise its starter back")
    for command in (check, solution, reset):
        command.add_argument("exercise", help='"03", "03.2" or "all"')
    check.add_argument("--solved", action="store_true", help="check the solved notebooks")
    solution.add_argument("--write", action="store_true", help="write it into your copy")
    for command in (start, solution, reset):
        command.add_argument("--force", action="store_true", help="do not ask; old versions go to learn/.backup")
    options = parser.parse_args()
    if options.command == "start":
        return command_start(options.force)
    if not LEARN.exists() and not getattr(options, "solved", False) and options.command != "solution":
        parser.error("there is no learn/ yet; run: python -m workbook start")
    if options.command == "progress":
        print(table())
        return 0
    try:
        exercises = select(options.exercise)
    except KeyError as error:
        parser.error(error.args[0])
    if options.command == "check":
        return command_check(exercises, options.solved)
    if options.command == "solution":
        return command_solution(exercises, options.write, options.force)
    return command_reset(exercises, options.force)


if __name__ == "__main__":
    run(main)
