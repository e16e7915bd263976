from __future__ import annotations

import pytest

from weiml.data.quality import Finding, require_none
from weiml.errors import DataError


def test_findings_are_said_in_one_line_and_raised_together() -> None:
    found = [
        Finding(feature=f"f{i}", measure="psi", value=0.3, threshold=0.25, detail="why")
        for i in range(12)
    ]
    assert str(found[0]) == "feature 'f0': psi is 0.3, the threshold 0.25 (why)"
    require_none([])
    with pytest.raises(DataError, match="today failed 12 checks: feature 'f0': psi.*and 2 more"):
        require_none(found, "today")
