"""`QwenTokenizer`: text to token ids and back, and chats to prompts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders

from mili.chat_template import ChatTemplate, Message
from mili.config import Qwen3Config
from mili.detokenizer import IncrementalDecoder, added_token_ids
from mili.errors import RequestError, TokenizerError

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class QwenTokenizer:
    """The tokenizer of a model: byte-level BPE for Qwen3 and Llama 3, whatever `tokenizer.json` says for others.

    Special tokens written in a text (`<|im_end|>`) are read as such, as in transformers.
    """

    def __init__(
        self, tokenizer: Tokenizer, special_tokens: Mapping[str, str], chat_template: str | None, source: str
    ) -> None:
        self.source = source
        self.special_tokens = dict(special_tokens)
        self.chat_template = ChatTemplate(chat_template, special_tokens) if chat_template else None
        self._tokenizer = tokenizer
        self._byte_level = isinstance(tokenizer.decoder, decoders.ByteLevel)
        self._special_ids = added_token_ids(tokenizer, special=True)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "QwenTokenizer":
        """From a folder with `tokenizer.json` (`tokenizer_config.json` and a template if there) or a GGUF file.

        Raises TokenizerError if a file is missing, malformed or of a kind that is not supported.
        """
        path = Path(path)
        if path.suffix == ".gguf":
            return cls._from_gguf(path)
        file = path / "tokenizer.json"
        if not file.is_file():
            raise TokenizerError(f"{file} does not exist; fetch the model again, or give token ids instead of text.")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"{file} is not a valid tokenizer ({error}); fetch it again.") from None
        settings = _settings(path / "tokenizer_config.json")
        special = {name: text for name in _SPECIAL_NAMES if (text := _content(settings.get(name))) is not None}
        return cls(tokenizer, special, _chat_template(path, settings), str(path))

    @classmethod
    def _from_gguf(cls, path: Path) -> "QwenTokenizer":
        from mili.gguf import GGUFFile
        from mili.gguf_tokenizer import tokenizer_from_gguf

        metadata = GGUFFile(path).metadata
        tokenizer = tokenizer_from_gguf(metadata, str(path))
        names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
        special: dict[str, str] = {}
        for key, name in names.items():
            token = metadata.get(f"tokenizer.ggml.{key}_token_id")
            text = None if token is None else tokenizer.id_to_token(token)
            if text is not None:
                special[name] = text
        return cls(tokenizer, special, metadata.get("tokenizer.chat_template"), str(path))

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest token id."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def eos_token_id(self) -> int | None:
        """The id that ends a turn, as the tokenizer's own settings name it."""
        return self.token_id(self.special_tokens["eos_token"]) if "eos_token" in self.special_tokens else None

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens, which decoding leaves out."""
        return self._special_ids

    def token_id(self, token: str) -> int | None:
        """The id of one token by its text, None if there is no such token."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def check_fits(self, config: Qwen3Config) -> None:
        """Raise TokenizerError if a token id lies outside the model's embedding."""
        if self.vocab_size > config.vocab_size:
            raise TokenizerError(
                f"{self.source}: the tokenizer has ids up to {self.vocab_size - 1}, but the model's vocabulary ends at "
                f"{config.vocab_size - 1}; they belong to different models."
            )

    def to_json(self) -> str:
        """The tokenizer in the format of `tokenizer.json`."""
        return str(self._tokenizer.to_str())

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`; `add_special_tokens` puts what the model expects around it (a BOS for Llama 3)."""
        try:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        except (TypeError, UnicodeEncodeError):  # a lone surrogate, which is no character
            raise RequestError(f"The text {text[:40]!r} is not valid Unicode; remove unpaired surrogates.") from None
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids; bytes that are no valid UTF-8 become U+FFFD."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def decoder(self, skip_special_tokens: bool = True) -> IncrementalDecoder:
        """A decoder for one stream of tokens; see `IncrementalDecoder`."""
        skipped = self._special_ids if skip_special_tokens else frozenset()
        return IncrementalDecoder(self._tokenizer, self._byte_level, skipped)

    def render_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        enable_thinking: bool | None = None,
        **variables: Any,
    ) -> str:
        """The prompt text of a conversation.

        `enable_thinking=False` makes Qwen3 answer at once; None leaves the template's default. Raises TokenizerError
        if the model has no chat template, RequestError if the template refuses the messages.
        """
        if self.chat_template is None:
            raise TokenizerError(f"{self.source} has no chat template; use plain prompts, or an instruction model.")
        if enable_thinking is not None:
            variables["enable_thinking"] = enable_thinking
        return self.chat_template.render(messages, tools, add_generation_prompt, **variables)

    def encode_chat(self, messages: Sequence[Message], **options: Any) -> list[int]:
        """Token ids of a conversation; options as in `render_chat`."""
        return self.encode(self.render_chat(messages, **options), add_special_tokens=False)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's own spelling of ids, for showing; "" for an id without a token."""
        return [self._tokenizer.id_to_token(i) or "" for i in ids]


def _settings(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TokenizerError(f"{file} is not valid JSON ({error}); fetch it again.") from None
    if not isinstance(settings, dict):
        raise TokenizerError(f"{file} holds {type(settings).__name__}; it must hold a JSON object.")
    return settings


def _content(token: Any) -> str | None:
    """A special token's text; the file gives it plainly or as an object with its matching rules."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _chat_template(path: Path, settings: Mapping[str, Any]) -> str | None:
    """The template in its own file, or in the settings: one text or, in older folders, a list of named ones."""
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise TokenizerError(f"{path}: chat_template is a {type(template).__name__}; it must be a text.")
    return template
