"""`QwenTokenizer` and incremental detokenisation, on small tokenizers made here."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from mili.config import Qwen3Config
from mili.detokenizer import IncrementalDecoder, added_token_ids, byte_level_alphabet, token_bytes
from mili.errors import RequestError, TokenizerError
from mili.gguf_tokenizer import tokenizer_from_gguf
from mili.tokenizer import QwenTokenizer
from tests.chat_cases import TEMPLATES, user
from tests.tiny_models import CASES

LETTERS = [letter for letter, _ in sorted(byte_level_alphabet().items(), key=lambda item: item[1])]
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("Ġ", "hell"), ("Ã", "¤"), ("1", "2"), ("Ġ", "Ġ")]
TOKENS = [*LETTERS, *(a + b for a, b in MERGES), "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"]
SPECIAL, THINK = range(len(TOKENS) - 4, len(TOKENS) - 1), len(TOKENS) - 1


def metadata(kind: str = "qwen2", **changes: Any) -> dict[str, Any]:
    """GGUF metadata of a small byte-level tokenizer; `changes` are named without tokenizer.ggml."""
    data = {
        "model": "gpt2",
        "pre": kind,
        "tokens": TOKENS,
        "merges": [f"{a} {b}" for a, b in MERGES],
        "token_type": [1] * (len(TOKENS) - 4) + [3, 3, 3, 4],
        "bos_token_id": SPECIAL[0],
        "eos_token_id": SPECIAL[2],
        "add_bos_token": False,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (data | changes).items() if value is not None}


def byte_level() -> Tokenizer:
    return tokenizer_from_gguf(metadata(), "test")


def sentencepiece() -> Tokenizer:
    """As Llama 2's: a space is a letter of its own, unknown characters are spelled in bytes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "▁he", "llo", "ä", "▁▁"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "▁")], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    return tokenizer


def write_folder(folder: Path, tokenizer: Tokenizer | None = None, **settings: Any) -> Path:
    (tokenizer or byte_level()).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_byte_alphabet_is_that_of_the_library() -> None:
    assert set(byte_level_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_level_alphabet().values()) == list(range(256))
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in ("hell 12", "ä€🦙", "\n\t\x00\x7f\xad"):
        ((written, _),) = split.pre_tokenize_str(text)
        assert token_bytes(written) == text.encode()
    assert token_bytes("<think>") == b"<think>"
    assert token_bytes("日本") == "日本".encode()  # no letters of the alphabet: the text itself


def test_text_and_special_tokens(tmp_path: Path) -> None:
    tokenizer = QwenTokenizer.from_pretrained(write_folder(tmp_path, eos_token="<|im_end|>"))
    ids = tokenizer.encode("hell hell<|im_end|><think>ä")
    assert tokenizer.tokens(ids) == ["hell", "Ġhell", "<|im_end|>", "<think>", "Ã¤"]
    assert tokenizer.decode(ids) == "hell hell<think>ä"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "hell hell<|im_end|><think>ä"
    assert tokenizer.eos_token_id == SPECIAL[2]
    assert tokenizer.special_ids == frozenset(SPECIAL)
    assert tokenizer.vocab_size == len(TOKENS)
    assert tokenizer.token_id("Ġhell") == TOKENS.index("Ġhell")
    assert tokenizer.token_id("nothing") is None
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_chat(tmp_path: Path) -> None:
    source = TEMPLATES["qwen3"].read_text()
    tokenizer = QwenTokenizer.from_pretrained(write_folder(tmp_path, chat_template=source))
    text = tokenizer.render_chat([user("hell")], enable_thinking=False)
    assert text == "<|im_start|>user\nhell<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    ids = tokenizer.encode_chat([user("hell")], enable_thinking=False)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert ids.count(SPECIAL[1]) == 2
    assert "<think>" not in tokenizer.render_chat([user("hell")])


def test_where_a_template_is_found(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "from a list"}]
    write_folder(tmp_path, chat_template=named, eos_token={"content": "<|im_end|>", "special": True})
    tokenizer = QwenTokenizer.from_pretrained(tmp_path)
    assert tokenizer.render_chat([user("x")]) == "from a list"
    assert tokenizer.special_tokens == {"eos_token": "<|im_end|>"}
    (tmp_path / "chat_template.jinja").write_text("from a file{{ eos_token }}")
    assert QwenTokenizer.from_pretrained(tmp_path).render_chat([user("x")]) == "from a file<|im_end|>"


