"""Models of the Hugging Face hub, by name: fetched whole, checked, and kept in the cache.

`HF_ENDPOINT` names another server with the same interface, `HF_TOKEN` opens gated models. `huggingface_hub` talks to
the server; the files are written here, because its own downloads start a broken-off file again from the beginning.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mili.cache import cache_folder, make_folder, sha256_of
from mili.errors import MiliError, ModelNotFoundError, WeightError

PATTERNS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
)
"""What a model needs; other formats of the same weights stay where they are."""

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def is_name(name: str) -> bool:
    """Whether `name` has the form owner/model, possibly with @revision."""
    return _NAME.fullmatch(name.partition("@")[0]) is not None


def _folder() -> Path:
    return cache_folder() / "hub"


def _base(root: Path, repository: str) -> Path:
    """A model's folder in a cache; the arrangement is that of `huggingface_hub`, so that its cache can be read too."""
    return root / f"models--{repository.replace('/', '--')}"


def find(name: str) -> Path | None:
    """The folder of a model that has been fetched whole, by MILI or another program; reaches for no network."""
    from huggingface_hub import constants

    repository, _, revision = name.partition("@")
    for root in (_folder(), Path(constants.HF_HUB_CACHE)):
        base = _base(root, repository)
        reference = base / "refs" / (revision or "main")
        commit = reference.read_text().strip() if reference.is_file() else revision
        snapshot = base / "snapshots" / commit
        # Other programs may have left the tokenizer out.
        if commit and is_complete(snapshot) and (root == _folder() or (snapshot / "tokenizer.json").is_file()):
            return snapshot
    return None


def fetched() -> Iterator[tuple[str, Path]]:
    """Names and folders of the models in MILI's cache."""
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
    """Fetch a model, continuing where an earlier try broke off; progress bars go to stderr.

    Raises ModelNotFoundError if the name does not exist, is closed to us or the server cannot be reached, and
    WeightError if a file does not have the checksum that the server gave.
    """
    from huggingface_hub import HfApi, errors

    repository, _, revision = name.partition("@")
    endpoint = os.environ.get("HF_ENDPOINT") or None
    server = endpoint or "huggingface.co"
    api = HfApi(endpoint=endpoint, library_name="mili")
    try:
        info = api.model_info(repository, revision=revision or None, files_metadata=True)
        commit = str(info.sha)
        base = _base(make_folder(_folder()), repository)
        folder = make_folder(base / "snapshots" / commit)
        with _lock(base / "lock"):
            for file in info.siblings or []:
                name_of_file = file.rfilename
                if "/" not in name_of_file and any(fnmatchcase(name_of_file, pattern) for pattern in PATTERNS):
                    _fetch_file(api, repository, commit, file, folder)
    except MiliError:
        raise
    except errors.GatedRepoError:
        raise ModelNotFoundError(f"{name} is gated: accept its terms on {server}, then set HF_TOKEN.") from None
    except errors.RevisionNotFoundError:
        raise ModelNotFoundError(f"{repository} has no revision {revision!r} on {server}.") from None
    except errors.RepositoryNotFoundError:
        raise ModelNotFoundError(
            f"{name} does not exist on {server}, or is private: check the name, or set HF_TOKEN."
        ) from None
    except Exception as error:  # the types of network errors belong to an HTTP library that differs by version
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelNotFoundError(
            f"{name} could not be fetched from {server} ({cause}); what has arrived is kept: try again, or give the "
            "path of a folder."
        ) from error
    if not is_complete(folder):
        found = ", ".join(sorted(file.name for file in folder.iterdir())) or "nothing"
        raise ModelNotFoundError(
            f"{name} is not a model that MILI can load: it needs config.json and model.safetensors (or its shards), "
            f"and has {found}."
        )
    reference = base / "refs" / (revision or "main")
    make_folder(reference.parent)
    reference.write_text(commit)
    return folder


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time fetches a model; the others wait and then find it there."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_file(api: Any, repository: str, commit: str, file: Any, folder: Path) -> None:
    """One file of a snapshot, by way of a `.part` that a later try continues."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    target = folder / file.rfilename
    if target.exists():
        return
    size = int(file.size)
    part = target.with_name(f"{target.name}.part")
    if part.exists() and part.stat().st_size > size:
        part.unlink()
    with part.open("ab") as stream:
        http_get(
            hf_hub_url(repository, file.rfilename, revision=commit, endpoint=api.endpoint),
            stream,
            resume_size=stream.tell(),
            headers=build_hf_headers(library_name="mili"),
            expected_size=size,
            displayed_filename=file.rfilename,
        )
    large = file.lfs is not None
    expected = file.lfs.sha256 if large else file.blob_id
    found = sha256_of(part, target.name) if large else _git_checksum(part)
    if found != expected:
        part.unlink()
        raise WeightError(
            f"{target.name} of {repository} has checksum {found} instead of {expected}: it was damaged on the way and "
            "is deleted; fetch the model again."
        )
    os.replace(part, target)


def _git_checksum(file: Path) -> str:
    """The name git gives a file's contents, by which the hub names small files."""
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
