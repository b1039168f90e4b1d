"""The prepared twin computes what the model computes, and leaves it alone."""

import copy

import pytest
import torch

from descent.generation import Settings, generate, prepare
from descent.models.gpt import GPT, GPTConfig
from descent.nn.packed import PackedLinear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_the_twin_gives_the_same_logits_and_tokens(dtype, tied, spread):
    config = GPTConfig.gpt2(depth=2, dim=256, heads=4, context=64, vocab_size=311, tied=tied)
    model = spread(GPT(config)).to(dtype)
    twin = prepare(model)
    packed = [name for name, module in twin.named_modules() if isinstance(module, PackedLinear)]
    assert len(packed) == 2 * 4 + 1
    tokens = torch.arange(60).reshape(2, 30)
    with torch.inference_mode():
        # Logits here are about 4; oneDNN may add the 256 products of a sum in another order.
        torch.testing.assert_close(twin(tokens), model(tokens), rtol=1e-4, atol=5e-4)
    settings = Settings(max_new_tokens=20, temperature=0)
    prompts = [[1, 2, 3], [4]]
    assert [c.tokens for c in generate(twin, prompts, settings)] == [
        c.tokens for c in generate(model, prompts, settings)
    ]


def test_the_model_is_not_changed_by_having_a_twin():
    model = GPT(GPTConfig(depth=2, dim=256, heads=4, context=32, vocab_size=300)).train()
    before, names = copy.deepcopy(model.state_dict()), [name for name, _ in model.named_modules()]
    twin = prepare(model)
    assert [name for name, _ in model.named_modules()] == names
    assert model.training
    assert not any(module.training for module in twin.modules())
    assert all(module.training for module in model.modules())
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert twin.tokens.weight is model.tokens.weight
