"""Incremental detokenisation: text as tokens arrive, never a part of a character."""

import codecs
from collections.abc import Mapping

from tokenizers import Tokenizer


def byte_level_alphabet() -> dict[str, int]:
    """The printable character that byte-level BPE (GPT-2) writes for each byte, and the byte it means."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_ALPHABET = byte_level_alphabet()


def token_bytes(token: str) -> bytes:
    """The bytes of a byte-level BPE token; a token with other characters stands for its own UTF-8."""
    try:
        return bytes(_ALPHABET[character] for character in token)
    except KeyError:
        return token.encode("utf-8")


class IncrementalDecoder:
    """Turns token ids into text one by one; all that is pushed, plus `flush`, equals decoding them at once.

    `skipped` are ids that produce no text (special tokens). Invalid UTF-8 becomes U+FFFD, as in whole decoding.
    """

    def __init__(self, tokenizer: Tokenizer, byte_level: bool, skipped: frozenset[int] = frozenset()) -> None:
        self._tokenizer = tokenizer
        self._skipped = skipped
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace") if byte_level else None
        self._ids: list[int] = []  # for other tokenizers: a short history, whose text up to _sent is out already
        self._sent = 0

    def push(self, token_id: int) -> str:
        """The text that `token_id` completes; empty while a character is unfinished."""
        if token_id in self._skipped:
            return ""
        if self._utf8 is not None:
            token = self._tokenizer.id_to_token(token_id)
            return "" if token is None else self._utf8.decode(token_bytes(token))
        self._ids.append(token_id)
        text = self._decode(self._ids)
        before = self._decode(self._ids[: self._sent])
        if text.endswith("\N{REPLACEMENT CHARACTER}") or len(text) <= len(before):
            return ""
        # What is out gives the context (spaces depend on it) for the tokens to come.
        self._ids, self._sent = self._ids[self._sent :], len(self._ids) - self._sent
        return text[len(before) :]

    def flush(self) -> str:
        """The rest: the replacement character for a character that never finished, and a fresh start."""
        if self._utf8 is not None:
            return self._utf8.decode(b"", final=True)
        rest = self._decode(self._ids)[len(self._decode(self._ids[: self._sent])) :]
        self._ids, self._sent = [], 0
        return rest

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))


def added_token_ids(tokenizer: Tokenizer, special: bool) -> frozenset[int]:
    """Ids of the added tokens; with `special`, only those."""
    added: Mapping[int, object] = tokenizer.get_added_tokens_decoder()
    return frozenset(i for i, token in added.items() if not special or getattr(token, "special", False))
