"""Masked language models of `transformers` (BERT, Devlin et al. 2019, and its kin) as networks over tokens.

Such a model was trained to restore about one token in seven; a masked diffusion asks it for any share, and is the same
task otherwise. It takes token numbers and gives scores of its vocabulary, and three things are to be brought together:

    number            here                                            there
    size              the mask                                        the row of its own mask token
    size - 1          END, which its tokeniser has not                 a new row, a copy of what ends its texts
    around a text     nothing                                          its tokens of beginning and end, if any

Weights are read from safetensors alone, classes are taken by name from a short list, and no code of the folder is run.
The configuration stands in the recipe of a run, so that the folder is not needed again.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from kuosan.errors import UserError
from kuosan.networks.dropout import Dropout, reseed

MODELS = (
    "albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta",
    "xlm-roberta",
)  # fmt: skip
OFFSET = (
    "camembert",
    "mpnet",
    "roberta",
    "xlm-roberta",
)  # whose positions are counted from behind the padding's
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_FOREIGN = ("architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "_name_or_path")
_NAMES = {  # special tokens in use, where a folder does not say which they are
    "mask_token": ("[MASK]", "<mask>"), "cls_token": ("[CLS]", "<s>"), "sep_token": ("[SEP]", "</s>"),
}  # fmt: skip


class StockLM(nn.Module):
    """``AutoModelForMaskedLM`` with the arguments and the result of `TokenTransformer`.

    Args:
        size: values of a token; ``size`` itself is the mask. length: tokens of a text.
        config: of the model, ``model_type`` included.
        mask, begin, finish: rows of the model's own tokens; the latter two None where it has none.
        dropout: rate wherever the model has dropout, in training mode, but for attention.
        generator: source of the initial weights, which is what a start replaces.

    Raises:
        UserError: `transformers` is not installed, or the model is not one of `MODELS`.
    """

    block, timed = 0, False

    def __init__(
        self,
        size: int,
        *,
        length: int,
        config: Mapping[str, Any],
        mask: int,
        begin: int | None = None,
        finish: int | None = None,
        dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if not 0 <= mask < size or length > (most := most_tokens(config, begin, finish)):
            raise ValueError(
                f"mask {mask} of {size} tokens, or {length} tokens where there are {most} at most"
            )
        self.size, self.length = size, length
        self.mask, self.begin, self.finish = mask, begin, finish
        with torch.random.fork_rng(devices=[]):  # it draws from the global generator, which is put back
            self.model = build(config, size)
        _initialise(self.model, generator)
        self.drops: list[Dropout] = []
        _replace_dropout(self.model, dropout, self.drops)
        self.tied = _tied(self.model)
        self.register_state_dict_post_hook(_leave_out)
        self.register_load_state_dict_pre_hook(_put_back)

    def begin_with(self, counts: Float[Tensor, " k"]) -> None:
        """Nothing: it knows how often each token occurs."""

    def forward(
        self,
        x: Int64[Tensor, "b n"],
        t: Float[Tensor, "b"],
        clean: Int64[Tensor, "b n"] | None = None,
        only: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "... k"]:
        """See `TokenTransformer.forward`; there are no conditions, and the time seeds dropout."""
        if self.drops and self.training:
            reseed(self.drops, t)
        n = x.shape[1]
        ids = torch.where(x == self.size, self.mask, x)
        if self.begin is not None:
            ids = F.pad(ids, (1, 0), value=self.begin)
        if self.finish is not None:
            ids = F.pad(ids, (0, 1), value=self.finish)
        first = int(self.begin is not None)
        scores: Tensor = self.model(input_ids=ids).logits[:, first : first + n, : self.size]
        return scores if only is None else scores[only]


class MaskedLM(NamedTuple):
    """A folder's model: what `build_network` rebuilds it from, all but ``length``, and the weights for that."""

    spec: dict[str, Any]
    weights: dict[str, Tensor]
    most: int


def is_masked_lm(folder: Path) -> bool:
    """Whether a folder holds a model of `transformers`, of whichever kind."""
    return (folder / CONFIG).is_file() and isinstance(_json(folder / CONFIG).get("model_type"), str)


