"""The errors that weiml raises on purpose: each says what is wrong, what was got, what to do.

Every class takes exactly one argument, the message, so that it survives the trip between processes.
"""

from __future__ import annotations

__all__ = [
    "ClusterError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "FetchError",
    "FlowError",
    "GradientError",
    "ParameterServerError",
    "RegistryError",
    "RequestError",
    "SolverError",
    "WeimlError",
]


class WeimlError(Exception):
    """Base of all errors that weiml raises on purpose."""


class ConfigError(WeimlError, ValueError):
    """A configuration value, key or file is wrong."""


class DataError(WeimlError, ValueError):
    """Data is missing, malformed or of the wrong type; the message names file, line or column."""


class DivergedError(ConfigError):
    """Training left the finite: the message names the step, the examples and what to go back to."""


class FetchError(WeimlError, OSError):
    """A data set could not be obtained from any of its sources, or came damaged."""


class FlowError(WeimlError, ValueError):
    """A flow is not well defined, or one of its nodes failed."""


class ParameterServerError(WeimlError, RuntimeError):
    """A parameter server refused a request or is gone."""


class GradientError(ParameterServerError):
    """What was to be pushed is not finite, or too large to learn from; nothing was sent."""


class ClusterError(WeimlError, RuntimeError):
    """Ray, or a port that a service needs, is not available."""


class RequestError(WeimlError, ValueError):
    """A prediction request is malformed; servers answer it with a 4xx status."""


class RegistryError(WeimlError, LookupError):
    """The model registry has no such model, version or alias."""


class SolverError(WeimlError, ArithmeticError):
    """A solver cannot go on: no step along any direction brings the objective down."""
