"""The linear layer of networks: on CPUs its float32 products in training are oneDNN's.

torch takes MKL's, which leave half of a processor's vector width unused where it is not Intel's
(Zen 5: 200 of 440 GFLOP/s on two cores). Scores stay MKL's: requests have any number of rows, and
for each new one oneDNN first makes a primitive (half a millisecond). Only products are left to it:
its relu turns NaN into 0.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["Linear"]

_FEW_ROWS = 64  # of x; below, handing tensors over costs more than it saves
_FEW_OUTPUTS = 8
_HAS_ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


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
            _HAS_ONEDNN
            and torch.is_grad_enabled()
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and self.out_features >= _FEW_OUTPUTS
            and x.numel() >= _FEW_ROWS * max(self.in_features, 1)
            and not torch.is_autocast_enabled("cpu")
            and not torch.onnx.is_in_onnx_export()
        )
