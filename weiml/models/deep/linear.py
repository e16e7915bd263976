"""The linear layer of networks: its float32 products in training are oneDNN's where MKL is slow.

torch takes MKL's, which leave half of a processor's vector width unused where it is not Intel's
(Zen 5: 200 of 440 GFLOP/s on two cores). On Intel's they are nearly as fast as oneDNN's, and need
no copies in its form. Scores stay MKL's: requests have any number of rows, and for each new one
oneDNN first makes a primitive (half a millisecond). Only products are left to it: its relu turns
NaN into 0.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

__all__ = ["Linear"]

_FEW_ROWS = 64  # of x; below, handing tensors over costs more than it saves
_FEW_OUTPUTS = 8
_CPU_INFO = Path("/proc/cpuinfo")


def _mkl_is_slow(cpu_info: Path = _CPU_INFO) -> bool:
    """Return whether torch multiplies by MKL, could by oneDNN, and the processor is not Intel's.

    By its maker and not by a trial, which would make the bits of equal runs depend on chance. False
    where the system does not say who made it.
    """
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return False
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        with cpu_info.open(encoding="utf-8") as lines:
            makers = [line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")]
    except OSError:
        return False
    return bool(makers) and makers[0] != "GenuineIntel"


_MKL_IS_SLOW = _mkl_is_slow()


class Linear(nn.Linear):
    """``x W^T + b`` as `torch.nn.Linear` has it, of x (..., num_inputs)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., num_outputs)."""
        if not self._suits_onednn(x):
            return nn.functional.linear(x, self.weight, self.bias)
        product = nn.functional.linear(x.to_mkldnn(), self.weight, self.bias)
        return torch.as_tensor(product.to_dense())

    def _suits_onednn(self, x: torch.Tensor) -> bool:
        """Return whether there is enough to multiply, in float32, and where oneDNN can."""
        return (
            _MKL_IS_SLOW
            and torch.is_grad_enabled()
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and self.out_features >= _FEW_OUTPUTS
            and x.numel() >= _FEW_ROWS * max(self.in_features, 1)
            and not torch.is_autocast_enabled("cpu")
            and not torch.onnx.is_in_onnx_export()
        )
