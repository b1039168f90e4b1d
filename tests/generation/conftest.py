"""Small random models of the two kinds, with weights large enough that their predictions differ."""

import pytest
import torch

from descent.models.gpt import GPT, GPTConfig


@pytest.fixture(autouse=True)
def _seeded():
    """The same models whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture(name="spread")
def spread_fixture():
    return spread


def spread(model):
    """Random weights of a size at which logits are far apart (zero-initialised projections too)."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.25)
    return model.eval()


@pytest.fixture(params=["gpt2", "modern", "bigram"])
def model(request):
    if request.param == "gpt2":
        config = GPTConfig.gpt2(depth=2, dim=24, heads=3, context=32, vocab_size=37)
    else:
        bigram = request.param == "bigram"
        config = GPTConfig(
            depth=2,
            dim=32,
            heads=4,
            groups=2,
            context=32,
            vocab_size=37,
            bigram=bigram,
            value_embedding=bigram,
        )
    return spread(GPT(config))
