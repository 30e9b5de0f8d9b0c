"""The data set that a finished run was made from, prepared again and checked to be the same."""

from __future__ import annotations

from pathlib import Path

from conf.output import short
from datamodules.prepared import PreparedData, prepare
from datamodules.progress import Progress, silent
from workflow.scoring import Scorer


def own_data(scorer: Scorer, data_root: Path | None = None, progress: Progress = silent) -> PreparedData:
    """The data set that a run was trained on, checked to be unchanged.

    Raises:
        ValueError: if the images or the split are not those of the run.
    """
    config = scorer.config
    data = dict(config["data"]) | ({} if data_root is None else {"root": str(data_root.expanduser().resolve())})
    # The stored split is obeyed; made anew it would have to be the same, which the hash shows.
    settings = {**config, "data": data, "split": {**config["split"], "refresh": False}}
    prepared = prepare(settings, progress)
    record = scorer.networks[0].description
    checks = [("manifest_sha256", prepared.manifest.sha256), ("split_sha256", prepared.splits.sha256)]
    for name, found in checks:
        if found != record[name]:
            raise ValueError(
                f"the data in {prepared.root} are not those of {short(scorer.run)}: {name} is {found[:12]}, in the run it was "
                f"{record[name][:12]}. Restore the data, or name the folder where they are: data.root=FOLDER."
            )
    return prepared
