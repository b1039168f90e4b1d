"""BERT and RoBERTa in the Hugging Face layout: config.json and names of weights, in both directions.

    bert.encoder.layer.3.attention.self.query.weight, key, value     here  blocks.3.attention.qkv.weight
    bert.encoder.layer.3.attention.output.LayerNorm.weight                 blocks.3.attention_norm.weight
    cls.predictions.transform.dense.weight, lm_head.dense.weight           masked.dense.weight
    classifier.weight, qa_outputs.weight                                   head.weight

Names begin with `bert.` or `roberta.`, or, as BertModel saves them, do not. Old files call weight and bias of
a norm gamma and beta. The head for hidden words is tied to the token embedding, which may stand in a file a
second time. Pooler and heads that a file holds and its class has not are left out (see `completed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from descent.errors import UserError
from descent.models.bert import BERTConfig
from descent.weights.classes import distinct, outputs_of
from descent.weights.fields import check, number
from descent.weights.keymap import KeyMap, Rule, model_shapes

Kind = Literal["bert", "roberta"]

_CLASSES: dict[
    Kind, dict[str, str]
] = {  # what their classes are here; the first is meant where none is named
    "bert": {
        "BertForPreTraining": "pretraining",
        "BertForMaskedLM": "masked",
        "BertForNextSentencePrediction": "next",
        "BertForSequenceClassification": "classes",
        "BertForTokenClassification": "tokens",
        "BertForQuestionAnswering": "span",
        "BertModel": "none",
    },
    "roberta": {
        "RobertaForMaskedLM": "masked",
        "RobertaForSequenceClassification": "classes",
        "RobertaForTokenClassification": "tokens",
        "RobertaForQuestionAnswering": "span",
        "RobertaModel": "none",
    },
}
CLASSES: dict[Kind, tuple[str, ...]] = {kind: tuple(heads) for kind, heads in _CLASSES.items()}


def _linear(theirs: str, ours: str) -> list[Rule]:
    return [Rule(f"{theirs}.{part}", f"{ours}.{part}") for part in ("weight", "bias")]


def _norm(theirs: str, ours: str) -> list[Rule]:
    old = {"gamma": "weight", "beta": "bias"}
    return _linear(theirs, ours) + [Rule(f"{theirs}.{name}", f"{ours}.{part}") for name, part in old.items()]


def _encoder(prefix: str) -> list[Rule]:
    layer, block = prefix + "encoder.layer.{n}", "blocks.{n}"
    projections = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
    tables = {"word": "tokens", "position": "positions", "token_type": "segments"}
    return [
        *(Rule(f"{prefix}embeddings.{a}_embeddings.weight", f"{b}.weight") for a, b in tables.items()),
        *_norm(f"{prefix}embeddings.LayerNorm", "embedding_norm"),
        *(
            Rule(tuple(f"{name}.{part}" for name in projections), f"{block}.attention.qkv.{part}")
            for part in ("weight", "bias")
        ),
        *_linear(f"{layer}.attention.output.dense", f"{block}.attention.output"),
        *_norm(f"{layer}.attention.output.LayerNorm", f"{block}.attention_norm"),
        *_linear(f"{layer}.intermediate.dense", f"{block}.feedforward.up"),
        *_linear(f"{layer}.output.dense", f"{block}.feedforward.down"),
        *_norm(f"{layer}.output.LayerNorm", f"{block}.feedforward_norm"),
        Rule(f"{prefix}embeddings.position_ids", None),  # 0, 1, 2, ...
        Rule(f"{prefix}embeddings.token_type_ids", None),  # 0, 0, 0, ...
    ]


_MASKED: dict[Kind, list[Rule]] = {
    "bert": [
        *_linear("cls.predictions.transform.dense", "masked.dense"),
        *_norm("cls.predictions.transform.LayerNorm", "masked.norm"),
        Rule("cls.predictions.bias", "masked.bias"),
    ],
    "roberta": [
        *_linear("lm_head.dense", "masked.dense"),
        *_linear("lm_head.layer_norm", "masked.norm"),
        Rule("lm_head.bias", "masked.bias"),
    ],
}
_DECODER = {"bert": "cls.predictions.decoder", "roberta": "lm_head.decoder"}
_NEXT = _linear("cls.seq_relationship", "next")


def _keys(kind: Kind, config: BERTConfig) -> KeyMap:
    """The names of one class of theirs; parts that it does not have are ignored where a file holds them."""
    head = config.head
    prefixes = ("", f"{kind}.") if head == "none" else (f"{kind}.", "")  # the first is written
    rules = [rule for prefix in prefixes for rule in _encoder(prefix)]
    parts = {
        "pooler": [rule for prefix in prefixes for rule in _linear(f"{prefix}pooler.dense", "pooler")],
        "masked": _MASKED[kind],
        "next": _NEXT if kind == "bert" else [],
    }
    for name, part in parts.items():
        rules += part if name in _parts(config) else [Rule(rule.theirs, None) for rule in part]
    rules += [Rule(f"{_DECODER[kind]}.{part}", None) for part in ("weight", "bias")]
    if head == "classes" and not config.pooler:
        rules += _linear("classifier.dense", "head.dense") + _linear("classifier.out_proj", "head")
    elif head in ("classes", "tokens", "span"):
        rules += _linear("qa_outputs" if head == "span" else "classifier", "head")
    return KeyMap(rules)


def _parts(config: BERTConfig) -> set[str]:
    """Which of pooler, masked and next a model has."""
    held = {"pretraining": {"pooler", "masked", "next"}, "next": {"pooler", "next"}, "masked": {"masked"}}
    pools = config.pooler and config.head in ("classes", "none")
    return held.get(config.head, {"pooler"} if pools else set())


_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
_FIXED: dict[str, tuple[Any, ...]] = {  # what our BERT computes; another value would be another network
    "hidden_act": tuple(_ACTIVATIONS),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}
_SIZES = {
    "num_hidden_layers": "depth",
    "hidden_size": "dim",
    "num_attention_heads": "heads",
    "intermediate_size": "hidden",
    "vocab_size": "vocab_size",
}


def config_from(table: Mapping[str, Any], where: str, kind: Kind = "bert") -> BERTConfig:
    """Our configuration for the config.json of a BERT or a RoBERTa with one of the heads above.

    Raises:
        UserError: lists every field that is missing or describes a network that ours is not.
    """
    head = _CLASSES[kind][(table.get("architectures") or CLASSES[kind])[0]]
    fixed = dict(_FIXED)
    if head in ("masked", "pretraining"):
        fixed["tie_word_embeddings"] = (True,)
        fixed["hidden_act"] = (
            ("gelu",) if kind == "roberta" else fixed["hidden_act"]
        )  # one head has it always
    check(table, where, "a BERT" if kind == "bert" else "a RoBERTa", fixed, _SIZES)
    classifies = head in ("classes", "tokens")
    if head == "span" and outputs_of(table, where) != 2:
        raise UserError(
            f"{where}: the number of outputs", got=outputs_of(table, where), expected="2 for spans"
        )
    longest, offset = table.get("max_position_embeddings", 512), _offset(table, kind)
    hidden, dim = table["intermediate_size"], table["hidden_size"]
    return BERTConfig.read(
        {
            **BERTConfig.published().table(),
            **{ours: table[theirs] for theirs, ours in _SIZES.items()},
            "hidden": 0 if type(dim) is int and hidden == 4 * dim else hidden,
            "context": longest - offset if type(longest) is type(offset) is int else longest,
            "position_offset": offset,
            "segments": table.get("type_vocab_size", 2),
            "feedforward": _ACTIVATIONS[table.get("hidden_act", "gelu")],
            "norm_eps": table.get("layer_norm_eps", 1e-12),
            "head": head,
            "outputs": outputs_of(table, where) if classifies else 0,
            "pooler": kind == "bert" or head == "none",
            "dropout": number(table.get("hidden_dropout_prob", 0.1)),
            "attention_dropout": number(table.get("attention_probs_dropout_prob", 0.1)),
        },
        where=where,
    )


def _offset(table: Mapping[str, Any], kind: Kind) -> Any:
    """Rows of the table of positions before the first one's: RoBERTa's begin after its padding mark's."""
    pad = 1 if table.get("pad_token_id") is None else table["pad_token_id"]
    return 0 if kind == "bert" else pad + 1 if type(pad) is int else pad


