"""What is compared on what: the cases, the contenders, and the configuration of each for train.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

XRAY = {"rotate": 8.0, "translate": 0.04, "scale": 0.08, "brightness": 0.15, "contrast": 0.15}
"""The augmentation of every contender, as in conf/augmentation/xray.yaml: degrees, and shares of 1."""

FILES = {
    "xray224": "chest films, 224 px JPEG",
    "original": "chest films, original size",
    "ham10000": "HAM10000, colour JPEG",
}
NETWORKS = {
    "simple_cnn": "simple_cnn",
    "mobilenet_frozen": "MobileNetV2, frozen",
    "mobilenet": "MobileNetV2",
    "resnet50": "ResNet50",
}
_ARCHITECTURES = {"mobilenet_frozen": "mobilenetv2_100", "mobilenet": "mobilenetv2_100"}
_MODELS = {"mobilenet_frozen": "mobilenetv2", "mobilenet": "mobilenetv2"}  # groups of conf/model
# Images of one epoch: enough for some seconds of training on two cores, where a step is what takes the time.
_IMAGES = {"simple_cnn": 512, "mobilenet_frozen": 384, "mobilenet": 160, "resnet50": 96}
_GPU_IMAGES = 4096

OURS = "firstread"
CEILING = "ceiling"
CONTENDERS = {
    CEILING: "network alone, batch in memory",
    OURS: "firstread train.py",
    "firstread_features": "firstread, features kept",
    "lightning": "Lightning + ImageFolder",
    "timm": "timm loader and loop",
    "keras": "Keras",
    "ceiling_compiled": "network alone, compiled",
    "firstread_compiled": "firstread, compiled",
}
_CPU = (CEILING, OURS, "firstread_features", "lightning", "timm", "keras")
_GPU = (CEILING, "ceiling_compiled", OURS, "firstread_compiled", "lightning", "timm", "keras")
DEFAULT_CASES = (
    "xray224/simple_cnn",
    "original/simple_cnn",
    "ham10000/simple_cnn",
    "xray224/mobilenet_frozen",
    "xray224/mobilenet",
    "xray224/resnet50",
)
GPU_CASES = ("xray224/resnet50", "ham10000/resnet50")


@dataclass(frozen=True)
class Case:
    """Some files and a network.

    Attributes:
        files: a key of :data:`FILES`. ``network``: a key of :data:`NETWORKS`.
        size: height and width of the network's input in pixels.
        images: training images of an epoch; fewer where there are fewer.
    """

    files: str
    network: str
    size: int
    images: int

    @property
    def name(self) -> str:
        """Such as ``xray224/simple_cnn``."""
        return f"{self.files}/{self.network}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{NETWORKS[self.network]}, {self.size} px; {FILES[self.files]}"

    @property
    def frozen(self) -> bool:
        """Whether only the head trains."""
        return self.network == "mobilenet_frozen"

    @property
    def architecture(self) -> str:
        """Its name in timm, or ``simple_cnn``."""
        return _ARCHITECTURES.get(self.network, self.network)

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return 3 if self.files == "ham10000" else 1


def choose_cases(patterns: Sequence[str], *, gpu: bool, size: int | None, images: int | None) -> list[Case]:
    """The cases that these names or patterns (``original/*``) mean; none: the default ones.

    Args:
        gpu: measured on a GPU: 224 px and more images.
        size, images: in place of the case's own.

    Raises:
        ValueError: if a pattern fits nothing.
    """
    known = [f"{files}/{network}" for files in FILES for network in NETWORKS]
    wanted: list[str] = []
    for pattern in patterns or (GPU_CASES if gpu else DEFAULT_CASES):
        found = [name for name in known if fnmatch(name, pattern)]
        if not found:
            raise ValueError(f"--cases {pattern}: fits none of {', '.join(known)}.")
        wanted += [name for name in found if name not in wanted]
    cases = []
    for name in wanted:
        files, network = name.split("/")
        count = images or (_GPU_IMAGES if gpu else _IMAGES[network])
        cases.append(Case(files, network, size or (224 if gpu else 128), count))
    return cases


def choose_contenders(names: Sequence[str], *, gpu: bool) -> list[str]:
    """The contenders of that name; none: all that make sense on this device.

    Raises:
        ValueError: if there is no such contender.
    """
    strange = [name for name in names if name not in CONTENDERS]
    if strange:
        raise ValueError(f"--contenders {strange[0]}: there are {', '.join(CONTENDERS)}.")
    return list(names) or list(_GPU if gpu else _CPU)


def takes_part(contender: str, case: Case) -> bool:
    """Kept features need a frozen network."""
    return contender != "firstread_features" or case.frozen


def overrides_of(case: Case, settings: dict[str, Any]) -> list[str]:
    """What train.py is given for a case, without its run folder; what comes after training is kept short.

    Args:
        settings: ``root`` and ``prepared`` (folders), ``split`` (file or None), ``weights``, ``epochs``, ``batch``,
            ``accelerator``, and whether the run is ``auroc`` (judged in full).
    """
    found = [
        f"task={'ham10000_binary' if case.files == 'ham10000' else 'pneumonia'}",
        f"model={_MODELS.get(case.network, case.network)}",
        "augmentation=xray",
        f"finetune={'frozen' if case.frozen else 'none'}",
        f"model.image_size={case.size}",
        f"data.root={settings['root']}",
        f"data.prepared={settings['prepared']}",
        f"data.batch_size={settings['batch']}",
        "data.near_duplicates=false",
        f"trainer.max_epochs={settings['epochs']}",
        f"trainer.accelerator={settings['accelerator']}",
        "trainer.progress_bar=false",
        *("evaluation.bootstrap=100", "evaluation.mistakes=0", "evaluation.heat_maps=false"),
        *("evaluation.abstain=null", "evaluation.baselines=[]", "threshold.rule=empirical"),
    ]
    if case.architecture != "simple_cnn":
        weights = settings["weights"] if case.architecture == "mobilenetv2_100" else None
        found.append(f"model.weights={weights or 'none'}")
    if case.frozen:
        found.append("finetune.views=0")
    if settings.get("split"):
        found.append(f"split.file={settings['split']}")
    return found
