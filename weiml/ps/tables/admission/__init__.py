"""Filters that say which keys get a row; read `base` for the contract."""

from __future__ import annotations

from weiml.ps.tables.admission.base import AdmissionConfig, AdmissionFilter
from weiml.ps.tables.admission.bloom import Bloom
from weiml.ps.tables.admission.chance import Chance
from weiml.ps.tables.admission.count import Count

__all__ = ["AdmissionConfig", "AdmissionFilter", "make_filter"]


def make_filter(config: AdmissionConfig, num_buckets: int) -> AdmissionFilter:
    """Return the filter that `config` describes, for keys in `num_buckets` buckets."""
    if config.kind == "probability":
        return Chance(config.probability)
    if config.kind == "count":
        return Count(config.min_count, num_buckets)
    return Bloom(config, num_buckets)
