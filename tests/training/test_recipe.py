"""The recipe end to end at toy size: corpus, training, export; transformers and MILI read what comes out."""

import json
import random

import pytest

from mili.config import Qwen3Config
from mili.tokenizer import QwenTokenizer
from training.grammar import story

pytestmark = pytest.mark.oracle
CONTEXT = 128


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    from training.corpus import build

    folder = tmp_path_factory.mktemp("recipe")
    rng = random.Random(4)
    written = [story(rng)[:2] for _ in range(120)]
    (folder / "writer.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in written))
    build(folder / "writer.jsonl", None, folder / "corpus", grammar=200, talk=40, size=700, context=CONTEXT, workers=1)
    return folder / "corpus"


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    from training.export import export
    from training.model import Shape
    from training.train import train

    out = tmp_path_factory.mktemp("run")
    shape = Shape(704, 64, 128, 2, 4, 2, 16, CONTEXT)
    summary = train(corpus, out, shape, seconds=600, batch=4, device="cpu", compiled=False, steps=40)
    export(out / "checkpoint.pt", corpus, out / "model")
    return out, summary


def test_rows_begin_with_a_document_and_leave_out_what_is_held_out(corpus):
    import numpy as np

    from training.packing import Corpus

    packed = Corpus(corpus / "corpus.npz")
    starts = {int(packed.tokens[offset]) for offset in packed.offsets[:-1]}
    rows = next(packed.batches(1, 4, 65, [0]))
    assert rows.shape == (4, 65)
    assert {int(row[0]) for row in rows} <= starts
    chosen = packed.documents(np.random.default_rng(0), 0)
    assert not packed.held[chosen].any()
    assert packed.held.sum() > 0


def test_the_loss_falls(trained):
    out, summary = trained
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.5
    assert set(summary["held_out"]) == {"writer", "grammar"}
    assert summary["held_out"]["grammar"] < 6.0  # ln 704 is 6.6


def test_training_goes_on_from_a_checkpoint(trained, corpus):
    from training.model import Shape
    from training.train import train

    out, summary = trained
    shape = Shape(**summary["shape"])
    again = train(corpus, out, shape, seconds=600, batch=4, device="cpu", compiled=False, steps=42)
    assert (summary["step"], again["step"]) == (40, 42)
    assert again["tokens"] == 42 * 4 * CONTEXT


def test_transformers_gives_the_logits_of_the_training_code(trained):
    import torch
    from transformers import Qwen3ForCausalLM

    from training.model import Qwen3, Shape

    out, summary = trained
    theirs = Qwen3ForCausalLM.from_pretrained(out / "model", dtype=torch.float32)
    ours = Qwen3(Shape(**summary["shape"]))
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k != "lm_head.weight"})
    tokens = torch.randint(0, 700, (2, 40))
    with torch.no_grad():
        logits = theirs(tokens[:, :-1]).logits
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        assert ours(tokens).item() == pytest.approx(expected.item(), rel=1e-4)


def test_mili_reads_the_folder(trained):
    folder = trained[0] / "model"
    config = Qwen3Config.from_pretrained(folder)
    tokenizer = QwenTokenizer.from_pretrained(folder)
    tokenizer.check_fits(config)
    assert config.eos_token_ids == (tokenizer.token_id("<|im_end|>"), tokenizer.token_id("<|endoftext|>"))
    assert tokenizer.render_chat([{"role": "user", "content": "Hi"}]).endswith("<|im_start|>assistant\n")


def test_evaluation_measures(trained, corpus):
    from training.evaluate import evaluate

    out = trained[0] / "evaluation.json"
    result = evaluate(trained[0] / "model", None, corpus, out, "cpu", count=4, new_tokens=8)["mili-tiny"]
    assert result["samples"] == len(result["texts"]) == 4
    assert 0 < result["distinct_1"] <= 1
    assert result["held_out_grammar"]["perplexity"] > 1
