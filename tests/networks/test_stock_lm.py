"""Law: a masked language model of transformers gives the scores that it gives there, and needs its folder once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kuosan.errors import UserError
from kuosan.networks import build_network
from kuosan.networks.stock_lm import MODELS, is_masked_lm, most_tokens, read_masked_lm

SIZE, LENGTH = 59, 20
SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
SMALL: dict[str, Any] = {
    "vocab_size": SIZE - 1, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 40,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "bert": {}, "roberta": {"pad_token_id": 1}, "electra": {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64},
}  # fmt: skip
NUMBERS = torch.Generator().manual_seed(1)
X = torch.randint(5, SIZE - 1, (2, LENGTH), generator=NUMBERS)
HIDDEN = torch.rand(2, LENGTH, generator=NUMBERS) < 0.4
T = torch.tensor([0.3, 0.6])


def transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is an extra, and is not installed")


def saved(folder: Path, kind: str) -> Any:
    """A tiny model of that kind, as transformers makes and saves it."""
    library = transformers()
    with torch.random.fork_rng(devices=[]):
        config = library.AutoConfig.for_model(kind, **{**SMALL, **KINDS[kind]})
        model = library.AutoModelForMaskedLM.from_config(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_it_scores_as_in_transformers_and_is_rebuilt_from_its_recipe(tmp_path: Path, kind: str) -> None:
    model = saved(tmp_path, kind)
    found = read_masked_lm(tmp_path, SIZE, SPECIAL)
    spec = json.loads(json.dumps(found.spec)) | {"length": LENGTH}
    network = build_network(spec, torch.Generator().manual_seed(9)).eval()
    network.load_state_dict(found.weights)
    ids = torch.where(HIDDEN, SPECIAL["[MASK]"], X)
    framed = torch.cat([torch.full((2, 1), 2), ids, torch.full((2, 1), 3)], 1)
    with torch.no_grad():
        scores = network(torch.where(HIDDEN, SIZE, X), T)
        theirs = model(input_ids=framed).logits[:, 1:-1]
        some = network(torch.where(HIDDEN, SIZE, X), T, None, HIDDEN)
    assert scores.shape == (2, LENGTH, SIZE)
    assert torch.equal(scores[..., : SIZE - 1], theirs)
    torch.testing.assert_close(
        scores[..., SIZE - 1], theirs[..., SPECIAL["[SEP]"]]
    )  # END begins as what ends texts
    assert torch.equal(some, scores[HIDDEN])
    save_file(network.state_dict(), tmp_path / "again.safetensors")  # refuses weights that share memory
    network.load_state_dict(load_file(tmp_path / "again.safetensors"))


def test_dropout_is_a_function_of_the_batch_and_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    saved(tmp_path, "bert")
    before = torch.get_rng_state()
    found = read_masked_lm(tmp_path, SIZE, SPECIAL, dropout=0.3)
    network = build_network(found.spec | {"length": LENGTH}, torch.Generator().manual_seed(9)).train()
    one, again, other = (network(X, t) for t in (T, T, T + 0.1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_texts_fit_as_far_as_there_are_positions(tmp_path: Path) -> None:
    for kind in ("bert", "roberta"):  # the latter counts from behind its padding's
        saved(tmp_path / kind, kind)
        found = read_masked_lm(tmp_path / kind, SIZE, SPECIAL)
        network = build_network(found.spec | {"length": found.most}, torch.Generator().manual_seed(9)).eval()
        longest = torch.full((1, found.most), 7)
        assert network(longest, T[:1]).shape == (1, found.most, SIZE)
        with pytest.raises((IndexError, RuntimeError)):
            network(torch.full((1, found.most + 1), 7), T[:1])
        with pytest.raises(UserError, match="at most"):
            build_network(found.spec | {"length": found.most + 1}, torch.Generator().manual_seed(9))


def folder(path: Path, **config: Any) -> Path:
    path.mkdir()
    tree = {"model_type": "bert", "architectures": ["BertForMaskedLM"], **SMALL} | config
    (path / "config.json").write_text(json.dumps(tree))
    return path


@pytest.mark.parametrize(
    ("config", "vocabulary", "said"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, SPECIAL, "BertForSequenceClassification"),
        ({"model_type": "gpt2", "architectures": ["GPT2ForMaskedLM"]}, SPECIAL, "gpt2"),
        ({}, SPECIAL, "model.safetensors"),
    ],
)
def test_other_folders_are_refused(
    tmp_path: Path, config: dict[str, Any], vocabulary: dict[str, int], said: str
) -> None:
    path = folder(tmp_path / "lm", **config)
    (path / "pytorch_model.bin").write_bytes(b"not to be read")
    assert is_masked_lm(path)
    with pytest.raises(UserError, match=said):
        read_masked_lm(path, SIZE, vocabulary)


def test_a_tokeniser_without_a_mask_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "lm")
    (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="no mask token"):
        read_masked_lm(path, SIZE, {"a": 0})


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    path = folder(tmp_path / "lm")
    (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"kuosan\[transformers\]"):
        read_masked_lm(path, SIZE, SPECIAL)


def test_positions_are_known_for_every_kind() -> None:
    assert {k: most_tokens({"model_type": k, "max_position_embeddings": 512}, 0, 1) for k in MODELS} == {
        k: 508 if k in ("camembert", "mpnet", "roberta", "xlm-roberta") else 510 for k in MODELS
    }