def test_model_without_a_template(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(TokenizerError, match="has no chat template; use plain prompts"):
        QwenTokenizer.from_pretrained(tmp_path).render_chat([user("x")])


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    tokenizer = QwenTokenizer.from_pretrained(write_folder(tmp_path))
    with pytest.raises(TokenizerError, match=rf"ids up to {len(TOKENS) - 1}, but the model's vocabulary ends at 210"):
        tokenizer.check_fits(Qwen3Config.from_dict(CASES["qwen3_ratio2"]))
    tokenizer.check_fits(Qwen3Config.from_dict(CASES["qwen3_ratio2"] | {"vocab_size": len(TOKENS)}))
    with pytest.raises(TokenizerError, match="belong to different models"):
        tokenizer.check_fits(Qwen3Config.from_dict(CASES["qwen3_ratio2"] | {"vocab_size": len(TOKENS) - 1}))


def test_text_that_is_no_unicode(tmp_path: Path) -> None:
    tokenizer = QwenTokenizer.from_pretrained(write_folder(tmp_path))
    with pytest.raises(RequestError, match="is not valid Unicode"):
        tokenizer.encode("hell \ud800")


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json does not exist; .* or give token ids"):
        QwenTokenizer.from_pretrained(tmp_path)
    write_folder(tmp_path)
    good = (tmp_path / "tokenizer.json").read_text()
    for bad in ("", "{", good[:500], '{"model": {"type": "Nothing"}}'):
        (tmp_path / "tokenizer.json").write_text(bad)
        with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a valid tokenizer .*fetch it again"):
            QwenTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(good)
    for bad, words in (("{", "is not valid JSON"), ("[]", "must hold a JSON object")):
        (tmp_path / "tokenizer_config.json").write_text(bad)
        with pytest.raises(TokenizerError, match=words):
            QwenTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": 7}')
    with pytest.raises(TokenizerError, match="chat_template is a int"):
        QwenTokenizer.from_pretrained(tmp_path)


BAD_GGUF: dict[str, tuple[dict[str, Any], str]] = {
    "sentencepiece": ({"model": "llama"}, "tokenizer model 'llama' is not supported; supported: gpt2"),
    "pre-tokeniser": ({"pre": "viking"}, "pre-tokeniser 'viking' is not supported; supported: smollm, .*qwen2"),
    "no pre-tokeniser": ({"pre": None}, "pre-tokeniser 'default' is not supported"),
    "no tokens": ({"tokens": None}, r"tokenizer\.ggml\.tokens is missing"),
    "no merges": ({"merges": None}, r"tokenizer\.ggml\.merges is missing"),
    "duplicates": ({"tokens": [*TOKENS[:-1], TOKENS[0]]}, "holds duplicates"),
    "merge of unknown tokens": ({"merges": ["h zz"]}, "merges do not fit its vocabulary"),
    "merge of one": ({"merges": ["h"]}, "merges do not fit its vocabulary"),
    "types": ({"token_type": [1, 1]}, "2 token types for 267 tokens"),
    "bos": ({"add_bos_token": True, "bos_token_id": 999}, "bos_token_id 999 lies outside"),
}


@pytest.mark.parametrize("name", BAD_GGUF)
def test_bad_gguf_vocabularies(name: str) -> None:
    change, words = BAD_GGUF[name]
    with pytest.raises(TokenizerError, match=words) as caught:
        tokenizer_from_gguf(metadata(**change), "model.gguf")
    assert str(caught.value).startswith("model.gguf: ")


END = ["Ġ", "h", "'", "s", "ĠĠ", "Ċ", "."]


@pytest.mark.parametrize(
    ("kind", "digits"),
    [
        ("smollm", ["Ġ", "1", "2", "1", "2"]),
        ("qwen2", ["Ġ", "1", "2", "1", "2"]),
        ("gpt-2", ["Ġ", "12", "12"]),
        ("llama-bpe", ["Ġ", "12", "1", "2"]),
    ],
)
def test_pre_tokenisers_split_digits_their_own_way(kind: str, digits: list[str]) -> None:
    tokenizer, text = tokenizer_from_gguf(metadata(kind, add_bos_token=False), "test"), "hell hell 1212 h's  \n."
    encoding = tokenizer.encode(text)
    assert encoding.tokens == ["hell", "Ġhell", *digits, *END]
    assert tokenizer.decode(encoding.ids) == text


def test_bos_of_llama_3() -> None:
    tokenizer = tokenizer_from_gguf(metadata("llama-bpe", add_bos_token=None), "test")
    assert tokenizer.encode("hell").ids == [SPECIAL[0], TOKENS.index("hell")]
    assert tokenizer.encode("hell", add_special_tokens=False).ids == [TOKENS.index("hell")]


def stream(decoder: IncrementalDecoder, ids: list[int]) -> list[str]:
    return [*(decoder.push(i) for i in ids), decoder.flush()]


@pytest.mark.parametrize("skip", [True, False])
@given(ids=st.lists(st.integers(0, len(TOKENS) - 1), max_size=40))
@settings(deadline=None, max_examples=200)
def test_pushed_text_is_the_decoded_text(ids: list[int], skip: bool) -> None:
    tokenizer = byte_level()
    skipped = added_token_ids(tokenizer, special=True) if skip else frozenset()
    pieces = stream(IncrementalDecoder(tokenizer, True, skipped), ids)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=skip)


