"""`descent generate --chat`: a model taught to converse answers what a user says."""

from __future__ import annotations

import pytest
import torch

import descent as package
from descent.models.llama import Llama, LlamaConfig
from descent.text import train
from descent.text.chat import Chat
from descent.weights.export import export

TEMPLATE = "{% for said in messages %}{{ said.role }}: {{ said.content }}\n{% endfor %}assistant:"


@pytest.fixture
def folder(tmp_path):
    tokenizer = train("bpe", ["user: hello\nassistant: the small river of stone\n"] * 30, 280)
    torch.manual_seed(1)
    model = Llama(LlamaConfig(depth=1, dim=16, heads=2, context=300, vocab_size=tokenizer.vocab_size))
    return export(tmp_path / "model", model, tokenizer, chat=Chat(TEMPLATE))


def test_a_user_is_answered(descent, folder):
    options = ("--max-new-tokens", 8, "--seed", 4)
    answer = package.load(folder).chat("hello", max_new_tokens=8, seed=4)
    assert descent("generate", folder, "--chat", "hello", *options).out == answer + "\n"
    found = descent("generate", folder, "--chat", "hello", *options, "--json").json
    assert (found["prompt"], found["text"]) == ("hello", answer)
    assert descent("generate", folder, "--chat", "hello", *options, "--no-stream").out == answer + "\n"
    error = descent("generate", folder, "--chat", "hello", "--prompt", "once", code=2).err
    assert "give one of them" in error


def test_a_model_without_a_template_says_so(descent, folder):
    (folder / "chat_template.jinja").unlink()
    assert "was not taught to converse" in descent("generate", folder, "--chat", "hello", code=2).err
