"""From options to an engine: what is refused, and what the options become."""

import argparse

import pytest

from mili.errors import ConfigError
from mili.launch import SHAPES, add_arguments, launch_from, shape_config


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return launch_from(parser.parse_args(arguments), max_queue=7)


def test_published_sizes():
    """Parameters without embeddings, as the model cards give them: 0.44, 1.4, 3.6, 6.95 and 13.2 billion."""
    billions = []
    for name in SHAPES[:5]:
        config = shape_config(name)
        embeddings = config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)
        billions.append((config.num_parameters - embeddings) / 1e9)
    assert billions == pytest.approx([0.44, 1.4, 3.6, 6.95, 13.2], rel=0.02)
    with pytest.raises(ConfigError, match="'qwen9'"):
        shape_config("qwen9")


def test_options_arrive():
    launch = parse(
        *("--model", "x", "--max-running", "9", "--eviction", "lfu", "--page-size", "32"),
        *("--no-prefix-caching", "--no-overlap"),
    )
    assert (launch.model, launch.page_size) == ("x", 32)
    assert launch.options.max_running == 9
    assert launch.options.eviction == "lfu"
    assert not launch.options.prefix_caching
    assert not launch.options.overlap
    assert parse("--model", "x").options.overlap
    assert launch.options.max_queue == 7


def test_what_does_not_fit_together_is_refused():
    for arguments in (["--random-weights"], ["--model-shape", "tiny"]):
        with pytest.raises(ConfigError, match="belong together"):
            parse(*arguments)
    with pytest.raises(ConfigError, match="page_size is 24"):
        parse("--page-size", "24").engine()
