"""The head: hidden layers, dropout before the output, and metadata beside the image."""

from __future__ import annotations

import pytest
import torch

from models.heads import METADATA_UNITS, Head


def test_without_hidden_layers_it_is_one_linear_layer() -> None:
    head = Head(10, 3)
    features = torch.randn(4, 10)
    assert torch.equal(head(features), head.output(features))
    assert sum(parameter.numel() for parameter in head.parameters()) == 10 * 3 + 3


def test_hidden_layers_follow_each_other() -> None:
    head = Head(10, 1, hidden=[8, 6])
    assert head(torch.randn(4, 10)).shape == (4, 1)
    assert head.output.in_features == 6
    assert sum(parameter.numel() for parameter in head.parameters()) == (10 * 8 + 8) + (8 * 6 + 6) + (6 + 1)


def test_dropout_stands_before_the_output_and_in_training_only() -> None:
    torch.manual_seed(0)
    head = Head(1000, 1, dropout=0.9)
    torch.nn.init.ones_(head.output.weight)
    torch.nn.init.zeros_(head.output.bias)
    features = torch.ones(1, 1000)
    assert head.eval()(features).item() == pytest.approx(1000)
    kept = head.train()(features).item() / 10  # what is kept counts ten times
    assert kept == pytest.approx(100, abs=40)
    assert kept == pytest.approx(round(kept), abs=1e-3)


def test_metadata_join_the_last_hidden_layer() -> None:
    head = Head(10, 2, hidden=[8], metadata_width=3).eval()
    assert head.output.in_features == 8 + METADATA_UNITS
    features, metadata = torch.randn(5, 10), torch.randn(5, 3, requires_grad=True)
    head(features, metadata).sum().backward()
    assert metadata.grad is not None
    assert metadata.grad.abs().sum() > 0
    torch.nn.init.zeros_(head.output.weight[:, 8:])
    assert torch.equal(head(features, metadata), head(features, torch.zeros(5, 3)))


@pytest.mark.parametrize(("width", "given"), [(3, None), (3, 2), (0, 2)])
def test_metadata_of_another_width_are_refused(width: int, given: int | None) -> None:
    head = Head(10, 2, metadata_width=width)
    with pytest.raises(ValueError, match=rf"takes {width} metadata columns, got {given or 0}.*model\.metadata"):
        head(torch.randn(5, 10), None if given is None else torch.randn(5, given))


@pytest.mark.parametrize("hidden", [(), (8,)])
def test_the_embedding_comes_with_the_logits_and_is_what_the_dense_layers_make(hidden: tuple[int, ...]) -> None:
    head = Head(10, 2, hidden=hidden, metadata_width=3).eval()
    features, metadata = torch.randn(5, 10), torch.randn(5, 3)
    logits, embedding = head.with_embedding(features, metadata)
    assert torch.equal(logits, head(features, metadata))
    assert torch.equal(embedding, head.hidden(features))
