"""One layer of each of eight published architectures, made of the same parts, against its reference.

Weights are drawn at random (norms and biases too, so that none can be left out unnoticed) and copied; sizes
are odd, inputs small enough for the eps of a norm to show; comparison is elementwise in single precision.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import descent.nn.attention as attention_module
from descent.nn.attention import Attention
from descent.nn.block import Block
from descent.nn.cache import KVCache
from descent.nn.feedforward import FeedForward, GatedFeedForward
from descent.nn.norm import LayerNorm, RMSNorm
from descent.nn.position import RelativeBias, Rotary

BATCH, TIME, MEMORY, DIM, HEADS, HIDDEN = 2, 7, 5, 24, 3, 40
Pair = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def _same_weights_each_time():
    torch.manual_seed(7)


def drawn(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def inputs(time: int = TIME) -> Tensor:
    return torch.randn(BATCH, time, DIM) * 0.02


def padding() -> Tensor:
    """The last two keys of the second row are padding."""
    mask = torch.ones(BATCH, 1, 1, TIME, dtype=torch.bool)
    mask[1, ..., -2:] = False
    return mask


def future(time: int = TIME) -> Tensor:
    """What the references take as a causal mask: numbers added to the scores."""
    return torch.full((time, time), -torch.inf).triu(1)[None, None]


def copy(
    block: nn.Module, reference: nn.Module, names: dict[str, str], transposed: bool = False
) -> nn.Module:
    """Loads each of our modules from the reference's of the given names, several being stacked by rows."""
    theirs, ours = reference.state_dict(), {}
    for name, sources in names.items():
        for kind in ("weight", "bias"):
            found = [theirs[f"{source}.{kind}"] for source in sources.split() if f"{source}.{kind}" in theirs]
            if found:
                whole = torch.cat(found)
                ours[f"{name}.{kind}"] = whole.T if transposed and whole.dim() == 2 else whole
    block.load_state_dict(ours)
    return block.eval()


def bert(eps: float = 1e-12, order: str = "post", activation: str = "gelu") -> Pair:
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    config = BertConfig(
        hidden_size=DIM, num_attention_heads=HEADS, intermediate_size=HIDDEN, attn_implementation="eager"
    )
    reference = drawn(BertLayer(config))
    ours = Block(
        Attention(DIM, HEADS),
        LayerNorm(DIM, eps),
        FeedForward(DIM, HIDDEN, activation),
        LayerNorm(DIM, eps),
        order=order,
    )
    names = {
        "attention.qkv": "attention.self.query attention.self.key attention.self.value",
        "attention.output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "feedforward.up": "intermediate.dense",
        "feedforward.down": "output.dense",
        "feedforward_norm": "output.LayerNorm",
    }
    x, mask = inputs(), padding()
    theirs = reference(x, attention_mask=torch.zeros(mask.shape).masked_fill(~mask, -torch.inf))
    return copy(ours, reference, names)(x, mask=mask), theirs