@given(text=st.text(max_size=30))
@settings(deadline=None, max_examples=200)
def test_no_character_is_split(text: str) -> None:
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.NFC()
    ids = tokenizer.encode(text).ids
    whole = tokenizer.decode(ids, skip_special_tokens=False)
    pieces = stream(IncrementalDecoder(tokenizer, True), ids)
    assert "".join(pieces) == whole
    assert pieces[-1] == "", "nothing is held back at the end of whole text"
    assert "".join(pieces).count("\ufffd") == whole.count("\ufffd")


def test_invalid_bytes_come_out_as_soon_as_they_are_known() -> None:
    decoder = IncrementalDecoder(byte_level(), True)
    euro = [LETTERS[byte] for byte in "€".encode()]
    ids = [TOKENS.index(letter) for letter in euro]
    assert [decoder.push(i) for i in ids] == ["", "", "€"]
    assert [decoder.push(i) for i in (ids[0], ids[1], TOKENS.index("h"))] == ["", "", "\ufffdh"]
    decoder.push(ids[0])
    assert decoder.flush() == "\ufffd"
    assert decoder.flush() == ""
    assert decoder.push(TOKENS.index("he")) == "he", "a fresh start"


def test_ids_beyond_the_vocabulary_give_no_text() -> None:
    """A model's table can have more rows than its tokenizer has tokens (Qwen3: 151,936 and 151,669)."""
    assert IncrementalDecoder(byte_level(), True).push(len(TOKENS) + 5) == ""


@given(text=st.text(max_size=25))
@settings(deadline=None, max_examples=100)
def test_tokenizers_that_are_not_byte_level(text: str) -> None:
    tokenizer = sentencepiece()
    ids = tokenizer.encode(text).ids
    pieces = stream(IncrementalDecoder(tokenizer, False), ids)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=False)
    if "\ufffd" not in text:
        assert "\ufffd" not in "".join(pieces)
        assert pieces[-1] == ""


def test_spaces_of_sentencepiece_in_a_stream(tmp_path: Path) -> None:
    tokenizer = QwenTokenizer.from_pretrained(write_folder(tmp_path, sentencepiece()))
    decoder = tokenizer.decoder()
    hello, rest, umlaut = (tokenizer.token_id(piece) for piece in ("▁he", "llo", "ä"))
    end = tokenizer.token_id("</s>")
    assert None not in (hello, rest, umlaut, end)
    pieces = [decoder.push(i) for i in (hello, rest, end, hello, umlaut)]  # type: ignore[arg-type]
    assert pieces == ["he", "llo", "", " he", "ä"]
    bytes_of_euro = [tokenizer.token_id(f"<0x{byte:02X}>") for byte in "€".encode()]
    assert [decoder.push(i) for i in bytes_of_euro] == ["", "", "€"]  # type: ignore[arg-type]
