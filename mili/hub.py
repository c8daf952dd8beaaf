"""Models of the Hugging Face hub, by name: fetched whole, resumed after an interruption, checked, kept in the cache.

`HF_ENDPOINT` names another server with the same interface, `HF_TOKEN` opens gated models.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mili.cache import cache_folder, make_folder, sha256_of
from mili.errors import ModelNotFoundError, WeightError

PATTERNS = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
]
"""What a model needs; other formats of the same weights stay where they are."""

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_name(name: str) -> bool:
    """Whether `name` has the form owner/model, possibly with @revision."""
    return _NAME.fullmatch(name.partition("@")[0]) is not None


def _folder() -> Path:
    return cache_folder() / "hub"


def find(name: str) -> Path | None:
    """The folder of a model that has been fetched whole, None if there is none. Reaches for no network."""
    repository, _, revision = name.partition("@")
    base = _folder() / f"models--{repository.replace('/', '--')}"
    reference = base / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = base / "snapshots" / commit
    return snapshot if commit and is_complete(snapshot) else None


def fetched() -> Iterator[tuple[str, Path]]:
    """Names and folders of the models in the cache."""
    for base in sorted(_folder().glob("models--*--*")):
        name = base.name.removeprefix("models--").replace("--", "/", 1)
        folder = find(name)
        if folder is not None:
            yield name, folder


def is_complete(folder: Path) -> bool:
    """Whether a folder has a configuration and all its weights; the tokenizer is optional."""
    if not (folder / "config.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return all((folder / str(shard)).is_file() for shard in shards)


def fetch(name: str) -> Path:
    """Fetch a model, continuing files that an earlier try left unfinished; progress bars go to stderr.

    Raises ModelNotFoundError if the name does not exist, is closed to us or the server cannot be reached, and
    WeightError if a file does not have the checksum that the server gave.
    """
    from huggingface_hub import errors, snapshot_download

    repository, _, revision = name.partition("@")
    endpoint = os.environ.get("HF_ENDPOINT") or None
    server = endpoint or "huggingface.co"
    try:
        folder = Path(
            snapshot_download(
                repository,
                revision=revision or None,
                cache_dir=make_folder(_folder()),
                allow_patterns=PATTERNS,
                endpoint=endpoint,
                library_name="mili",
            )
        )
    except errors.GatedRepoError:
        raise ModelNotFoundError(f"{name} is gated: accept its terms on {server}, then set HF_TOKEN.") from None
    except errors.RevisionNotFoundError:
        raise ModelNotFoundError(f"{repository} has no revision {revision!r} on {server}.") from None
    except errors.RepositoryNotFoundError:
        raise ModelNotFoundError(
            f"{name} does not exist on {server}, or is private: check the name, or set HF_TOKEN."
        ) from None
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        cause = error.__cause__ or error
        raise ModelNotFoundError(
            f"{name} could not be fetched from {server} ({str(cause).splitlines()[0]}); what has arrived is kept, "
            "try again, or give the path of a folder."
        ) from None
    _verify(folder)
    if not is_complete(folder):
        found = ", ".join(sorted(file.name for file in folder.iterdir())) or "nothing"
        raise ModelNotFoundError(
            f"{name} is not a model that MILI can load: it needs config.json and model.safetensors (or its shards), "
            f"and has {found}."
        )
    return folder


def _verify(folder: Path) -> None:
    """Check every large file against the SHA-256 that the server named it by; the cache stores it under that name."""
    for file in sorted(folder.iterdir()):
        blob = file.resolve()
        if not _SHA256.fullmatch(blob.name):
            continue  # small files are named by git's own checksum
        marker = blob.with_name(f"{blob.name}.verified")
        if marker.exists():
            continue
        found = sha256_of(blob, file.name)
        if found != blob.name:
            blob.unlink()
            file.unlink(missing_ok=True)
            raise WeightError(
                f"{file.name} has SHA-256 {found} instead of {blob.name}: it was damaged on the way and is deleted; "
                "fetch the model again."
            )
        marker.touch()
