"""Errors keep their message and class on the way between processes."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from weiml import errors
from weiml.errors import WeimlError

CLASSES = [getattr(errors, name) for name in errors.__all__]


def fail(error_class: type[WeimlError], message: str) -> None:
    raise error_class(message)


def test_all_names_every_error_of_the_module() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, WeimlError)
    }
    assert defined == set(errors.__all__)


@pytest.mark.parametrize("error_class", CLASSES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_round_trips_through_pickle(error_class: type[WeimlError], protocol: int) -> None:
    error = error_class("column 'genre' is missing; did you mean 'genres'?")
    twin = pickle.loads(pickle.dumps(error, protocol=protocol))
    assert type(twin) is error_class
    assert str(twin) == str(error)
    assert twin.args == error.args


def test_errors_cross_processes_as_themselves() -> None:
    code = (
        "import pickle, sys\n"
        "from weiml import errors\n"
        "made = [getattr(errors, name)('port 8000 is in use') for name in errors.__all__]\n"
        "sys.stdout.buffer.write(pickle.dumps(made))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    received = pickle.loads(done.stdout)
    assert [type(error) for error in received] == CLASSES
    assert {str(error) for error in received} == {"port 8000 is in use"}


@pytest.mark.parametrize("error_class", CLASSES)
def test_every_error_can_be_caught_as_weimls(error_class: type[WeimlError]) -> None:
    with pytest.raises(WeimlError):
        fail(error_class, "no")
    assert error_class.__doc__


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ConfigError", ValueError),
        ("DataError", ValueError),
        ("FetchError", OSError),
        ("FlowError", ValueError),
        ("RegistryError", LookupError),
        ("RequestError", ValueError),
    ],
)
def test_errors_about_input_are_also_pythons(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), builtin)
