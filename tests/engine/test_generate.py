"""`mili.generate`: what it refuses and how, and what it prints with a small random model."""

import io
import json
import subprocess
import sys

import pytest

from mili.errors import ConfigError, ModelNotFoundError, RequestError
from mili.generate import main, parse_ids

# Sizes of the engine's own tests, so that one compiled graph serves both.
TINY = ["--random-weights", "--model-shape", "tiny", "--device", "cpu", "--dtype", "float32", "--max-context", "256"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a prompt"),
        (["text", "--prompt-ids", "1"], "one of the two"),
        ([""], "the prompt is empty"),
        (["--prompt-ids", ""], "--prompt-ids is ''"),
        (["--prompt-ids", "1,x"], "--prompt-ids is '1,x'"),
        (["--prompt-ids", "-1"], "--prompt-ids is '-1'"),
        (["--prompt-ids", "1", "--chat"], "exclude each other"),
        (["text", "--system", "be brief"], "belong to --chat"),
        (["text", "--temperature", "-1"], "temperature is -1.0"),
        (["text", "--temperature", "nan"], "temperature is nan"),
        (["text", "--top-p", "0"], "top_p is 0.0"),
        (["text", "--top-p", "1.5"], "top_p is 1.5"),
        (["text", "--top-k", "-2"], "top_k is -2"),
        (["text", "--min-p", "2"], "min_p is 2.0"),
        (["text", "--max-tokens", "0"], "max_tokens is 0"),
        (["text", "--min-tokens", "200"], "min_tokens is 200"),
        (["text", "--seed", "99999999999999999999999"], "seed is 9999"),
        (["text", "--stop", ""], "stop has the entry ''"),
        (["text", "--repetition-penalty", "0"], "repetition_penalty is 0.0"),
        (["text", "--frequency-penalty", "3"], "frequency_penalty is 3.0"),
    ],
)
def test_bad_requests_are_told_before_a_model_is_loaded(arguments, message):
    with pytest.raises(RequestError, match=message):
        main([*arguments, "--model", "no such model"])


def test_empty_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(RequestError, match="the prompt is empty"):
        main(["-", "--model", "no such model"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--model", "no such model"], ModelNotFoundError, "no such model"),
        (["--random-weights"], ConfigError, "belong together"),
        (["--page-size", "12", *TINY], ConfigError, "12"),
        (["--kernels", "tests", *TINY], ConfigError, "which has no __init__.mojo|which has no ops.mojo"),
    ],
)
def test_bad_settings(arguments, error, message):
    with pytest.raises(error, match=message):
        main(["text", *arguments])


def test_prompt_ids_may_have_commas_and_blanks():
    assert parse_ids("1,2, 3 4") == [1, 2, 3, 4]


def generate(capsys, *arguments):
    assert main([*TINY, *arguments]) == 0
    return capsys.readouterr()


def test_json_is_the_last_line_and_repeats(capsys):
    ids = ["--prompt-ids", "1,2,3", "--max-tokens", "9", "--ignore-eos"]
    first = json.loads(generate(capsys, *ids, "--json").out.splitlines()[-1])
    assert list(first) == ["prompt_ids", "ids", "text", "finish_reason", "timings"]
    assert (first["prompt_ids"], len(first["ids"]), first["text"]) == ([1, 2, 3], 9, "")
    assert first["finish_reason"] == "length"
    assert 0 < first["timings"]["first_token_seconds"] <= first["timings"]["total_seconds"]
    shown = generate(capsys, *ids, "--stream")
    assert [int(token) for token in shown.out.split()] == first["ids"]
    assert "3 prompt tokens" in shown.err
    plain = generate(capsys, *ids, "--quiet")
    assert plain.out == shown.out.strip() + "\n" or plain.out.split() == shown.out.split()
    seeded = [generate(capsys, *ids, "--temperature", "2", "--seed", "5", "--quiet").out for _ in range(2)]
    assert seeded[0] == seeded[1] != plain.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["text"], "the model has no tokenizer: give token ids"),
        (["text", "--chat"], "no tokenizer, so it cannot chat"),
        (["--prompt-ids", "1000"], "token id 1000: ids are whole numbers from 0 to 999"),
        (["--prompt-ids", ",".join(["7"] * 256)], "the prompt has 256 tokens: the context holds 256"),
    ],
)
def test_prompts_that_the_model_cannot_take(arguments, message):
    with pytest.raises(RequestError, match=message):
        main([*TINY, *arguments])


def test_exit_status_and_one_line_on_standard_error():
    done = subprocess.run([sys.executable, "-m", "mili.generate", ""], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the prompt is empty: give at least one character\n"
