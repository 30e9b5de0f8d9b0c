"""``python prepare.py cache=list``, ``cache=verify`` and ``cache=clean``: what they print and ask."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from conf.cache_options import CacheOptions
from conf.output import short
from workflow.cache_cleaning import Kept, kept_in, remove, to_remove, verified

_REFUSED, _DAMAGED = 2, 1
_HOUR, _DAY = 3600, 86400


def run(options: CacheOptions, prepared: Path) -> int:
    """Do what was asked for, and print it.

    Args:
        options: the checked command line.
        prepared: the folder of prepared data sets.

    Returns:
        The exit code: 0, 1 where something is damaged, or 2 where a question could not be asked.
    """
    kept, now = kept_in(prepared), time.time()
    if not kept:
        print(f"nothing is kept in {short(prepared)}")
        return 0
    if options.action == "verify":
        return _verify(kept, prepared)
    if options.action == "clean":
        return _clean(kept, options, prepared, now)
    _print_table(kept, prepared, now)
    print(f"\n{_size(sum(item.size for item in kept))} in {short(prepared)}")
    return 0


def _clean(kept: list[Kept], options: CacheOptions, prepared: Path, now: float) -> int:
    chosen = to_remove(kept, keep=options.keep, older=options.older, now=now)
    total, freed = sum(item.size for item in kept), sum(item.size for item in chosen)
    busy = sum(item.size for item in kept if item.busy)
    if chosen:
        _print_table(chosen, prepared, now)
        print()
    print(f"{_size(freed)} of {_size(total)} would be freed in {short(prepared)}; {_size(total - freed)} would stay")
    if options.keep is not None and total - freed > options.keep:
        print(f"more than keep allows, because {_size(busy)} are in use by a running process")
    if not chosen:
        return 0
    if not options.yes and not sys.stdin.isatty():
        print("nothing was removed: add yes=true to remove it", file=sys.stderr)
        return _REFUSED
    if not options.yes and input("Remove it? It can be made again. [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing was removed")
        return 0
    freed = 0
    for item, gone in remove(chosen):
        freed += item.size if gone else 0
        if not gone:
            print(f"{_name(item, prepared)} is in use by now, and stays")
    print(f"{_size(freed)} freed")
    return 0


def _verify(kept: list[Kept], prepared: Path) -> int:
    bad = 0
    for item in kept:
        trouble = verified(item)
        bad += bool(trouble)
        print(f"{'DAMAGED' if trouble else 'ok':<8}{_name(item, prepared)}" + (f": {trouble}" if trouble else ""))
    print(f"\n{len(kept) - bad} of {len(kept)} are sound")
    return _DAMAGED if bad else 0


def _print_table(kept: list[Kept], prepared: Path, now: float) -> None:
    lines = [("last used", "size", "what", "where", "")]
    for item in kept:
        state = "in use" if item.busy else ""
        lines.append((_ago(now - item.used), _size(item.size), item.kind, _name(item, prepared), state))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for used, size, what, where, state in lines:
        cells = (used.ljust(widths[0]), size.rjust(widths[1]), what.ljust(widths[2]), where.ljust(widths[3]), state)
        print("   ".join(cells).rstrip())


def _name(item: Kept, prepared: Path) -> str:
    return str(item.path.relative_to(prepared))


def _ago(seconds: float) -> str:
    if seconds < _HOUR:
        return f"{max(int(seconds // 60), 0)} min ago"
    return f"{int(seconds // _HOUR)} h ago" if seconds < 2 * _DAY else f"{int(seconds // _DAY)} days ago"


def _size(size: int) -> str:
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 1000:,.0f} kB"
