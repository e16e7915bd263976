"""What a check finds: one feature, one measure, its value and the bound that it passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weiml.errors import DataError

__all__ = ["Finding", "require_none"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as expected."""

    feature: str
    measure: str
    value: float | None
    threshold: float | None
    detail: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        text = f"feature {self.feature!r}: {self.measure}"
        if self.value is not None and self.threshold is not None:
            text += f" is {self.value:.6g}, the threshold {self.threshold:.6g}"
        return f"{text} ({self.detail})" if self.detail else text


def require_none(findings: Sequence[Finding], what: str = "data") -> None:
    """Do nothing if there are no findings.

    Raises:
        DataError: there are; names each feature, measure, value and threshold, at most ten.
    """
    if findings:
        shown = "; ".join(map(str, findings[:10]))
        more = f"; and {len(findings) - 10} more" if len(findings) > 10 else ""
        raise DataError(f"{what} failed {len(findings)} checks: {shown}{more}")
