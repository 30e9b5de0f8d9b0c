"""The shapes of the answers, for the OpenAPI description. Answers are made by the code, these only describe them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from serving.uploads import FIELD


class FileAnswer(BaseModel):
    """What the model says of one file."""

    image_id: str = Field(description="name of the file as it was sent")
    path: str = Field(description="empty for an upload")
    group: str | None = Field(description="patient or lesion; null for an upload")
    probabilities: list[float] | None = Field(
        description="of each class, in the order of `classes`; null if unreadable"
    )
    score: float | None = Field(description="of the positive classes together, in [0, 1]; compared with the threshold")
    calibrated: float | None = Field(description="the recalibrated score")
    calibrated_probabilities: list[float] | None = Field(description="recalibrated, of each class")
    decision: str | None = Field(description="`positive_called`, `negative_called` or `abstain`; null if unreadable")
    most_probable: str | None = Field(description="class of the highest probability; it knows no threshold")
    borderline: bool = Field(description="called negative, but positive at a threshold for a stricter recall")
    p_value: float | None = Field(description="of the input check; small: unlike what the model knows")
    reasons: list[str] = Field(description="why it abstains; empty otherwise")
    error: str | None = Field(description="why the file could not be read; null if it could")
    width: int | None = Field(description="of the file in pixels, upright")
    height: int | None = Field(description="of the file in pixels, upright")
    preview: str | None = Field(description="data URI of a JPEG without any header of the file, if asked for")
    heat_map: str | None = Field(description="data URI of a PNG: the heat map alone, in colours, if asked for")
    heat_map_reason: str | None = Field(description="why there is no heat map")


class Answers(BaseModel):
    """The answers to one request."""

    notice: str
    title: str
    classes: list[str]
    positive_called: str
    negative_called: str
    threshold: float
    borderline_from: float | None
    results: list[FileAnswer] = Field(description="one a file, in the order of the form")


class ProblemDetail(BaseModel):
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="a sentence with the limit, the value and what to do")
    limit: int | None = None
    value: int | None = None


class Health(BaseModel):
    """Whether the server answers."""

    status: str
    version: str
    requests: int = Field(description="answered since the start")
    images: int
    waiting: int = Field(description="images that are being read, wait or are computed")


class Threshold(BaseModel):
    """The locked operating point."""

    value: float
    rule: str
    statement: str


class Model(BaseModel):
    """What the model is."""

    title: str
    notice: str
    phantom: bool = Field(description="trained on drawn images")
    version: str
    licence: str = Field(description="of the training data; empty if it is not known")
    task: str
    dataset: str
    model: str
    group_name: str
    subject: str = Field(description="xray, skin or any")
    positive_called: str
    negative_called: str
    networks: int
    classes: list[str]
    positive: list[str]
    threshold: Threshold
    borderline_from: float | None
    calibrated: bool
    input: dict[str, Any] = Field(description="image_size, channels and interpolation of the network's pixels")
    input_check: dict[str, Any] = Field(description="fitted, abstains, alpha")
    heat_maps: dict[str, Any] = Field(
        description="available, method, target (a class; null for the positive answer), reason"
    )
    limits: dict[str, int] = Field(description="max_bytes (of one request), max_files, max_pixels (of one image)")
    headline: list[dict[str, Any]] = Field(description="figures of the test with intervals; empty if not known")
    headline_about: str | None
    card: list[dict[str, Any]] = Field(description="the model card: headings with rows")


UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {
                            "type": "array",
                            "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                            "description": "image or DICOM files, one or many",
                        }
                    },
                }
            }
        },
    }
}
"""The body of an upload; it is taken apart by :mod:`serving.uploads`, so FastAPI does not know it by itself."""

_REFUSED = {
    400: "the body is no well-formed form",
    403: "a page of another site sent the request",
    408: "the upload came too slowly",
    413: "too many bytes or files",
    415: "the body is no form",
    421: "the request calls the server by a name that is not its own",
    422: "the form holds no file",
    503: "too busy, or shutting down; `Retry-After` says when to try again",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetail"}}},
    }
    for status, text in _REFUSED.items()
}
