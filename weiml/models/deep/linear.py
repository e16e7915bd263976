"""The linear layer of all networks: on CPUs its float32 products are oneDNN's.

torch takes MKL's, which leave half of a processor's vector width unused where it is not Intel's
(Zen 5: 200 of 440 GFLOP/s on two cores).
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
        """Return (..., num_outputs); in oneDNN's own form if x is."""
        if x.is_mkldnn or not self.suits_onednn(x):
            return nn.functional.linear(x, self.weight, self.bias)
        product = nn.functional.linear(x.to_mkldnn(), self.weight, self.bias)
        return torch.as_tensor(product.to_dense())

    def suits_onednn(self, x: torch.Tensor) -> bool:
        """Return whether there is enough to multiply, in float32, and where oneDNN can."""
        return (
            _HAS_ONEDNN
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and self.out_features >= _FEW_OUTPUTS
            and x.numel() >= _FEW_ROWS * self.in_features
            and not torch.is_autocast_enabled("cpu")
            and not torch.onnx.is_in_onnx_export()
        )
