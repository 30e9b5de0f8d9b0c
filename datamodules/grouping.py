"""Groups: which images must stay together, from every key that says so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def united_groups(*keys: Sequence[str], pairs: NDArray[np.int64] | None = None) -> list[str]:
    """Join rows that agree in any key; a joined group carries the smallest name that its rows have in the first key.

    This is the union-find of patient, lesion and content keys, computed as connected components.

    Args:
        keys: one or more columns of equal length n, for example patient, lesion and content hash. An empty string joins
            nothing. The first column names the groups and has no empty entry.
        pairs: row numbers that belong together as well, shape (k, 2).

    Returns:
        The group of each row, n names.
    """
    names = np.asarray(keys[0], dtype=object)
    count = len(names)
    if count == 0:
        return []
    rows, columns, offset = [], [], count
    for key in keys:
        codes, values = pd.factorize(np.asarray(key, dtype=object))
        filled = np.flatnonzero(np.asarray(values, dtype=object)[codes] != "")
        rows.append(filled)
        columns.append(codes[filled] + offset)
        offset += len(values)
    if pairs is not None and len(pairs):
        rows.append(pairs[:, 0])
        columns.append(pairs[:, 1])
    from scipy.sparse import coo_matrix  # here, so that a mistake in the data set's name is reported sooner
    from scipy.sparse.csgraph import connected_components

    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(row), dtype=np.int8), (row, column)), shape=(offset, offset))
    _, component = connected_components(graph, directed=False)
    component = component[:count]
    # The smallest name of a component: sort the distinct names once, then take minima of their ranks.
    ranks, ordered = pd.factorize(names, sort=True)
    smallest = np.full(component.max() + 1, len(ordered), dtype=np.int64)
    np.minimum.at(smallest, component, ranks)
    return [str(name) for name in np.asarray(ordered, dtype=object)[smallest[component]]]