def completed(config: BERTConfig, table: Mapping[str, Any], names: Iterable[str]) -> BERTConfig:
    """The configuration after a look at the tensors: which heads a file holds, its class may not tell.

    BERT's own files hold both heads of pretraining and call themselves BertForMaskedLM, or nothing at all. A
    BertModel or RobertaModel may have been saved without its pooler.

    Args:
        config: from `config_from`.
        table: config.json.
        names: of the tensors.
    """
    held = set(names)
    pooled = any(name.endswith("pooler.dense.weight") for name in held)
    follows, masks = "cls.seq_relationship.weight" in held, held & {"cls.predictions.bias", "lm_head.bias"}
    if config.head == "masked" and follows and pooled:
        return config.replace(head="pretraining")
    if not table.get("architectures") and config.head in ("masked", "pretraining"):
        head = config.head if follows and masks else "masked" if masks else "none"
        return config.replace(head=head, pooler=pooled if head == "none" else config.pooler)
    return config.replace(pooler=pooled) if config.head == "none" else config


def config_to(config: BERTConfig, kind: Kind = "bert") -> dict[str, Any]:
    """The config.json of a BERT that transformers computes; see `is_published`."""
    classes = {head: name for name, head in _CLASSES[kind].items()}
    return {
        "model_type": kind,
        "architectures": [classes[config.head]],
        "num_hidden_layers": config.depth,
        "hidden_size": config.dim,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden_width,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context + config.position_offset,
        "type_vocab_size": config.segments,
        "hidden_act": "gelu" if config.feedforward == "gelu" else "gelu_new",
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "initializer_range": 0.02,
        "pad_token_id": max(config.position_offset - 1, 0),
        "tie_word_embeddings": True,
    }


