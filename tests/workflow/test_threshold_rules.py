from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workflow.threshold_rules import threshold_rule

OLD = {"rule": "certified", "recall": 0.95, "confidence": 0.95, "group_score": "max", "value": 0.5}
NEW = {**OLD, "min_specificity": None, "beta": 2.0, "miss_cost": 10.0, "infeasible": "empirical"}


def run(held: dict[str, Any], **change: Any) -> Any:
    config = {"threshold": {**held, **change}, "task": {"group_name": "lesion"}}
    return SimpleNamespace(config=config, folder=Path("runs") / str(len(held)))


def test_runs_from_before_a_key_agree_with_its_default() -> None:
    chosen = threshold_rule([run(OLD), run(NEW)], None, None)
    assert chosen == {**{k: v for k, v in NEW.items() if k != "value"}, "fixed": 0.5, "group_name": "lesion"}
    assert threshold_rule([run(NEW), run(NEW)], "cost", 0.9)["rule"] == "cost"


def test_a_key_counts_only_where_the_rule_uses_it() -> None:
    threshold_rule([run(NEW), run(NEW, miss_cost=3.0, beta=1.0, infeasible="refuse", value=0.1)], None, None)
    for rule, key, value in (("cost", "miss_cost", 3.0), ("fbeta", "beta", 1.0), ("certified", "min_specificity", 0.8)):
        with pytest.raises(ValueError, match=rf"threshold\.{key} is .* and\s{value}"):
            threshold_rule([run(NEW, rule=rule), run(NEW, rule=rule, **{key: value})], None, None)
