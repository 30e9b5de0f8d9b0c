"""Fetching a public data set from its publisher without a login, or from Kaggle; once, verified, and never half."""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datamodules.archives import place
from datamodules.download_plan import DownloadPlan, IsicQuery, RemoteFile, manual_steps, plan_from
from datamodules.download_record import intact, load_record, save_record
from datamodules.errors import DataError
from datamodules.progress import Progress, silent

__all__ = ["DownloadPlan", "IsicQuery", "RemoteFile", "download_dataset", "manual_steps", "plan_from"]


def download_dataset(plan: DownloadPlan, target: Path, *, via: str, progress: Progress = silent) -> list[str]:
    """Fetch everything of a plan, verify and unpack it. What is complete already costs no request.

    Args:
        plan: from ``plan_from``.
        target: the data set's folder; created. An archive that a person put there is verified and used.
        via: ``publisher`` or ``kaggle``.
        progress: counts MB, files or images, as its title says.

    Returns:
        The lines to print: what was fetched, verified and unpacked.

    Raises:
        DataError: what failed, and the steps to do it by hand. Nothing half-written lies where a reader would find it.
    """
    ways: dict[str, Callable[[DownloadPlan, Path, Progress], list[str]]] = {
        "publisher": _from_publisher,
        "kaggle": _from_kaggle,
    }
    if via not in ways:
        raise DataError(f"data.download={via}: no such way; there are {' and '.join(ways)}.")
    existed = target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        with FileLock(target / ".download.lock", timeout=0):
            _require_one_origin(plan, target, via)
            return ways[via](plan, target, progress)
    except Timeout as error:
        raise DataError(
            f"{target} is being filled by another process. Wait for it, and run the same command again."
        ) from error
    except (DataError, OSError) as error:
        raise DataError(f"{plan.name} could not be fetched: {error}\nBy hand:\n{manual_steps(plan, target)}") from error
    finally:
        if not existed:
            _remove_if_empty(target)


def _remove_if_empty(target: Path) -> None:
    """A folder in which nothing arrived would only make the next message harder to understand."""
    lock = target / ".download.lock"
    with suppress(OSError):
        if list(target.iterdir()) == [lock]:
            lock.unlink()
            target.rmdir()


def _require_one_origin(plan: DownloadPlan, target: Path, via: str) -> None:
    """Two copies of a data set in one folder would put the same images into training and test."""
    record = load_record(target)
    there = "kaggle" if "kaggle" in record else "publisher" if record else via
    if there != via:
        raise DataError(
            f"{target} already holds what came from data.download={there}. "
            "Use that, or choose another folder with  data.root=PATH."
        )


def _from_publisher(plan: DownloadPlan, target: Path, progress: Progress) -> list[str]:
    if not plan.files and plan.isic is None:
        other = " Kaggle has it: data.download=kaggle." if plan.kaggle else ""
        raise DataError(f"no publisher without a login is known.{other}")
    # Here, because every command reads plans, and only this one needs an HTTP client, which takes a while to import.
    from datamodules.download_files import bring, is_done
    from datamodules.download_http import open_client
    from datamodules.download_isic import bring_isic, claim, isic_done

    record = load_record(target)
    lines = []
    with open_client() as client:
        for file in plan.files:
            files: dict[str, Any] = record.setdefault("files", {})
            if is_done(file, target, files.get(file.name, {})):
                lines.append(
                    f"{file.name}: already fetched{', verified and unpacked' if file.unpack else ' and verified'}"
                )
                continue
            files[file.name], said = bring(client, file, target, files.get(file.name, {}), progress)
            save_record(target, record)
            lines += said
        if plan.isic is not None:
            if isic_done(plan.isic, target, record.get("isic", {})):
                return [*lines, "ISIC archive: already fetched"]
            record["isic"] = claim(plan.isic, target, record.get("isic", {}))
            save_record(target, record)
            record["isic"], said = bring_isic(client, plan.isic, target, progress)
            save_record(target, record)
            lines += said
    return lines


def _from_kaggle(plan: DownloadPlan, target: Path, progress: Progress) -> list[str]:
    """Through kagglehub, which shows its own progress; it fetches into a hidden folder, which is moved when complete."""
    if not plan.kaggle:
        raise DataError("Kaggle is not known to have it. Use data.download=publisher.")
    record = load_record(target)
    known = record.get("kaggle", {})
    if known.get("handle") == plan.kaggle and intact(target, known.get("files")):
        return [f"Kaggle {plan.kaggle}: already fetched"]
    staging = target / ".kaggle"
    try:
        _fetch_from_kaggle(plan.kaggle, staging)
        files = _files_below(staging)
        if not files:
            raise DataError(f"kagglehub fetched no file of {plan.kaggle}.")
        place(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    save_record(target, {**record, "kaggle": {"handle": plan.kaggle, "files": files}})
    size = sum(files.values())
    return [f"Kaggle {plan.kaggle}: {len(files):,} files, {size:,} bytes; Kaggle publishes no hash to verify them"]


def _fetch_from_kaggle(handle: str, staging: Path) -> None:
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise DataError("the package kagglehub is not installed:  pip install kagglehub") from error
    if "output_dir" not in inspect.signature(kagglehub.dataset_download).parameters:
        raise DataError("this kagglehub is too old to say where files go:  pip install --upgrade kagglehub")
    try:
        # force_download: kagglehub refuses a folder with the remains of an interrupted call
        fetched = Path(kagglehub.dataset_download(handle, force_download=True, output_dir=str(staging)))
    except Exception as error:  # whatever kagglehub, its HTTP client or its unpacking raise
        raise DataError(f"kagglehub cannot fetch {handle}: {type(error).__name__}: {error}") from error
    if fetched.resolve() != staging.resolve():  # in notebooks of Kaggle and Colab it ignores output_dir
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(fetched, staging, symlinks=True)
    shutil.rmtree(staging / ".complete", ignore_errors=True)  # kagglehub's own note


def _files_below(folder: Path) -> dict[str, int]:
    """Path and bytes of every file.

    Raises:
        DataError: if there is a link, which could lead anywhere.
    """
    files: dict[str, int] = {}
    for above, folders, names in os.walk(folder):
        for path in (Path(above) / name for name in (*folders, *names)):
            if path.is_symlink():
                raise DataError(f"{path} is a link; the data set holds none. Do not trust this download.")
            if path.is_file():
                files[path.relative_to(folder).as_posix()] = path.stat().st_size
    return files
