"""The schema of a recipe: data, model, objective, optimizer, schedule, budget and claimed result."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

import tomli_w
from pydantic import StringConstraints, model_validator

from descent.config import Config, Field, Items, read_toml
from descent.data.config import ImageData, TableData, TextData
from descent.data.entities_config import EntitiesData
from descent.data.generated_config import GeneratedData
from descent.data.masked_config import MaskedData, SpansData
from descent.data.music_config import MusicData
from descent.data.pairs_config import PairsData
from descent.data.questions_config import QuestionsData
from descent.data.ranking_config import RankingData
from descent.data.sentences_config import SentencesData
from descent.data.series_config import SeriesData
from descent.data.similar_config import SimilarData
from descent.data.sound_config import SoundData
from descent.data.tasks_config import TasksData
from descent.models.airbench import AirbenchConfig
from descent.models.alexnet import AlexNetConfig
from descent.models.bert import BERTConfig
from descent.models.dlinear import DLinearConfig
from descent.models.dscnn import DSCNNConfig
from descent.models.forecaster import ForecasterConfig
from descent.models.gpt import GPTConfig
from descent.models.lenet import LeNetConfig
from descent.models.linear import LinearConfig
from descent.models.llama import LlamaConfig
from descent.models.mlp import MLPConfig
from descent.models.resnet import ResNetConfig
from descent.models.rnn import RNNConfig
from descent.models.seq2seq import Seq2SeqConfig
from descent.models.t5 import T5Config
from descent.models.transformer import TransformerConfig
from descent.models.vit import ViTConfig
from descent.objectives import ObjectiveConfig
from descent.text import TokenizerConfig
from descent.training.optimizers import AdamConfig, AdamWConfig, MuonConfig, SGDConfig
from descent.training.schedules import (
    ConstantConfig,
    CosineConfig,
    LinearScheduleConfig,
    Span,
    TrapezoidConfig,
)

NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
# Windows opens a device, not a file, for these names, whatever the extension.
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}

RunName = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]


ModelConfig = (
    LinearConfig
    | MLPConfig
    | LeNetConfig
    | AlexNetConfig
    | ResNetConfig
    | AirbenchConfig
    | ViTConfig
    | RNNConfig
    | ForecasterConfig
    | DLinearConfig
    | DSCNNConfig
    | Seq2SeqConfig
    | TransformerConfig
    | T5Config
    | BERTConfig
    | GPTConfig
    | LlamaConfig
)
DataConfig = (
    TextData
    | TableData
    | ImageData
    | SeriesData
    | SoundData
    | MusicData
    | PairsData
    | MaskedData
    | SpansData
    | QuestionsData
    | RankingData
    | SentencesData
    | EntitiesData
    | TasksData
    | SimilarData
    | GeneratedData
)

EXAMPLES = ("linear", "mlp", "lenet", "alexnet", "resnet", "airbench", "vit")
DECODERS = ("gpt", "llama", "rnn")
FITTING: dict[str, dict[str, tuple[str, ...]]] = {
    "causal": {"text": DECODERS, "generated": DECODERS, "music": DECODERS},
    "supervised": {
        "table": EXAMPLES,
        "images": EXAMPLES,
        "sound": ("rnn", "dscnn"),
        "generated": ("rnn",),
        "sentences": ("bert",),
    },
    "masked": {"masked": ("bert",)},
    "tagging": {"entities": ("bert",)},
    "frames": {"music": ("rnn",)},
    "forecast": {"series": ("forecaster", "dlinear")},
    "ctc": {"sound": ("rnn",)},
    "span": {"questions": ("bert",)},
    "ranking": {"ranking": ("bert",)},
    "contrastive": {"similar": ("bert",)},
    "seq2seq": {
        "pairs": ("seq2seq", "transformer", "t5"),
        "spans": ("t5",),
        "tasks": ("t5", "transformer"),
    },
}
"""The objectives by type, the kinds of data each goes with, and the models for those."""
TOKENIZED = (
    *("text", "pairs", "masked", "spans", "sentences", "entities", "questions", "ranking", "tasks"),
    "similar",
)
"""The kinds of data that are text."""


class Budget(Config):
    """How long, and in what portions."""

    steps: int = Field(default=0, ge=0, description="training steps; 0 = as many as epochs needs")
    epochs: float = Field(default=0.0, ge=0, description="passes over the training split, if steps is 0")
    batch_size: int = Field(
        ge=0, description="examples a step: rows of tokens, images, table rows; 0 = the whole training split"
    )
    accumulate: int = Field(default=1, gt=0, description="parts a batch is computed in, to save memory")

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if bool(self.steps) == bool(self.epochs):
            raise ValueError("give either steps or epochs, and the other 0")
        if self.batch_size and self.accumulate > self.batch_size:
            raise ValueError("accumulate cannot be larger than batch_size")
        return self


class EvaluationPlan(Config):
    """When the validation split is scored, and what for."""

    every: int = Field(default=0, ge=0, description="steps between evaluations; 0 = only at the end")
    batch_size: int = Field(default=256, gt=0, description="examples at a time; changes no result")
    metric: str = Field(default="loss", description="the metric that decides which checkpoint is best")
    patience: int = Field(default=0, ge=0, description="stop after so many evaluations without a better one")
    tta: Literal["none", "flip", "flip_shift"] = Field(
        default="none",
        description="views of an image whose logits are averaged, in evaluation and prediction: it alone, "
        "its mirror too, or both also moved by a pixel",
    )


class CheckpointPlan(Config):
    """What is kept on disk."""

    every: int = Field(default=0, ge=0, description="steps between checkpoints; 0 = at each evaluation")
    keep: int = Field(default=2, ge=1, description="how many of the latest are kept, beside the best")


class SamplePlan(Config):
    """What a language model writes now and then while it trains."""

    every: int = Field(default=0, ge=0, description="steps between samples; 0 = only at the end")
    prompt: str = Field(
        default="",
        description="the text to go on from; of pairs the source, and empty = the first of validation",
    )
    max_new_tokens: int = Field(default=200, gt=0)
    temperature: float = Field(default=0.8, ge=0)
    top_k: int = Field(default=0, ge=0, description="0 = all")
    top_p: float = Field(default=1.0, gt=0, le=1)


class Transfer(Config):
    """Trained weights to start from, and how the layers that have them are trained on."""

    weights: str = Field(
        min_length=1,
        description="a run's folder, a folder in the Hugging Face layout, a name on the hub, a .safetensors "
        "file under our names, or one of torchvision or timm after its name there "
        "(torchvision/resnet50:FILE.safetensors); model.weights=... means this",
    )
    head: Literal["auto", "new", "keep"] = Field(
        default="auto",
        description="the output layer; auto = kept where the classes are the same, else drawn anew",
    )
    frozen: bool = Field(default=False, description="train the head alone")
    decay: float = Field(
        default=1.0, gt=0, le=1, description="rate of a group of layers over that of the group after it"
    )
    thaw: Span = Field(
        default=0,
        description="steps, or a fraction of all steps, between the unfreezing of one group of layers and of "
        "the one before it, from the head down; 0 = all are trained from the start",
    )
    mean: Items[float] = Field(
        default=(),
        description="what images are normalised by, a number a channel; empty = as for the weights",
    )
    std: Items[Annotated[float, Field(gt=0)]] = Field(default=(), description="likewise")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.frozen and self.thaw:
            raise ValueError("frozen trains the head alone, and thaw unfreezes the rest: choose one of them")
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std each take a number a channel")
        return self


class Adapter(Config):
    """Low-rank adapters: the weights that were given stay, and thin matrices beside them are trained."""

    rank: int = Field(default=8, ge=1, description="of the product beside each matrix")
    alpha: float = Field(default=16.0, gt=0, description="the product is multiplied by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of an adapter's inputs")
    targets: Items[str] = Field(
        default=(), description="names of linear layers (qkv, output, up, ...); empty = all below the head"
    )


class Claim(Config):
    """What this recipe was measured to reach, on which machine and how often."""

    metric: str
    split: Literal["train", "validation", "test"]
    value: float = Field(description="the mean over the seeds")
    values: Items[float] = Field(default=(), description="one value a seed")
    seeds: Items[int] = ()
    minutes: float = Field(gt=0, description="of training, evaluation included")
    machine: str


class Recipe(Config):
    """Everything a run is a function of, beside its step."""

    name: RunName
    about: str = ""
    seed: int = Field(default=1, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="of matrix products; weights and sums stay fp32. auto = the faster here"
    )
    compile: bool = Field(default=False, description="torch.compile the model: slow to start")
    clip_norm: float = Field(default=0.0, ge=0, description="longest gradient, L2 over all; 0 = no limit")
    average: float = Field(default=0.0, ge=0, lt=1, description="decay of the weights' average; 0 = none")

    data: Annotated[DataConfig, Field(discriminator="type")]
    tokenizer: TokenizerConfig | None = None
    model: Annotated[ModelConfig, Field(discriminator="type")]
    objective: Annotated[ObjectiveConfig, Field(discriminator="type")]
    optimizer: Annotated[SGDConfig | AdamConfig | AdamWConfig | MuonConfig, Field(discriminator="type")]
    schedule: Annotated[
        ConstantConfig | LinearScheduleConfig | CosineConfig | TrapezoidConfig, Field(discriminator="type")
    ] = ConstantConfig()
    budget: Budget
    evaluation: EvaluationPlan = EvaluationPlan()
    checkpoints: CheckpointPlan = CheckpointPlan()
    samples: SamplePlan | None = None
    transfer: Transfer | None = None
    adapter: Adapter | None = None
    claim: Claim | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if not safe_name(self.name):
            raise ValueError(f"{self.name!r} cannot be the name of a run: {NAME_RULE}")
        data, model, objective = self.data.type, self.model.type, self.objective.type
        if model not in FITTING[objective].get(data, ()):
            raise ValueError(
                f"data {data!r}, model {model!r} and objective {objective!r} do not go together: "
                + _advice(data, objective)
            )
        wrong = _wrong_rows(self.data, self.model, self.transfer)
        if isinstance(self.model, RNNConfig):
            wrong = wrong or _wrong_reading(self.model, objective)
        if isinstance(self.data, MaskedData) and isinstance(self.model, BERTConfig):
            wrong = wrong or _wrong_masked(self.data, self.model)
        if isinstance(self.data, SimilarData) and isinstance(self.model, BERTConfig):
            wrong = wrong or _wrong_similar(self.model, self.budget)
        if wrong is not None:
            raise ValueError(wrong)
        if self.adapter is not None and self.transfer is None:
            raise ValueError("an adapter changes weights that were trained: name them in transfer.weights")
        form = _form(self.data)
        if form is not None and form != objective:
            raise ValueError(f"these {data} data are for objective.type={form}, not {objective}")
        if data in TOKENIZED and self.tokenizer is None:
            raise ValueError(f"{data} needs a [tokenizer]")
        if getattr(self.data, "packing", "") == "lanes" and (model != "rnn" or not self.budget.batch_size):
            raise ValueError("data.packing=lanes is for a recurrent model, with budget.batch_size lanes")
        if self.evaluation.tta != "none" and self.data.type != "images":
            raise ValueError(f"evaluation.tta={self.evaluation.tta} is for images, data are {self.data.type}")
        return self


def _wrong_rows(data: DataConfig, model: ModelConfig, transfer: Transfer | None) -> str | None:
    """Why rows of text cannot be read by a model, if they cannot."""
    if data.type not in TOKENIZED:
        return None
    if model.type == "seq2seq" and getattr(data, "packing", "") == "documents":
        return "data.packing must be padded: a recurrent seq2seq would read the pairs of a row as one"
    length: int = getattr(data, "length", 0)
    context: int = getattr(model, "context", length)
    known = transfer is None or "context" in model.model_fields_set  # otherwise the weights bring it
    if known and length > context:
        return f"data.length={length} is longer than model.context={context}"
    return None


def _wrong_reading(model: RNNConfig, objective: str) -> str | None:
    """Why a recurrent model cannot be read out as the objective asks, if it cannot."""
    if objective == "supervised" and model.pool == "none":
        return "model.pool must be last, mean or max: there is one answer a row"
    if objective != "supervised" and model.pool != "none":
        return f"model.pool must be none: {objective} asks for an answer at every step"
    if objective in ("causal", "frames") and model.bidirectional:
        return f"model.bidirectional would let the model see what {objective} asks it to predict"
    return None


def _wrong_masked(data: MaskedData, model: BERTConfig) -> str | None:
    """Why a BERT cannot be pretrained on these rows, if it cannot."""
    head = "pretraining" if data.next_sentence else "masked"
    if model.head != head:
        return f"model.head must be {head} where data.next_sentence={str(data.next_sentence).lower()}"
    if data.next_sentence and model.segments < 2:
        return "data.next_sentence needs model.segments=2, to tell the two pieces apart"
    return None


def _wrong_similar(model: BERTConfig, budget: Budget) -> str | None:
    """Why vectors of texts cannot be learned so, if they cannot."""
    if model.head != "vector":
        return "model.head must be vector: a text is to be one point"
    if budget.batch_size == 1:
        return "budget.batch_size must be 2 or more: a pair is told from the other pairs of its batch"
    return None


def _form(data: DataConfig) -> str | None:
    """The one objective for which data of a kind are made, where an option of theirs decides."""
    if isinstance(data, SoundData):
        return "ctc" if data.strings else "supervised"
    if isinstance(data, MusicData):
        return "frames" if data.form == "frames" else "causal"
    if isinstance(data, GeneratedData):
        return "supervised" if data.task == "adding" else "causal"
    return None


def _advice(data: str, objective: str) -> str:
    """What does go together with these data, or else with this objective."""
    models = FITTING[objective].get(data)
    if models:
        return f"{objective} on {data} takes a model of " + ", ".join(models)
    found = [name for name, kinds in FITTING.items() if data in kinds]
    return f"{data} goes with the objective " + " or ".join(found)


NAME_RULE = "use 1 to 64 letters, digits, '.', '_' or '-', no leading dot or dash, no device name"


def safe_name(name: str) -> bool:
    """Whether a name can stand for a folder on every system, and for nothing outside it."""
    return re.fullmatch(NAME, name) is not None and name.split(".")[0].lower() not in DEVICES


def read_recipe(path: Path) -> Recipe:
    """A complete recipe from a TOML file (one with a `base` is resolved by `descent.recipes`)."""
    return Recipe.read(read_toml(path), where=str(path))


def recipe_toml(recipe: Recipe) -> str:
    """The recipe as TOML that reads back to the same recipe."""
    return tomli_w.dumps(recipe.table())