def is_published(config: Any, kind: Kind = "bert") -> bool:
    """Whether a class of transformers computes this network."""
    if not isinstance(config, BERTConfig) or config.head not in _CLASSES[kind].values():
        return False
    form = (config.position, config.order, config.bias, config.embedding_norm)
    if form != ("learned", "post", True, True) or config.feedforward == "geglu" or not config.segments:
        return False
    if config.head == "classes" and config.pooling != "first":
        return False
    if kind == "bert":
        return not config.position_offset and (config.pooler or config.head != "classes")
    exact = config.feedforward == "gelu" or config.head != "masked"
    return bool(config.position_offset) and exact and not (config.pooler and config.head == "classes")


def use(table: Mapping[str, Any], kind: Kind = "bert") -> dict[str, Any]:
    """How a published BERT is used: its classes, and how texts become its rows."""
    head = _CLASSES[kind][(table.get("architectures") or CLASSES[kind])[0]]
    names = table.get("id2label") or {}
    labels = list(distinct([names[str(place)] for place in range(len(names))]))
    length = table.get("max_position_embeddings", 512) - _offset(table, kind)
    forms: dict[str, dict[str, Any]] = {
        "classes": {"kind": "sentences", "length": length, "texts": 1, "columns": [], "labels": labels},
        "tokens": {"kind": "entities", "length": length, "joiner": " ", "labels": labels},
        "masked": {"kind": "masked", "length": length},
        "pretraining": {"kind": "masked", "length": length},
    }
    classifies = head in ("classes", "tokens")
    single = len(labels) > 1 and table.get("problem_type") in (None, "single_label_classification")
    if head not in forms or (classifies and not single):
        return {}
    named = {"labels": labels, "loss": "cross_entropy"} if classifies else {}
    return {**named, "preparation": forms[head]}


def state_from(
    tensors: Mapping[str, Tensor], config: BERTConfig, where: str, kind: Kind = "bert"
) -> dict[str, Tensor]:
    """Our state from published tensors; a `UserError` lists every difference to what `config` needs."""
    shapes = model_shapes(config, tensors, where)
    rest = dict(tensors)
    if "masked" in _parts(config):
        bare = "embeddings.word_embeddings.weight"
        table = next((name for name in (f"{kind}.{bare}", bare) if name in rest), f"{kind}.{bare}")
        bias = _MASKED[kind][-1].parts[0]
        for part, name in (("weight", table), ("bias", bias)):
            copy = rest.pop(f"{_DECODER[kind]}.{part}", None)
            if copy is not None and not torch.equal(copy, rest.setdefault(name, copy)):
                raise UserError(
                    f"{where}: {_DECODER[kind]}.{part} differs from {name}, to which it is tied",
                    hint="a head of its own for hidden words is not computed here",
                )
    return _keys(kind, config).to_ours(rest, shapes, where)


def state_to(state: Mapping[str, Tensor], config: BERTConfig, kind: Kind = "bert") -> dict[str, Tensor]:
    """Published names for the state of a BERT."""
    return _keys(kind, config).to_theirs(state)
