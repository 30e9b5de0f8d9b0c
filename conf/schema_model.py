"""The keys of the network, of what is done to its training images, and of its training."""

from __future__ import annotations

from dataclasses import dataclass

from conf.options import option

POOLINGS = ("auto", "avg", "max", "concat")
GREY_INPUTS = ("stem", "repeat")
INTERPOLATIONS = ("auto", "area", "bilinear", "bicubic")
MONITORS = ("val/auroc", "val/balanced_accuracy", "val/loss")


@dataclass
class ModelConfig:
    """The network, or a baseline in its place."""

    name: str = option("simple_cnn", "simple_cnn, any architecture of timm, or baseline_...")
    weights: str = option(
        "none", "start from: none, imagenet (timm's hub), a .safetensors or .pth file, or a run's folder"
    )
    image_size: int | None = option(
        None, "height and width in pixels; null: as the weights were trained", low=16, high=1024
    )
    channels: int = option(1, "of the images: 1 = grey, 3 = colour", low=1, high=3)
    grey_input: str = option(
        "stem",
        "grey images into colour weights: sum the first layer's weights, or repeat the image",
        choices=GREY_INPUTS,
    )
    filters: list[int] = option([32, 64], "simple_cnn: filters of the convolution layers")
    pooling: str = option(
        "auto", "over the feature maps; auto: the architecture's own; not for simple_cnn", choices=POOLINGS
    )
    hidden: list[int] = option([], "units of the hidden layers of the head, each with ReLU; [] is none")
    dropout: float = option(0.0, "share of units dropped before the output in training", low=0.0, below=1.0)
    metadata: list[str] = option([], "columns that the head sees beside the image, for example [age,sex,localization]")
    mean: list[float] | None = option(
        None, "subtracted from the pixels in [0, 1], one a channel or one for all; null: of the weights"
    )
    std: list[float] | None = option(None, "the pixels are then divided by this; null: of the weights")
    interpolation: str = option(
        "auto", "how images are resized; auto: as the weights were trained", choices=INTERPOLATIONS
    )
    backbone: str = option("", "baseline_features: architecture of the frozen network")


@dataclass
class AugmentationConfig:
    """Random changes of the training images; validation and test images are never changed."""

    name: str = option("none", "name of the preset")
    crop: float = option(1.0, "smallest share of the area that a random crop keeps; 1 is no crop", above=0.0, high=1.0)
    rotate: float = option(0.0, "largest rotation in degrees", low=0.0, high=180.0)
    quarter_turns: bool = option(False, "turn by 0, 90, 180 or 270 degrees")
    translate: float = option(0.0, "largest shift as a share of the image", low=0.0, high=0.5)
    scale: float = option(0.0, "largest zoom in or out as a share", low=0.0, below=1.0)
    shear: float = option(0.0, "largest shear in degrees", low=0.0, high=45.0)
    border: str = option("black", "what fills the border that a turn leaves", choices=("black", "nearest", "reflect"))
    horizontal_flip: float = option(0.0, "probability of a left-right flip", low=0.0, high=1.0)
    vertical_flip: float = option(0.0, "probability of a top-bottom flip", low=0.0, high=1.0)
    brightness: float = option(0.0, "largest change of brightness as a share of the range", low=0.0, high=1.0)
    contrast: float = option(0.0, "largest change of contrast", low=0.0, high=1.0)
    gamma: float = option(0.0, "largest change of exposure: gamma between 1 / (1 + g) and 1 + g", low=0.0, high=1.0)
    saturation: float = option(0.0, "largest change of saturation; colour only", low=0.0, high=1.0)
    hue: float = option(0.0, "largest turn of the hue circle, as a share; colour only", low=0.0, high=0.5)
    blur: float = option(0.0, "probability of a slight blur", low=0.0, high=1.0)
    noise: float = option(0.0, "largest standard deviation of pixel noise, as a share of the range", low=0.0, high=0.5)
    erase: float = option(0.0, "probability that a rectangle is erased", low=0.0, high=1.0)
    mixup: float = option(0.0, "alpha of mixup (Zhang 2018): pairs of images are blended; 0 is off", low=0.0, high=10.0)
    cutmix: float = option(
        0.0, "alpha of cutmix (Yun 2019): a patch of another image is put in; 0 is off", low=0.0, high=10.0
    )


