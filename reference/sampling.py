"""From logits to a token: penalties, temperature, filters, and a draw.

The steps come in the order in which the common libraries apply them:

    bias and penalties -> temperature -> top-k -> top-p -> min-p -> draw

A filter sets what it removes to -inf and keeps the rest as it was, so that filters can follow each other.
Sources: Keskar et al. (repetition penalty), arXiv:1909.05858; Fan et al. (top-k), arXiv:1805.04833; Holtzman et al.
(top-p), arXiv:1904.09751; Nguyen et al. (min-p), arXiv:2407.01082.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from reference.arrays import FloatArray
from reference.softmax import softmax


def greedy(logits: FloatArray) -> int:
    """The likeliest token of logits [V], the lowest id among equals."""
    return int(np.argmax(logits))


def bias_logits(logits: FloatArray, bias: Mapping[int, float]) -> FloatArray:
    """Add a number to the logits of some token ids: [V] to [V]."""
    logits = logits.copy()
    for token, value in bias.items():
        logits[token] += value
    return logits


def penalise_repetition(logits: FloatArray, seen: Sequence[int], penalty: float) -> FloatArray:
    """Make tokens that occurred less likely, however often they did.

    Args:
        logits: [V].
        seen: Ids of the prompt and of the output so far.
        penalty: Above 1 to penalise: positive logits are divided by it, negative ones multiplied.

    Returns:
        [V].
    """
    tokens = np.unique(np.asarray(seen, dtype=np.int64))
    logits = logits.copy()
    chosen = logits[tokens]
    logits[tokens] = np.where(chosen > 0, chosen / penalty, chosen * penalty)
    return logits


def penalise_frequency(logits: FloatArray, output: Sequence[int], frequency: float, presence: float) -> FloatArray:
    """Subtract `frequency` for each time a token was put out, and `presence` once if it was at all.

    Args:
        logits: [V].
        output: Ids of the output so far; the prompt does not count.
        frequency, presence: As OpenAI's API defines them, from -2 to 2.

    Returns:
        [V].
    """
    counts = np.bincount(np.asarray(output, dtype=np.int64), minlength=len(logits)).astype(logits.dtype)
    return logits - (frequency * counts + presence * (counts > 0)).astype(logits.dtype)


def scale_temperature(logits: FloatArray, temperature: float) -> FloatArray:
    """Divide by a temperature above 0: below 1 the likely tokens gain, above 1 the unlikely ones. [V] to [V]."""
    return logits / logits.dtype.type(temperature)


def keep_top_k(logits: FloatArray, k: int) -> FloatArray:
    """Keep the k largest logits, of equal ones those with the lowest ids; k of 0 keeps all. [V] to [V]."""
    if k == 0 or k >= len(logits):
        return logits
    kept = np.argsort(-logits, kind="stable")[:k]
    filtered = np.full_like(logits, -np.inf)
    filtered[kept] = logits[kept]
    return filtered


def keep_top_p(logits: FloatArray, p: float) -> FloatArray:
    """Keep the fewest tokens whose probabilities sum to at least p, likeliest first; always at least one.

    Args:
        logits: [V].
        p: From 0 to 1; 1 keeps all.

    Returns:
        [V].
    """
    if p >= 1:
        return logits
    order = np.argsort(-logits, kind="stable")
    probabilities = softmax(logits[order].astype(np.float64))
    before = np.cumsum(probabilities) - probabilities  # what the likelier tokens sum to
    keep = before < p
    keep[0] = True
    filtered = np.full_like(logits, -np.inf)
    filtered[order[keep]] = logits[order[keep]]
    return filtered


def keep_min_p(logits: FloatArray, min_p: float) -> FloatArray:
    """Keep the tokens at least min_p times as likely as the likeliest; 0 keeps all. [V] to [V]."""
    if min_p <= 0:
        return logits
    threshold = logits.max() + logits.dtype.type(np.log(min_p))
    return np.where(logits >= threshold, logits, -np.inf).astype(logits.dtype)


def sample(
    logits: FloatArray,
    rng: np.random.Generator,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    logit_bias: Mapping[int, float] | None = None,
    prompt: Sequence[int] = (),
    output: Sequence[int] = (),
) -> int:
    """Choose the next token.

    Args:
        logits: [V].
        rng: The request's own generator, made from its seed: the same seed gives the same text.
        temperature: 0 is greedy, after bias and penalties.
        top_k, top_p, min_p: See the filters above.
        repetition_penalty, frequency_penalty, presence_penalty, logit_bias: See the functions above.
        prompt, output: Token ids so far, for the penalties.

    Returns:
        A token id.
    """
    logits = bias_logits(logits, logit_bias or {})
    logits = penalise_repetition(logits, [*prompt, *output], repetition_penalty)
    logits = penalise_frequency(logits, output, frequency_penalty, presence_penalty)
    if temperature == 0:
        return greedy(logits)
    logits = scale_temperature(logits, temperature)
    logits = keep_min_p(keep_top_p(keep_top_k(logits, top_k), top_p), min_p)
    return draw(logits, rng.random())


def draw(logits: FloatArray, u: float) -> int:
    """The token at which the running sum of probabilities, in the order of ids, passes u.

    Args:
        logits: [V]; -inf is never drawn.
        u: From 0 up to but not including 1, drawn evenly.

    Returns:
        A token id.
    """
    sums = np.cumsum(softmax(logits.astype(np.float64)))
    return int(np.searchsorted(sums, u * sums[-1], side="right"))