def gpt2(
    eps: float = 1e-5, causal: bool = True, scale: float | None = None, activation: str = "gelu_tanh",
    bias: bool = True, cached: bool = False,
) -> Pair:  # fmt: skip
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block

    reference = drawn(
        GPT2Block(GPT2Config(n_embd=DIM, n_head=HEADS, n_inner=HIDDEN, attn_implementation="eager"))
    )
    ours = Block(
        Attention(DIM, HEADS, causal=causal, scale=scale),
        LayerNorm(DIM, eps),
        FeedForward(DIM, HIDDEN, activation),
        LayerNorm(DIM, eps),
    )
    names = {
        "attention.qkv": "attn.c_attn",
        "attention.output": "attn.c_proj",
        "attention_norm": "ln_1",
        "feedforward.up": "mlp.c_fc",
        "feedforward.down": "mlp.c_proj",
        "feedforward_norm": "ln_2",
    }
    copy(ours, reference, names, transposed=True)
    if not bias:
        nn.init.zeros_(ours.get_parameter("attention_norm.bias"))
    x = inputs()
    theirs = reference(x, attention_mask=future())
    if not cached:
        return ours(x), theirs
    cache = KVCache(1, BATCH, HEADS, TIME, DIM // HEADS)
    first = ours(x[:, :3], cache=cache.layer(0))
    cache.advance(3)
    return torch.cat((first, ours(x[:, 3:], cache=cache.layer(0))), dim=1), theirs


def t5(decoder: bool, scale: float = 1.0, eps: float = 1e-6, buckets: int = 32, distance: int = 128) -> Pair:
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Block

    time, head_dim = 41, 6  # long enough for the logarithmic buckets; heads that do not add up to the width
    config = T5Config(
        d_model=DIM, d_kv=head_dim, num_heads=HEADS, d_ff=HIDDEN, is_decoder=decoder,
        feed_forward_proj="gated-gelu", attn_implementation="eager",
    )  # fmt: skip
    reference = drawn(T5Block(config, has_relative_attention_bias=True, layer_idx=0))
    options = {"head_dim": head_dim, "bias": False, "scale": scale}
    ours = Block(
        Attention(DIM, HEADS, causal=decoder, **options),
        RMSNorm(DIM, eps),
        GatedFeedForward(DIM, HIDDEN, "gelu_tanh"),
        RMSNorm(DIM, eps),
        cross=Attention(DIM, HEADS, context_dim=DIM, **options) if decoder else None,
        cross_norm=RMSNorm(DIM, eps) if decoder else None,
    )
    own, last = "layer.0.SelfAttention", f"layer.{1 + decoder}.DenseReluDense"
    names = {
        "attention.qkv": f"{own}.q {own}.k {own}.v",
        "attention.output": f"{own}.o",
        "attention_norm": "layer.0.layer_norm",
        "feedforward.gate": f"{last}.wi_0",
        "feedforward.up": f"{last}.wi_1",
        "feedforward.down": f"{last}.wo",
        "feedforward_norm": f"layer.{1 + decoder}.layer_norm",
    }
    if decoder:
        cross = "layer.1.EncDecAttention"
        names |= {
            "cross.query": f"{cross}.q",
            "cross.key_value": f"{cross}.k {cross}.v",
            "cross.output": f"{cross}.o",
            "cross_norm": "layer.1.layer_norm",
        }
    copy(ours, reference, names)
    relative = RelativeBias(HEADS, buckets, distance, bidirectional=not decoder)
    table = reference.state_dict()[f"{own}.relative_attention_bias.weight"]
    relative.load_state_dict({"weight": table[:buckets]})
    x, context = inputs(time), inputs(MEMORY) if decoder else None
    mask = future(time) if decoder else torch.zeros(1, 1, time, time)
    theirs = reference(x, attention_mask=mask, encoder_hidden_states=context)[0]
    return ours(x, context, bias=relative(time, time)), theirs


def vit(eps: float = 1e-12, activation: str = "gelu", heads: int = HEADS) -> Pair:
    from transformers import ViTConfig
    from transformers.models.vit.modeling_vit import ViTLayer

    config = ViTConfig(
        hidden_size=DIM, num_attention_heads=HEADS, intermediate_size=HIDDEN, attn_implementation="eager"
    )
    reference = drawn(ViTLayer(config))
    ours = Block(
        Attention(DIM, heads), LayerNorm(DIM, eps), FeedForward(DIM, HIDDEN, activation), LayerNorm(DIM, eps)
    )
    names = {
        "attention.qkv": "attention.q_proj attention.k_proj attention.v_proj",
        "attention.output": "attention.o_proj",
        "attention_norm": "layernorm_before",
        "feedforward.up": "mlp.fc1",
        "feedforward.down": "mlp.fc2",
        "feedforward_norm": "layernorm_after",
    }
    x = inputs()
    return copy(ours, reference, names)(x), reference(x)


def clip_text(activation: str = "quick_gelu", causal: bool = True) -> Pair:
    from transformers import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPEncoderLayer

    config = CLIPTextConfig(
        hidden_size=DIM, num_attention_heads=HEADS, intermediate_size=HIDDEN, attn_implementation="eager"
    )
    reference = drawn(CLIPEncoderLayer(config))
    ours = Block(
        Attention(DIM, HEADS, causal=causal),
        LayerNorm(DIM),
        FeedForward(DIM, HIDDEN, activation),
        LayerNorm(DIM),
    )
    names = {
        "attention.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
        "attention.output": "self_attn.out_proj",
        "attention_norm": "layer_norm1",
        "feedforward.up": "mlp.fc1",
        "feedforward.down": "mlp.fc2",
        "feedforward_norm": "layer_norm2",
    }
    x = inputs()
    return copy(ours, reference, names)(x), reference(x, attention_mask=future())


def decoder_2017(order: str = "post", cross_norm: bool = True, masked: bool = True) -> Pair:
    reference = drawn(nn.TransformerDecoderLayer(DIM, HEADS, HIDDEN, batch_first=True))
    ours = Block(
        Attention(DIM, HEADS, causal=True),
        LayerNorm(DIM),
        FeedForward(DIM, HIDDEN, "relu"),
        LayerNorm(DIM),
        cross=Attention(DIM, HEADS, context_dim=DIM),
        cross_norm=LayerNorm(DIM),
        order=order,
    )
    theirs, both = reference.state_dict(), {}
    for kind in ("weight", "bias"):
        both[f"attention.qkv.{kind}"] = theirs[f"self_attn.in_proj_{kind}"]
        both[f"cross.query.{kind}"] = theirs[f"multihead_attn.in_proj_{kind}"][:DIM]
        both[f"cross.key_value.{kind}"] = theirs[f"multihead_attn.in_proj_{kind}"][DIM:]
        for name, source in {
            "attention.output": "self_attn.out_proj",
            "attention_norm": "norm1",
            "cross.output": "multihead_attn.out_proj",
            "cross_norm": "norm2",
            "feedforward.up": "linear1",
            "feedforward.down": "linear2",
            "feedforward_norm": "norm3",
        }.items():
            both[f"{name}.{kind}"] = theirs[f"{source}.{kind}"]
    ours.load_state_dict(both)
    if not cross_norm:
        nn.init.zeros_(ours.get_parameter("cross_norm.bias"))
    x, context, mask = inputs(), inputs(MEMORY), torch.ones(BATCH, 1, 1, MEMORY, dtype=torch.bool)
    mask[0, ..., -1] = False
    expected = reference(
        x, context, tgt_mask=future()[0, 0], tgt_is_causal=False, memory_key_padding_mask=~mask[:, 0, 0]
    )
    return ours.eval()(x, context, context_mask=mask if masked else None), expected


def llama(
    base: float = 10000.0, eps: float = 1e-6, gate: str = "silu", groups: int = 2, shift: int = 0
) -> Pair:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

    heads = 6
    config = LlamaConfig(
        hidden_size=DIM, num_attention_heads=heads, num_key_value_heads=2, intermediate_size=HIDDEN,
        rms_norm_eps=1e-6, attn_implementation="eager",
    )  # fmt: skip
    reference = drawn(LlamaDecoderLayer(config, layer_idx=0))
    ours = Block(
        Attention(DIM, heads, groups=2, bias=False, causal=True),
        RMSNorm(DIM, eps),
        GatedFeedForward(DIM, HIDDEN, gate),
        RMSNorm(DIM, eps),
    )
    names = {
        "attention.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "attention_norm": "input_layernorm",
        "feedforward.gate": "mlp.gate_proj",
        "feedforward.up": "mlp.up_proj",
        "feedforward.down": "mlp.down_proj",
        "feedforward_norm": "post_attention_layernorm",
    }
    x = inputs()
    positions = torch.stack((torch.arange(TIME), torch.arange(TIME) * 2 + 3))  # by row, as packing gives them
    angles = LlamaRotaryEmbedding(config)(x, positions)
    theirs = reference(x, attention_mask=future(), position_embeddings=angles)
    rotation = Rotary(DIM // heads, base)(positions * (1 + shift))
    return copy(ours, reference, names)(x, rotation=rotation), theirs


LAYERS: dict[str, Callable[..., Pair]] = {
    "bert": bert,
    "gpt2": gpt2,
    "gpt2, cached": lambda **options: gpt2(cached=True, **options),
    "t5 encoder": lambda **options: t5(decoder=False, **options),
    "t5 decoder": lambda **options: t5(decoder=True, **options),
    "vit": vit,
    "clip text": clip_text,
    "the decoder of 2017": decoder_2017,
    "llama": llama,
}

BROKEN = [
    ("bert", {"eps": 1e-3}),
    ("bert", {"order": "pre"}),
    ("bert", {"activation": "gelu_tanh"}),
    ("gpt2", {"eps": 1e-6}),
    ("gpt2", {"causal": False}),
    ("gpt2", {"scale": 0.3}),
    ("gpt2", {"activation": "gelu"}),
    ("gpt2", {"bias": False}),
    ("t5 encoder", {"scale": 6**-0.5}),
    ("t5 encoder", {"buckets": 30}),
    ("t5 encoder", {"distance": 100}),
    ("t5 decoder", {"eps": 1e-5}),
    ("vit", {"eps": 1e-6}),
    ("vit", {"heads": 4}),
    ("clip text", {"activation": "gelu"}),
    ("clip text", {"causal": False}),
    ("the decoder of 2017", {"order": "pre"}),
    ("the decoder of 2017", {"cross_norm": False}),
    ("the decoder of 2017", {"masked": False}),
    ("llama", {"base": 9000.0}),
    ("llama", {"eps": 1e-5}),
    ("llama", {"gate": "gelu"}),
    ("llama", {"shift": 1}),
]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_equals_its_reference(name: str):
    ours, theirs = LAYERS[name]()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("name", "broken"), BROKEN, ids=[f"{name}: {broken}" for name, broken in BROKEN])
def test_the_comparison_notices_a_broken_part(name: str, broken: dict):
    ours, theirs = LAYERS[name](**broken)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(ours, theirs)


def test_the_comparison_notices_queries_aligned_to_the_wrong_end(monkeypatch: pytest.MonkeyPatch):
    def aligned_to_the_start(self, q: Tensor, k: Tensor) -> Tensor:
        return torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()

    monkeypatch.setattr(attention_module._Rules, "allowed", aligned_to_the_start)
    ours, theirs = LAYERS["gpt2, cached"]()
    with pytest.raises(AssertionError):
        torch.testing.assert_close(ours, theirs)
