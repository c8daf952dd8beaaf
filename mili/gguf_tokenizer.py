"""A `tokenizers` tokenizer from GGUF metadata: byte-level BPE with the pre-tokenisers that llama.cpp names."""

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from mili.errors import TokenizerError

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLIT = {"qwen2": _WORDS.replace("DIGITS", r"\p{N}"), "llama-bpe": _WORDS.replace("DIGITS", r"\p{N}{1,3}")}
SUPPORTED = ("smollm", "gpt-2", *_SPLIT)
_CONTROL, _USER_DEFINED = 3, 4  # token types that are matched whole in the text


def tokenizer_from_gguf(metadata: Mapping[str, Any], source: str) -> Tokenizer:
    """The tokenizer in `metadata`; `source` names the file. Raises TokenizerError for a kind not known here."""

    def get(key: str, default: Any = None) -> Any:
        value = metadata.get(f"tokenizer.ggml.{key}", default)
        if value is None:
            raise TokenizerError(f"{source}: metadata tokenizer.ggml.{key} is missing.")
        return value

    model, kind = get("model"), get("pre", "default")
    if model != "gpt2":
        raise TokenizerError(f"{source}: tokenizer model {model!r} is not supported; supported: gpt2 (byte-level BPE).")
    if kind not in SUPPORTED:
        raise TokenizerError(
            f"{source}: pre-tokeniser {kind!r} is not supported; supported: {', '.join(SUPPORTED)}. "
            "Load the same model from its Hugging Face folder."
        )
    tokens: list[str] = get("tokens")
    pairs = [tuple(merge.split(" ", 1)) for merge in get("merges")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise TokenizerError(f"{source}: the vocabulary of {len(tokens)} tokens holds duplicates.")
    try:
        bpe = models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=kind == "llama-bpe")
    except Exception as error:  # the library's own type is not exported
        raise TokenizerError(f"{source}: its merges do not fit its vocabulary ({error}).") from None
    tokenizer = Tokenizer(bpe)
    if kind in ("smollm", "gpt-2"):
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words]) if kind == "smollm" else words
    else:
        split = pre_tokenizers.Split(Regex(_SPLIT[kind]), "isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    types = get("token_type", [1] * len(tokens))
    if len(types) != len(tokens):
        raise TokenizerError(f"{source}: {len(types)} token types for {len(tokens)} tokens.")
    added = [(token, kind) for token, kind in zip(tokens, types, strict=True) if kind in (_CONTROL, _USER_DEFINED)]
    # One call: adding them one by one rebuilds the matcher each time.
    tokenizer.add_tokens([AddedToken(token, special=kind == _CONTROL, normalized=False) for token, kind in added])
    if get("add_bos_token", kind == "llama-bpe"):
        bos = get("bos_token_id")
        if not 0 <= bos < len(tokens):
            raise TokenizerError(f"{source}: bos_token_id {bos} lies outside the vocabulary of {len(tokens)}.")
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A", special_tokens=[(tokens[bos], bos)]
        )
    return tokenizer
