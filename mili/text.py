"""From the tokens of one output to its text: incremental decoding that ends before a stop string, never leaking it."""

from mili.interfaces import Decoder


class TextStream:
    """The text of one output as it grows.

    Text that could be the beginning of a stop string is held back until it is known not to be one, so what `push` has
    returned never needs to be taken back. A stop string is looked for from token number `min_tokens` + 1 on.
    """

    def __init__(
        self, decoder: Decoder | None, stop: tuple[str, ...] = (), include_stop: bool = False, min_tokens: int = 0
    ) -> None:
        self._decoder = decoder
        self._stop = stop
        self._include_stop = include_stop
        self._to_skip = min_tokens
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that is certain after `token`; sets `stopped` when a stop string is complete."""
        if self._decoder is None:
            return ""
        text = self._decoder.push(token)
        if not self._stop:
            return text
        if self._to_skip > 0:
            self._to_skip -= 1
            return text
        text = self._held + text
        found = [(text.find(stop), len(stop)) for stop in self._stop if stop in text]
        if found:
            at, length = min(found)
            self.stopped, self._held = True, ""
            return text[: at + length] if self._include_stop else text[:at]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """The text still held back, when the output has ended for another reason than a stop string."""
        rest = self._held + (self._decoder.flush() if self._decoder is not None and not self.stopped else "")
        self._held = ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a proper beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
