"""A trained model as one module: decoded images in, probabilities and the decision at the locked threshold out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.blocks import BlockNetwork
from models.bundle import Normalise
from models.resizing import Resize
from models.views import views

INPUT, METADATA = "images", "metadata"
OUTPUTS = ("probabilities", "score", "calibrated", "decision")


@dataclass(frozen=True)
class Part:
    """One network of the model.

    Attributes:
        network: gives one logit, of the positive class of two, or one for each class.
        mean, std: of its normalisation, of pixels in [0, 1].
        views: kind of test-time views, see :func:`models.views.views`.
        metadata: whether it takes metadata beside the image.
    """

    network: BlockNetwork
    mean: Sequence[float]
    std: Sequence[float]
    views: str = "none"
    metadata: bool = False


@dataclass(frozen=True)
class Decision:
    """What is made of the probabilities.

    Attributes:
        positive: numbers of the positive classes.
        threshold: positive if and only if the score, in float64, is at least this.
        slope, intercept: of the recalibration ``sigmoid(slope * logit(score) + intercept)``; None: the score is left as it is.
        off_rim: the recalibration keeps scores this far from 0 and 1.
    """

    positive: Sequence[int]
    threshold: float
    slope: float | None
    intercept: float
    off_rim: float


class ExportableModel(nn.Module):
    """Resizing, normalisation, networks with their views, mean, recalibration and threshold; nothing else is needed.

    Between the networks and the decision everything is float64, as in the run, so that rounding decides nothing that it did not
    decide there.

    Args:
        parts: the networks; their probabilities are averaged.
        decision: what follows.
        size: height and width that the networks take, in pixels.
        interpolation: of the resizing, see :class:`models.resizing.Resize`.
    """

    def __init__(self, parts: Sequence[Part], decision: Decision, size: int, interpolation: str) -> None:
        super().__init__()
        self.resize = Resize(size, interpolation)
        self.networks = nn.ModuleList(part.network for part in parts)
        self.normalise = nn.ModuleList(Normalise(part.mean, part.std) for part in parts)
        self.kinds = [part.views for part in parts]
        self.with_metadata = [part.metadata for part in parts]
        self.decision = decision

    def forward(self, images: Tensor, metadata: Tensor | None = None) -> dict[str, Tensor]:
        """Probabilities and decisions.

        Args:
            images: uint8, shape ``(n, height, width, channels)``.
            metadata: encoded, float32, shape ``(n, m)``, for networks that take them.

        Returns:
            ``probabilities``, float32, shape (n, classes). ``score``, float32, shape (n,), of the positive classes together.
            ``calibrated``, float32, shape (n,), the recalibrated score; the score itself where nothing was fitted.
            ``decision``, int64, shape (n,), 1 = positive.
        """
        square = self.resize(images)
        found = [self._probabilities(number, square, metadata) for number in range(len(self.networks))]
        probabilities = found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)
        columns = [probabilities[:, number] for number in self.decision.positive]
        score = columns[0]
        for column in columns[1:]:
            score = score + column
        score = score.clamp(0.0, 1.0)
        called = (score >= self.decision.threshold).to(torch.int64)
        values = (probabilities.float(), score.float(), self._calibrated(score).float(), called)
        return dict(zip(OUTPUTS, values, strict=True))

    def _probabilities(self, number: int, images: Tensor, metadata: Tensor | None) -> Tensor:
        """Of one network, float64, shape (n, classes)."""
        network, normalise = self.networks[number], self.normalise[number]
        beside = metadata if self.with_metadata[number] else None
        found = []
        for view in views(images, self.kinds[number]):
            logits = network(normalise(view), beside)
            found.append(logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1))
        scores = found[0] if len(found) == 1 else mean_over_views(torch.stack(found))
        values = scores.to(torch.float64)
        if values.shape[1] > 1:
            return values
        pair = [1.0 - values, values]
        return torch.cat(pair if self.decision.positive[0] == 1 else pair[::-1], dim=1)

    def _calibrated(self, score: Tensor) -> Tensor:
        """As :meth:`evaluation.recalibration.Calibrator.scores`, save that neighbours in the last bit are left as they fall."""
        settings = self.decision
        if settings.slope is None:
            return score
        held = score.clamp(settings.off_rim, 1.0 - settings.off_rim)
        logit = torch.log(held) - torch.log(1.0 - held)
        return torch.sigmoid(settings.slope * logit + settings.intercept)


def mean_over_views(probabilities: Tensor) -> Tensor:
    """Mean over the first axis by the same way through logits as in the test of a run, so that the rounding is the same too.

    Args:
        probabilities: shape (views, n, 1) of one logit, else (views, n, classes).
    """
    mean = probabilities.mean(dim=0)
    if mean.shape[1] == 1:
        return mean.logit(eps=1e-7).sigmoid()
    return mean.clamp_min(1e-12).log().softmax(dim=1)
