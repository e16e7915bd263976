"""The stop-watch adds up by stage, whatever happens inside."""

from __future__ import annotations

import pytest

from weiml.models.stages import Stages


def test_times_of_a_stage_add_up_until_they_are_taken() -> None:
    stages = Stages()
    stages.add("pull", 1.5)
    with pytest.raises(ValueError, match="inside"), stages.timed("pull"):
        raise ValueError("inside")
    stages.add("push", 2.0)
    taken = stages.take()
    assert list(taken) == ["pull", "push"]
    assert 1.5 < taken["pull"] < 2.0
    assert stages.take() == {}
