"""The model card of a run: what TRIPOD+AI and CLAIM ask a paper to say, filled from the run's files where they know it.

Sources of the topics: Collins et al. 2024 (TRIPOD+AI), doi:10.1136/bmj-2023-078378, and Tejani et al. 2024 (CLAIM, 2024
update), doi:10.1148/ryai.240300; the form follows Mitchell et al. 2019 (model cards), doi:10.1145/3287560.3287596.
"""

from __future__ import annotations

from evaluation.model_card_results import limit_rows, performance_rows, threshold_rows
from evaluation.model_card_rows import CardRow, code_rows, data_rows, model_rows, study_rows, use_rows
from evaluation.report_files import RunFiles

__all__ = ["CardRow", "model_card"]


def model_card(run: RunFiles) -> list[tuple[str, list[CardRow]]]:
    """The card in parts, each a heading and its rows.

    Everything is from the files of the run. What they do not say is a row that asks for it (:attr:`CardRow.by_hand`).
    """
    return [
        ("Use", use_rows(run)),
        ("Data", data_rows(run)),
        ("Model", model_rows(run)),
        ("Operating point", threshold_rows(run)),
        ("Performance", performance_rows(run)),
        ("Limits", limit_rows(run)),
        ("Reproducing it", code_rows(run)),
        ("Around the study", study_rows()),
    ]
