"""The Keras script of the source documents in today's Keras; needs TensorFlow only, and nothing of this repository.

python keras_script.py TASK.json RESULT.json

Two ways to read images: ``dataset`` (image_dataset_from_directory, prefetched, augmentation as layers) and ``generator``
(ImageDataGenerator, which the source documents used).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # type: ignore[import-not-found]
import tensorflow as tf  # type: ignore[import-untyped]


def network_of(asked: dict[str, Any], changes: list[Any]) -> Any:
    """The same layers as the others have: simple_cnn, or a trunk of keras.applications with one dense layer."""
    layers = keras.layers
    inputs = keras.Input((asked["size"], asked["size"], asked["channels"]))
    found = inputs
    for layer in changes:
        found = layer(found)
    if asked["network"] == "simple_cnn":
        found = layers.Rescaling(1 / 255)(found)
        for filters in (32, 64):
            found = layers.MaxPooling2D()(layers.Conv2D(filters, 3, activation="relu")(found))
        found = layers.Dense(64, activation="relu")(layers.Flatten()(found))
        return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Dropout(0.5)(found)))
    builders = {"mobilenetv2_100": keras.applications.MobileNetV2, "resnet50": keras.applications.ResNet50}
    found = layers.Rescaling(1 / 127.5, offset=-1)(found)
    shape = (asked["size"], asked["size"], asked["channels"])
    trunk = builders[asked["network"]](include_top=False, weights=None, input_shape=shape, pooling="avg")
    trunk.trainable = not asked["frozen"]
    found = layers.Dropout(0.2)(trunk(found, training=False) if asked["frozen"] else trunk(found))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(found))


def layers_of(change: dict[str, float]) -> list[Any]:
    """The augmentation as layers of Keras."""
    layers, border = keras.layers, "constant"
    return [
        layers.RandomRotation(change["rotate"] / 360, fill_mode=border),
        layers.RandomTranslation(change["translate"], change["translate"], fill_mode=border),
        layers.RandomZoom(change["scale"], fill_mode=border),
        layers.RandomBrightness(change["brightness"], value_range=(0, 255)),
        layers.RandomContrast(change["contrast"], value_range=(0, 255)),
    ]


def images_of(asked: dict[str, Any], part: str, *, generator: bool) -> Any:
    """Batches of the images of one part: shuffled and changed for training."""
    training, side = part == "train", (asked["size"], asked["size"])
    mode = "grayscale" if asked["channels"] == 1 else "rgb"
    folder = f"{asked['folder']}/{part}"
    if generator:
        from keras.src.legacy.preprocessing.image import ImageDataGenerator  # type: ignore[import-not-found]

        change = asked["augmentation"]
        limits = {
            "rotation_range": change["rotate"],
            "width_shift_range": change["translate"],
            "height_shift_range": change["translate"],
            "zoom_range": change["scale"],
            "brightness_range": (1 - change["brightness"], 1 + change["brightness"]),
            "fill_mode": "constant",
        }
        maker = ImageDataGenerator(**(limits if training and any(change.values()) else {}))
        flow = {"target_size": side, "color_mode": mode, "batch_size": asked["batch"], "class_mode": "binary"}
        return maker.flow_from_directory(folder, shuffle=training, **flow)
    found = keras.utils.image_dataset_from_directory(
        folder,
        label_mode="binary",
        color_mode=mode,
        image_size=side,
        batch_size=asked["batch"],
        shuffle=training,
        follow_links=True,
        verbose=False,
    )
    if training and any(asked["augmentation"].values()):
        steps = layers_of(asked["augmentation"])

        def change_all(images: Any, targets: Any) -> Any:
            for step in steps:
                images = step(images, training=True)
            return images, targets

        found = found.map(change_all, num_parallel_calls=tf.data.AUTOTUNE)
    return found.prefetch(tf.data.AUTOTUNE)


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Seconds of the training part of each epoch: from its start to the end of its last step."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images
        self.epochs: list[tuple[int, float]] = []
        self.started = self.ended = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """The last one counts."""
        self.ended = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep."""
        self.epochs.append((self.images, self.ended - self.started))


def main() -> None:
    """Train some epochs, then score the test images where that is asked."""
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    keras.utils.set_random_seed(asked["seed"])
    if asked["accelerator"] == "cpu":
        tf.config.set_visible_devices([], "GPU")
    generator = asked["choice"].get("pipeline") == "generator"
    network = network_of(asked, [])
    rate = asked["learning_rate"]
    small = asked["network"] == "simple_cnn"
    optimizer = keras.optimizers.Adam(rate) if small else keras.optimizers.AdamW(rate, asked["weight_decay"])
    network.compile(optimizer=optimizer, loss="binary_crossentropy", jit_compile=bool(asked["choice"].get("xla")))
    clock = Clock(asked["images"])
    network.fit(images_of(asked, "train", generator=generator), epochs=asked["epochs"], callbacks=[clock], verbose=0)
    result = {
        "epochs": clock.epochs,
        "precision": "32",
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
    }
    if asked["auroc"]:
        result |= scores_of(network, asked)
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


def scores_of(network: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Scores and targets of the test images."""
    scores: list[float] = []
    targets: list[int] = []
    for images, labels in images_of(asked, "test", generator=False):
        scores += network.predict_on_batch(images)[:, 0].tolist()
        targets += [int(label) for label in labels.numpy()[:, 0]]
    return {"scores": scores, "targets": targets}


if __name__ == "__main__":
    main()
