"""`mili.chat` over the fake model: turns, commands, the prefix cache, interruption, errors."""

import io
import sys

import pytest

from mili.chat import Chat, main
from mili.chat_template import ChatTemplate
from mili.engine import Engine, EngineOptions
from mili.errors import TokenizerError
from mili.launch import Launch
from mili.sampling import SamplingParams
from tests.engine.fakes import FakeCache, FakeModel, fake_tokenizer

TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] "
PARAMS = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)


def make_engine(template=TEMPLATE, num_pages=200):
    cache = FakeCache(num_pages, 8)
    tokenizer = fake_tokenizer()
    tokenizer.chat_template = ChatTemplate(template, {}) if template else None
    return Engine(FakeModel(cache), tokenizer, cache, EngineOptions(max_running=2, max_batch_tokens=64))


def test_turns_build_on_each_other_and_hit_the_cache(capsys):
    with make_engine() as engine:
        chat = Chat(engine, PARAMS, "be brief", None)
        chat.say("first question of the evening")
        chat.say("second question")
        out, err = capsys.readouterr()
        assert [m["role"] for m in chat.messages] == ["system", "user", "assistant", "user", "assistant"]
        answers = [m["content"] for m in chat.messages if m["role"] == "assistant"]
        assert out == "".join(f"{answer}\n" for answer in answers)
        first, second = err.splitlines()
        assert " 0 of " in first
        assert " 0 of " not in second
        assert chat.command("/reset")
        assert chat.messages == [{"role": "system", "content": "be brief"}]
        assert chat.command("/system  answer in French ")
        assert chat.messages == [{"role": "system", "content": "answer in French"}]
        assert chat.command("/system")
        assert chat.messages == []
        assert chat.command("/what")
        assert "/what is no command" in capsys.readouterr().err
        assert not chat.command("/exit")


def test_ctrl_c_ends_the_answer_and_keeps_what_was_said(monkeypatch, capsys):
    with make_engine() as engine:
        chat = Chat(engine, SamplingParams(temperature=0, max_tokens=900, ignore_eos=True), None, None)
        handle_stream = engine.submit.__func__

        def submit(prompt, params):
            handle = handle_stream(engine, prompt, params)
            stream = handle.stream
            state = {"first": True}

            def interrupted():
                for i, delta in enumerate(stream()):
                    yield delta
                    if state["first"] and i == 3:
                        state["first"] = False
                        raise KeyboardInterrupt

            handle.stream = interrupted
            return handle

        monkeypatch.setattr(engine, "submit", submit)
        chat.say("tell me a long story")
        assert chat.messages[-1]["content"] + "\n" == capsys.readouterr().out
        assert engine.metrics.finished["cancel"] == 1
    assert engine.metrics.free_pages + engine.metrics.cached_pages == 200


def run_main(monkeypatch, capsys, engine, text):
    monkeypatch.setattr(Launch, "engine", lambda self: engine)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    status = main(["--temperature", "0", "--max-tokens", "5", "--ignore-eos"])
    return status, *capsys.readouterr()


def test_a_whole_conversation_from_standard_input(monkeypatch, capsys):
    status, out, err = run_main(monkeypatch, capsys, make_engine(), "hello\n\n/reset\nhello\n/exit\nnever said\n")
    assert status == 0
    half = len(out) // 2
    assert out[:half] == out[half:] != ""
    assert "The conversation is empty." in err


def test_a_turn_that_does_not_fit_leaves_the_conversation_usable(monkeypatch, capsys):
    status, out, err = run_main(monkeypatch, capsys, make_engine(), "x" * 2000 + "\nhello\n")
    assert status == 0
    assert "error: the prompt has" in err
    assert out


def test_a_model_without_a_template_cannot_chat(monkeypatch, capsys):
    with pytest.raises(TokenizerError, match="no chat template"):
        run_main(monkeypatch, capsys, make_engine(template=None), "")
