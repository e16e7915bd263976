"""The objectives that come with weiml; none knows Ray or the sampler."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weiml.errors import ConfigError
from weiml.search.base import Objective, Report, register_objective

__all__ = ["Bowl"]


@register_objective("bowl")
@dataclass(frozen=True, kw_only=True)
class Bowl(Objective):
    """A paraboloid over all numeric parameters, for trying a space or the machinery, not a model.

    ``loss = Σ (x - centre)²``; step s of `steps` reports ``loss + 1/s``, a curve that falls to it.
    """

    centre: float = 0.0
    steps: int = 0
    step_s: float = 0.0
    """How long a step takes."""

    def __call__(self, params: Mapping[str, Any], report: Report) -> Mapping[str, float]:
        """Return ``{"loss": …}``.

        Raises:
            ConfigError: a parameter is no number.
        """
        for name, value in params.items():
            if not isinstance(value, (int, float)):
                raise ConfigError(f"the bowl takes numbers, got {name} = {value!r}")
        loss = sum((float(value) - self.centre) ** 2 for value in params.values())
        for step in range(1, self.steps + 1):
            time.sleep(self.step_s)
            report(step, {"loss": loss + 1.0 / step})
        return {"loss": loss}