def read_masked_lm(folder: Path, size: int, vocabulary: Mapping[str, int], dropout: float = 0.1) -> MaskedLM:
    """The masked language model in a folder.

    Args:
        size: values of a token, END, which is the last, included. vocabulary: name → number of its tokeniser's tokens.

    Raises:
        UserError: it is no masked language model, of a kind that is not known, without a mask token, or its weights
            are not safetensors.
    """
    config = _json(folder / CONFIG)
    kind, classes = config["model_type"], config.get("architectures") or ["no class"]
    if not any(name.endswith("ForMaskedLM") for name in classes):
        raise UserError(
            f"{folder} is a {classes[0]}, and a model of masked texts starts from a masked language model: give a "
            "folder of a *ForMaskedLM"
        )
    if kind not in MODELS:
        raise UserError(
            f"{folder} is of the kind {kind}, which is not known here: choose {', '.join(MODELS)}"
        )
    if not (folder / WEIGHTS).is_file() and not (folder / INDEX).is_file():
        raise UserError(
            f"{folder} holds no {WEIGHTS}, and other files of weights are not read, as they can run code: save the "
            "model with save_pretrained(FOLDER, safe_serialization=True)"
        )
    special = _special(folder, vocabulary)
    if special["mask_token"] is None:
        raise UserError(
            f"the tokeniser of {folder} has no mask token: give the folder of a masked language model"
        )
    config = {k: v for k, v in config.items() if k not in _FOREIGN}
    spec: dict[str, Any] = {
        "kind": "stock-lm", "size": size, "config": config, "mask": special["mask_token"],
        "begin": special["cls_token"], "finish": special["sep_token"], "dropout": dropout,
    }  # fmt: skip
    most = most_tokens(config, spec["begin"], spec["finish"])
    leaves = {k: v for k, v in spec.items() if k != "kind"}
    network = StockLM(**leaves, length=most, generator=torch.Generator().manual_seed(0))
    try:
        given = _library().AutoModelForMaskedLM.from_pretrained(
            str(folder),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
        )
    except Exception as error:  # of many kinds, from several libraries
        raise UserError(
            f"the weights of {folder} cannot be read ({str(error).splitlines()[0]}): copy the model anew"
        ) from error
    own, theirs = network.model.state_dict(), given.state_dict()
    with torch.no_grad():
        for name, value in own.items():
            fit(value, theirs[name], size - 1, special["sep_token"])
    return MaskedLM(spec, network.state_dict(), most)


def fit(own: Tensor, given: Tensor, end: int, like: int | None) -> None:
    """Copy a weight; one with a row per token gets the rows that there are, and END's is that of ``like``, or their
    mean."""
    if own.shape == given.shape:
        own.copy_(given)
        return
    own[: len(given)] = given
    own[len(given) :] = given.mean(0)
    own[end] = given[like] if like is not None else given.mean(0)


def build(config: Mapping[str, Any], size: int) -> Any:
    """The model without dropout, and with rows for ``size`` tokens or more: always more than its own, so that its
    shapes tell which weights have a row per token."""
    leaves = dict(config)
    kind = leaves.pop("model_type", None)
    if kind not in MODELS:
        raise UserError(f"there is no masked language model of the kind {kind!r}: choose {', '.join(MODELS)}")
    leaves = {k: 0.0 if "drop" in k and isinstance(v, (int, float)) else v for k, v in leaves.items()}
    leaves["vocab_size"] = max(int(leaves["vocab_size"]) + 1, size)
    library = _library()
    return library.AutoModelForMaskedLM.from_config(library.AutoConfig.for_model(kind, **leaves)).float()


@torch.no_grad()
def _initialise(model: nn.Module, generator: torch.Generator) -> None:
    for name, value in model.named_parameters():
        if value.ndim > 1:
            value.normal_(0, 0.02, generator=generator)
        else:
            value.fill_(float(name.endswith("weight")))  # of a norm; the others are biases


def most_tokens(config: Mapping[str, Any], begin: int | None, finish: int | None) -> int:
    """How long texts may be."""
    behind = int(config.get("pad_token_id") or 1) + 1 if config["model_type"] in OFFSET else 0
    return (
        int(config.get("max_position_embeddings", 512)) - behind - (begin is not None) - (finish is not None)
    )


def _library() -> Any:
    try:
        library: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise UserError(
            "a masked language model needs the package transformers, which is not installed: pip install "
            "'kuosan[transformers]'"
        ) from error
    library.utils.logging.disable_progress_bar()
    return library


def _replace_dropout(module: nn.Module, rate: float, made: list[Dropout]) -> None:
    """Put ours where the model has dropout, but for attention, which reads the rate of its own (0) from the layer."""
    for name, child in module.named_children():
        if isinstance(child, nn.Dropout) and "Attention" not in type(module).__name__:
            layer: nn.Module = Dropout(rate) if rate > 0 else nn.Identity()
            if isinstance(layer, Dropout):
                made.append(layer)
            setattr(module, name, layer)
        else:
            _replace_dropout(child, rate, made)


def _special(folder: Path, vocabulary: Mapping[str, int]) -> dict[str, int | None]:
    """The numbers of the folder's special tokens: those that it names, or that have names in use."""
    told: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        told |= _json(folder / name) if (folder / name).is_file() else {}

    def number(role: str) -> int | None:
        given = told.get(role)
        name = str(given.get("content") if isinstance(given, dict) else given)
        return next((vocabulary[n] for n in (name, *_NAMES[role]) if n in vocabulary), None)

    return {role: number(role) for role in _NAMES}


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): copy the model anew"
        ) from error
    return tree if isinstance(tree, dict) else {}


def _tied(model: nn.Module) -> dict[str, str]:
    """Names of one and the same parameter, and the name under which it is kept: safetensors holds each once."""
    first: dict[int, str] = {}
    again = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        if first.setdefault(id(value), name) != name:
            again[f"model.{name}"] = f"model.{first[id(value)]}"
    return again


def _leave_out(module: StockLM, state: dict[str, Tensor], prefix: str, meta: Any) -> None:
    for name in module.tied:
        state.pop(prefix + name, None)


def _put_back(module: StockLM, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, kept in module.tied.items():
        if prefix + kept in state:
            state.setdefault(prefix + name, state[prefix + kept])
