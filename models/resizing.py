"""Resizing inside an exported graph: the same grey levels as OpenCV and Pillow give, by matrices made from the image's shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

INTERPOLATIONS = ("area", "bilinear", "bicubic")
_CUBIC = -0.5  # the parameter of Pillow's bicubic kernel; Keys 1981
_PILLOW_BITS = 22  # Pillow rounds its weights to 2 ** -22
_LINEAR_UNIT = 2048.0  # OpenCV rounds the weights of 8-bit images to 1 / 2048
_SLIVER = 1e-3  # OpenCV drops what covers less of a pixel than this


class Resize(nn.Module):
    """Pixels of any height and width to a square, as :func:`datamodules.images.read_image` resizes them; no aspect ratio is kept.

    Everything is computed in float64, in which sums of products of 8-bit pixels and fixed-point weights are exact, so that the
    result is Pillow's to the bit. Of OpenCV's area averaging, which adds in float32, a grey level can differ by 1 where the
    mean falls half-way between two.

    Args:
        size: height and width of the result in pixels.
        interpolation: ``area`` (where a side is enlarged: OpenCV's bilinear, without antialiasing), or Pillow's ``bilinear`` or
            ``bicubic`` with antialiasing.

    Raises:
        ValueError: there is no such interpolation.
    """

    def __init__(self, size: int, interpolation: str) -> None:
        super().__init__()
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"model.interpolation={interpolation}: must be one of {', '.join(INTERPOLATIONS)}.")
        self.size, self.interpolation = size, interpolation

    def forward(self, images: Tensor) -> Tensor:
        """Resized images; those of the right size are not touched.

        Args:
            images: uint8, shape ``(n, height, width, channels)``.

        Returns:
            float32, whole numbers 0 to 255, shape ``(n, channels, size, size)``.
        """
        height, width = images.shape[1], images.shape[2]
        sides = torch.stack([_number(height), _number(width)])
        resized = self._opencv if self.interpolation == "area" else self._pillow
        flat = _either((sides == self.size).all().reshape(1), self._cut, resized, images)
        return flat.reshape(-1, images.shape[3], self.size, self.size)

    def _opencv(self, images: Tensor) -> Tensor:
        shrinks = (_number(images.shape[1]) >= self.size) & (_number(images.shape[2]) >= self.size)
        return _either(shrinks.reshape(1), self._area, self._linear, images)

    def _cut(self, images: Tensor) -> Tensor:
        # Chosen where nothing is cut off; written so that the result has this size whatever the shape says.
        places = torch.arange(self.size)
        square = images.index_select(1, places.clamp(max=images.shape[1] - 1))
        return _flat(square.index_select(2, places.clamp(max=images.shape[2] - 1)).permute(0, 3, 1, 2))

    def _pillow(self, images: Tensor) -> Tensor:
        height, width = _number(images.shape[1]), _number(images.shape[2])
        # Pillow, from version 13 on, begins with the height where that is reduced much more; before, always with the width.
        upright = (height > self.size) & (height - self.size > 2 * (width - self.size))
        return _either(upright.reshape(1), self._rows_first, self._columns_first, images)

    def _columns_first(self, images: Tensor) -> Tensor:
        across = _fixed_point(torch.matmul(_planes(images), self._weights(images, 2).T))
        return _flat(_fixed_point(torch.matmul(self._weights(images, 1), across)))

    def _rows_first(self, images: Tensor) -> Tensor:
        down = _fixed_point(torch.matmul(self._weights(images, 1), _planes(images)))
        return _flat(_fixed_point(torch.matmul(down, self._weights(images, 2).T)))

    def _weights(self, images: Tensor, axis: int) -> Tensor:
        support, kernel = (1.0, _triangle) if self.interpolation == "bilinear" else (2.0, _cubic)
        return _pillow_weights(images.shape[axis], self.size, support, kernel)

    def _area(self, images: Tensor) -> Tensor:
        height, width = _number(images.shape[1]), _number(images.shape[2])
        rows, columns = (_area_weights(images.shape[axis], self.size) for axis in (1, 2))
        mean = torch.matmul(rows, torch.matmul(_planes(images), columns.T))
        # Blocks of whole pixels: OpenCV divides their sum in float32; of 2 x 2 pixels it rounds half up.
        whole = (height % self.size == 0) & (width % self.size == 0)
        halved = (height == 2 * self.size) & (width == 2 * self.size)
        share = (self.size / height.to(torch.float64)) * (self.size / width.to(torch.float64))
        divided = (torch.round(mean / share).to(torch.float32) * share.to(torch.float32)).to(torch.float64)
        rounded = torch.round(torch.where(whole, divided, mean))
        return _flat(torch.where(halved, torch.floor(mean + 0.5), rounded).clamp(0.0, 255.0))

    def _linear(self, images: Tensor) -> Tensor:
        pixels = _planes(images)
        left, right, first, second = _linear_places(images.shape[2], self.size, twice_at_rim=False)
        across = pixels.index_select(3, left) * first + pixels.index_select(3, right) * second
        upper, lower, first, second = _linear_places(images.shape[1], self.size, twice_at_rim=True)
        across = torch.floor(across / 16.0)
        # The two products are cut to 16 bits one by one, as in OpenCV's vector code.
        above = torch.floor(across.index_select(2, upper) * first[:, None] / 65536.0)
        below = torch.floor(across.index_select(2, lower) * second[:, None] / 65536.0)
        return _flat(torch.floor((above + below + 2.0) / 4.0).clamp(0.0, 255.0))


def _either(
    condition: Tensor, yes: Callable[[Tensor], Tensor], no: Callable[[Tensor], Tensor], images: Tensor
) -> Tensor:
    """A branch of the exported graph; outside of it a plain ``if``."""
    if torch.compiler.is_exporting():
        found: Tensor = torch.cond(condition, yes, no, (images,))
        return found
    return yes(images) if bool(condition) else no(images)


def _planes(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).to(torch.float64)


def _flat(images: Tensor) -> Tensor:
    # Branches must agree in the layout of their results, which one row an image makes sure of.
    return images.to(torch.float32).flatten(1)


def _fixed_point(sums: Tensor) -> Tensor:
    """Sums in units of 2 ** -22 as grey levels."""
    return torch.floor(sums * 2.0**-_PILLOW_BITS + 0.5).clamp(0.0, 255.0)


def _number(side: int) -> Tensor:
    """A number of the shape as a tensor, so that an exported graph takes it anew at every call."""
    return torch.ones((), dtype=torch.int64) * side


def _scale(count: int, size: int) -> Tensor:
    """Source pixels to a pixel of the result."""
    return _number(count).to(torch.float64) / size


def _centres(count: int, size: int) -> Tensor:
    """Centres of the result's pixels in the source, whose first pixel reaches from 0 to 1; shape ``(size,)``."""
    return (torch.arange(size, dtype=torch.float64) + 0.5) * _scale(count, size)


def _triangle(distance: Tensor) -> Tensor:
    return (1.0 - distance.abs()).clamp(min=0.0)


def _cubic(distance: Tensor) -> Tensor:
    x = distance.abs()
    near = ((_CUBIC + 2.0) * x - (_CUBIC + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * _CUBIC
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, torch.zeros_like(x)))


def _pillow_weights(count: int, size: int, support: float, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Weights of Pillow's resampling in units of 2 ** -22, shape ``(size, count)``; ``precompute_coeffs`` of its Resample.c."""
    stretched, centre = _scale(count, size).clamp(min=1.0), _centres(count, size)[:, None]
    reach = support * stretched
    place = torch.arange(count, dtype=torch.float64)[None]
    inside = (place >= torch.floor(centre - reach + 0.5)) & (place < torch.floor(centre + reach + 0.5))
    weights = torch.where(inside, kernel((place - centre + 0.5) * (1.0 / stretched)), 0.0)
    scaled = weights / weights.sum(dim=1, keepdim=True) * 2.0**_PILLOW_BITS
    return torch.where(scaled < 0.0, torch.ceil(scaled - 0.5), torch.floor(scaled + 0.5))


def _area_weights(count: int, size: int) -> Tensor:
    """How much of each source pixel a result's pixel covers, rows summing to 1, shape ``(size, count)``."""
    scale = _scale(count, size)
    start = (torch.arange(size, dtype=torch.float64) * scale)[:, None]
    place = torch.arange(count, dtype=torch.float64)[None]
    covered = (torch.minimum(place + 1.0, start + scale) - torch.maximum(place, start)).clamp(0.0, 1.0)
    shares = torch.where(covered > _SLIVER, covered, 0.0) / torch.minimum(scale, count - start)
    return shares.to(torch.float32).to(torch.float64)  # OpenCV holds them in float32


def _linear_places(count: int, size: int, *, twice_at_rim: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each of ``size`` places the two source pixels, and their weights in units of 1 / 2048.

    Args:
        twice_at_rim: beyond the rim the last pixel counts with both weights; else once, with all of it. Rounding differs.
    """
    exact = (_centres(count, size) - 0.5).to(torch.float32)
    first = torch.floor(exact)
    share = (exact - first).to(torch.float64)
    if not twice_at_rim:
        share = torch.where((first < 0) | (first >= count - 1), 0.0, share)
    place, weight = first.to(torch.int64), torch.round(share * _LINEAR_UNIT)
    last = count - 1
    return place.clamp(min=0).clamp(max=last), (place + 1).clamp(min=0).clamp(max=last), _LINEAR_UNIT - weight, weight
