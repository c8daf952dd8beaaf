"""`generation_config.json`: the sampling values that a model's makers recommend, for requests that name none."""

import json
from pathlib import Path

from mili.errors import ConfigError

_NAMES = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def recommended(path: Path) -> dict[str, float | int]:
    """The values of a model's folder, by the names of `SamplingParams`; empty for a GGUF file or without the file.

    `do_sample: false` means greedy. Raises ConfigError if the file is not a JSON object of numbers.
    """
    file = path / "generation_config.json"
    if not file.is_file():
        return {}
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{file} is not valid JSON ({error}); fetch it again.") from None
    if not isinstance(given, dict):
        raise ConfigError(f"{file} holds {type(given).__name__}; it must hold a JSON object.")
    if given.get("do_sample") is False:
        return {"temperature": 0.0}
    values = {name: given[name] for name in _NAMES if given.get(name) is not None}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{file}: {name} is {value!r}; it must be a number.")
    return values
