"""A predictor as a graph that needs none of this code: an ONNX file, or a program of torch.export."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch.export import Dim, ExportedProgram

from evaluation.metrics import SMALLEST
from models.exportable import INPUT, METADATA, OUTPUTS, Decision, ExportableModel, Part
from workflow.predictor import Predictor

# The lowest that torch's exporter writes by itself, and so what the most runtimes read; all operators needed are in it.
OPSET: Final = 18
# The threshold is one of the validation scores, and another runtime rounds that very score otherwise: logits of MobileNetV2
# were found up to 6e-5 apart. What is compared with is lower by this much in its logit, so that an image on the threshold is
# called positive there too, as it was when the threshold was locked.
LOGIT_GUARD: Final = 1e-4
_LOGGERS: Final = ("torch.onnx", "torch.export", "torch._dynamo", "torch.fx", "onnxscript", "onnx_ir", "onnx")


def guarded(threshold: float) -> float:
    """What a graph compares scores with: the threshold less :data:`LOGIT_GUARD` in its logit, in [0, threshold]."""
    return max(0.0, threshold - LOGIT_GUARD * threshold * (1.0 - threshold))


def exportable(predictor: Predictor) -> ExportableModel:
    """The module that does all of a predictor but the check of its input, on the CPU, in eval mode.

    Raises:
        ValueError: networks of an ensemble that encode their metadata in different ways.
    """
    _one_encoding(predictor)
    described = [part.description for part in predictor.networks]
    parts = [
        Part(
            copy.deepcopy(part.network).cpu(),
            described_as["network"]["mean"],
            described_as["network"]["std"],
            str(described_as.get("views", "none")),
            bool(described_as.get("metadata")),
        )
        for part, described_as in zip(predictor.networks, described, strict=True)
    ]
    calibrator = predictor.calibrator
    decision = Decision(
        positive=[number for number, name in enumerate(predictor.classes) if name in predictor.positive],
        threshold=guarded(predictor.point.threshold),
        slope=None if calibrator.method == "none" else calibrator.slope,
        intercept=calibrator.intercept,
        off_rim=SMALLEST,
    )
    decoding = predictor.decoding
    model = ExportableModel(parts, decision, decoding["image_size"], decoding["interpolation"])
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()


def metadata_names(predictor: Predictor) -> list[str]:
    """Name of every number of the second input, in order; empty for models that see the image alone."""
    found = next(
        (part.description["metadata"] for part in predictor.networks if part.description.get("metadata")), None
    )
    return [] if found is None else [str(name) for name in found["outputs"]]


def _one_encoding(predictor: Predictor) -> None:
    stored = [part.description["metadata"] for part in predictor.networks if part.description.get("metadata")]
    if any(other != stored[0] for other in stored[1:]):
        raise ValueError(
            "the networks of this ensemble encode their metadata differently, so one graph cannot take them. Export its runs one "
            "by one."
        )


def traced(predictor: Predictor) -> ExportedProgram:
    """The program of :func:`exportable`, for any number of images of any size (all of one size in a batch).

    Raises:
        ValueError: the network does something that torch.export cannot follow.
    """
    model, decoding = exportable(predictor), predictor.decoding
    size, names = decoding["image_size"], metadata_names(predictor)
    # Numbers that are equal to nothing else in the graph: torch.export may take an equal number for a fixed one.
    example = [torch.zeros((3, size + 5, size + 9, decoding["channels"]), dtype=torch.uint8)]
    if names:
        example.append(torch.zeros((3, len(names))))
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(model, tuple(example), dynamic_shapes=_shapes(bool(names)))
    except Exception as error:  # torch raises many kinds, with pages of text
        raise ValueError(_why(predictor, "torch.export", error)) from error


def _shapes(metadata: bool) -> dict[str, Any]:
    """The axes that are free."""
    count = Dim("n", min=1)
    images = {0: count, 1: Dim("height", min=1), 2: Dim("width", min=1)}
    return {INPUT: images, METADATA: {0: count}} if metadata else {INPUT: images}


def write_onnx(program: ExportedProgram, path: Path, predictor: Predictor, facts: dict[str, str]) -> None:
    """One ONNX file with all weights in it, checked by onnx.

    Args:
        program: of :func:`traced`. ``path``: of the file. ``facts``: its metadata.

    Raises:
        ValueError: an operator that ONNX has not.
    """
    import onnx

    names = [INPUT, METADATA] if metadata_names(predictor) else [INPUT]
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                input_names=names,
                output_names=list(OUTPUTS),
                dynamic_shapes=_shapes(len(names) > 1),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
        assert made is not None
        proto = made.model_proto
    except Exception as error:
        raise ValueError(_why(predictor, "torch.onnx.export", error)) from error
    del proto.metadata_props[:]
    for key, value in facts.items():
        proto.metadata_props.add(key=key, value=value)
    proto.doc_string = facts["notice"]
    _forget_places(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, path)


def _forget_places(proto: Any) -> None:
    """Remove where in which source file each operator came from: paths of this machine, and half of the graph's bytes."""

    def clean(graph: Any) -> None:
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
            for attribute in node.attribute:
                for inner in [attribute.g] if attribute.HasField("g") else []:
                    clean(inner)
        # Shapes in between are inferred by who needs them; stored ones stop ONNX Runtime's quantisation, which turns weights.
        del graph.value_info[:]
        for value in (*graph.input, *graph.output):
            del value.metadata_props[:]
        for tensor in graph.initializer:
            del tensor.metadata_props[:]
        del graph.metadata_props[:]

    clean(proto.graph)
    for function in proto.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]


def write_torch(program: ExportedProgram, path: Path, facts: dict[str, str]) -> None:
    """A .pt2 archive: graph and settings as JSON, weights as raw bytes, ``facts`` as the extra file ``firstread.json``."""
    # Example images would be stored by pickle; nobody needs them.
    program._example_inputs = None
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            # Where in which source file each operator came from: paths of this machine, and a third of the bytes.
            node.meta.pop("stack_trace", None)
    held = io.BytesIO()  # torch's own writer of files ends the process where the disk is full
    with quiet():
        torch.export.save(program, held, extra_files={"firstread.json": json.dumps(facts, indent=2)})
    path.write_bytes(held.getbuffer())


def _why(predictor: Predictor, what: str, error: Exception) -> str:
    words = " ".join(str(error).split())[:240]
    return (
        f"{predictor.about.model} cannot be exported: {what} does not follow it ({type(error).__name__}: {words}). "
        "format=safetensors hands the weights over without a graph."
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of torch's and onnx's remarks reaches the terminal; errors are raised as ever."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
