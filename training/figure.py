"""The loss curve: `python -m training.figure LOG OUT.png` draws log.jsonl of a training run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

NAMES = {"grammar": "held-out: own stories", "talk": "held-out: talk", "writer": "held-out: SmolLM2's stories",
         "books": "held-out: books"}  # fmt: skip


def draw(log: Path, out: Path) -> None:
    """Training loss and held-out losses (nats a token) over tokens seen, as a small PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6))
    axes.plot([e["tokens"] / 1e6 for e in entries], [e["loss"] for e in entries], label="training mix", linewidth=1)
    noted = [e for e in entries if "held_out" in e]
    for source, label in NAMES.items():
        points = [(e["tokens"] / 1e6, e["held_out"][source]) for e in noted if source in e["held_out"]]
        if points:
            axes.plot(*zip(*points, strict=True), marker=".", linewidth=1, label=label)
    axes.set(xlabel="tokens seen, millions", ylabel="loss, nats a token", ylim=(0, None))
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out, dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("out", type=Path)
    a = parser.parse_args()
    draw(a.log, a.out)


if __name__ == "__main__":
    main()