@dataclass
class LossConfig:
    """What training makes small; validation and test always report plain cross-entropy."""

    name: str = option("cross_entropy", "training loss", choices=("cross_entropy", "focal"))
    label_smoothing: float = option(0.0, "share of the target spread over all classes", low=0.0, below=1.0)
    focal_gamma: float = option(2.0, "focal: how much easy images lose weight (Lin 2017)", low=0.0, high=10.0)


@dataclass
class FinetuneConfig:
    """Which part of the network trains when. A network is a row of blocks from the stem to the head."""

    name: str = option(
        "none",
        "none: all; frozen: the head; two_stage: the head, then the last blocks; gradual: block by block; "
        "lp_ft: the head, then all (linear probing, then fine-tuning)",
        choices=("none", "frozen", "two_stage", "gradual", "lp_ft"),
    )
    head_epochs: int = option(
        0, "epochs in which the head trains alone, before the rest; part of trainer.max_epochs", low=0
    )
    blocks: int | None = option(None, "two_stage and gradual: how many of the last blocks join; null: all", low=1)
    block_epochs: int = option(1, "gradual: epochs between two blocks", low=1)
    frozen_blocks: int = option(0, "how many of the first blocks never train", low=0)
    head_learning_rate: float | None = option(
        None, "peak step size while the head trains alone; null: trainer.learning_rate", above=0.0, high=10.0
    )
    layer_decay: float = option(
        1.0, "each block before the head trains at this times the rate of the next", above=0.0, high=1.0
    )
    views: int | None = option(
        None,
        "frozen epochs reuse the trunk's features of this many augmented views of each image; 0: never; "
        "null: one plain view where augmentation is off, else never",
        low=0,
        high=100,
    )


@dataclass
class TrainerConfig:
    """How long and on what the network trains."""

    max_epochs: int = option(10, "passes over the training images", low=1)
    optimizer: str = option("adam", "update rule", choices=("adam", "adamw", "sgd"))
    learning_rate: float = option(1e-3, "peak step size", above=0.0, high=10.0)
    weight_decay: float = option(0.0, "pull of the weights towards 0; none on biases and normalisation layers", low=0.0)
    momentum: float = option(0.9, "of sgd (Nesterov)", low=0.0, below=1.0)
    schedule: str = option(
        "constant", "course of the step size", choices=("constant", "cosine", "one_cycle", "plateau")
    )
    warmup: float = option(
        0.0,
        "share of a stage's steps in which the step size rises from 0; one_cycle: from 1/25, and 0 means 0.3",
        low=0.0,
        below=1.0,
    )
    final_rate: float = option(
        0.01, "cosine and one_cycle end at this share of the peak; plateau stops there", low=0.0, high=1.0
    )
    plateau_patience: int = option(
        2, "plateau: epochs without a better monitored value before the rate falls to a third", low=0
    )
    gradient_clip: float | None = option(None, "largest norm of the gradient; null: any", above=0.0)
    accumulate: int = option(1, "batches whose gradients are added up before a step", low=1)
    ema: float | None = option(
        None,
        "decay of an average of the weights, which is then validated, kept and tested; null: none",
        above=0.0,
        below=1.0,
    )
    monitor: str = option("val/auroc", "decides which epoch is best, and early stopping", choices=MONITORS)
    patience: int | None = option(
        None, "stop after this many epochs without a better monitored value; null never stops", low=1
    )
    accelerator: str = option("auto", "where to compute", choices=("auto", "cpu", "gpu"))
    precision: str = option("auto", "number format of training", choices=("auto", "32", "bf16", "fp16"))
    channels_last: bool = option(True, "keep the channels of a pixel together in memory; faster, same results")
    compile: bool = option(False, "compile the network (CUDA); slower on a CPU")
    deterministic: bool = option(True, "same seed, same machine, same predictions; to the bit on a CPU")
    progress_bar: bool = option(True, "show a progress bar when the terminal can")
    limit_train_batches: int | None = option(None, "use only this many batches an epoch (for a quick try)", low=1)
