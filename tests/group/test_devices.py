"""The choice of a device by what Ray gave to a worker."""

from __future__ import annotations

import pytest
import torch

from weiml.errors import ClusterError
from weiml.group.devices import SideStream, choose_device, visible_index


@pytest.mark.parametrize(
    ("ids", "visible", "index"),
    [
        (["3"], "3", 0),  # narrowed by Ray
        (["3"], "2,3", 1),  # a worker of several on one machine that see each other's
        (["3"], None, 3),  # not narrowed
        (["1", "2"], "1,2", 0),
        (["GPU-ab"], "GPU-cd, GPU-ab", 1),
    ],
)
def test_a_gpu_is_found_among_the_visible(ids: list[str], visible: str | None, index: int) -> None:
    assert visible_index(ids, visible) == index


def test_a_gpu_that_is_hidden_is_an_error() -> None:
    with pytest.raises(ClusterError, match="Ray gave GPU '0' to this worker"):
        visible_index(["0"], "1,2")


def test_a_worker_without_gpus_computes_on_the_cpu() -> None:
    assert choose_device([]) == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has CUDA")
def test_a_gpu_without_cuda_is_an_error() -> None:
    with pytest.raises(ClusterError, match="sees no CUDA"):
        choose_device(["0"])


@pytest.mark.parametrize("device", ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])])
def test_work_on_the_side_begins_after_what_was_marked(device: str) -> None:
    side = SideStream(device)
    tensor = torch.zeros(1 << 20, device=device)
    for _ in range(50):
        tensor += 1
    with side.after(side.mark(), [tensor]):
        copy = tensor * 2
        side.synchronize()
    assert copy.min() == copy.max() == 100
