"""Runs that start from a masked language model's folder."""

from __future__ import annotations

import shutil
import string
from pathlib import Path
from typing import Any

import pytest
import torch

import kuosan
from kuosan.errors import UserError
from kuosan.recipes.opening import prepare, reopen
from kuosan.recipes.schema import Recipe
from kuosan.training import checkpoint
from tests.recipes.texts import corpus

LEAVES: dict[str, Any] = {"training__batch": 8, "training__validations": 2}


def language_model(folder: Path) -> Path:
    """A tiny BERT of letters with its tokeniser, as transformers and tokenizers save them."""
    library = pytest.importorskip("transformers", reason="transformers is an extra, and is not installed")
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    letters = [*string.ascii_lowercase, *string.digits, "."]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    words = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece()
    words.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    with torch.random.fork_rng(devices=[]):
        config = library.BertConfig(
            vocab_size=words.get_vocab_size(), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=50,
        )  # fmt: skip
        library.BertForMaskedLM(config).save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    return folder


def test_a_run_starts_from_it_learns_and_outlives_its_folder(tmp_path: Path) -> None:
    data, start = corpus(tmp_path / "sentences", 80), language_model(tmp_path / "bert")
    run = kuosan.train(data, out=tmp_path / "run", budget="20steps", init=str(start), **LEAVES)
    facts = run.facts
    assert facts.recipe.network.kind == "stock-lm" and facts.recipe.process.kind == "masked"
    assert facts.network["length"] == run.modality.length == 48  # what 50 positions leave  # type: ignore[attr-defined]
    shutil.rmtree(start)
    again = kuosan.load(run.path)
    x = again.sample(3, steps=6, seed=2).x
    assert torch.equal(x, run.sample(3, steps=6, seed=2).x) and int(x.max()) < facts.network["size"]
    assert (run.path / "grids/unmasking.json").is_file()
    before = again.model.state_dict()
    assert set(before) == set(checkpoint.load_weights(run.path / "model.safetensors"))


def test_killed_and_resumed_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    data, start = corpus(tmp_path / "sentences", 60), language_model(tmp_path / "bert")
    asked = {
        "budget": "6steps",
        "seed": 0,
        "init": str(start),
        "training.batch": 8,
        "training.save_seconds": 0.0,
    }

    def state(out: Path) -> dict[str, bytes]:
        return {k: v.numpy().tobytes() for k, v in checkpoint.load(out / "checkpoints/last")[0].items()}

    for _ in prepare(data, out=tmp_path / "whole", recipe=Recipe().updated(asked), asked=asked).steps():
        pass
    for event in prepare(data, out=tmp_path / "cut", recipe=Recipe().updated(asked), asked=asked).steps():
        if event.step == 3:
            break
    for _ in reopen(tmp_path / "cut").steps():
        pass
    assert state(tmp_path / "whole") == state(tmp_path / "cut")


@pytest.mark.parametrize(
    ("leaves", "said"),
    [
        ({"data__length": 64}, "at most"),
        ({"data__tokeniser": "characters"}, "tokeniser"),
        ({"network__dim": 64}, "dim"),
    ],
)
def test_what_does_not_fit_it_is_said(tmp_path: Path, leaves: dict[str, Any], said: str) -> None:
    data, start = corpus(tmp_path / "sentences", 20), language_model(tmp_path / "bert")
    with pytest.raises(UserError, match=said):
        kuosan.train(data, out=tmp_path / "run", budget="2steps", init=str(start), **leaves)
    assert not (tmp_path / "run").exists()
