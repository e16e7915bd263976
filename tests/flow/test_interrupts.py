from __future__ import annotations

import signal
import threading

import pytest

from weiml.errors import FlowError
from weiml.flow.interrupts import (
    NodeTimeoutError,
    TerminatedError,
    shielded,
    terminable,
    time_limit,
)


def test_waiting_is_cut_off_at_the_limit() -> None:
    with pytest.raises(NodeTimeoutError), time_limit(0.05, "node"):
        threading.Event().wait(60)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_body_in_time_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(60, "node"):
        assert signal.getsignal(signal.SIGALRM) != before
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_limit_needs_the_main_thread() -> None:
    caught: list[Exception] = []

    def limited() -> None:
        try:
            with time_limit(1, "node 'a'"):
                pass
        except FlowError as error:
            caught.append(error)

    thread = threading.Thread(target=limited)
    thread.start()
    thread.join()
    assert "node 'a' has timeout_s=1, which needs the main thread" in str(caught[0])


def test_termination_is_an_exception_with_its_status() -> None:
    with pytest.raises(TerminatedError) as caught, terminable():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 128 + 15


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminatedError)]
)
def test_clean_up_is_finished_before_the_signal_goes_on(
    number: signal.Signals, kind: type[BaseException]
) -> None:
    done = []

    def clean_up() -> None:
        with terminable():
            with shielded():
                signal.raise_signal(number)
                done.append("cleaned")
            done.append("went on")

    with pytest.raises(kind):
        clean_up()
    assert done == ["cleaned"]


def test_a_second_ctrl_c_goes_through_at_once() -> None:
    done = []

    def clean_up() -> None:
        with shielded():
            signal.raise_signal(signal.SIGINT)
            done.append("first")
            signal.raise_signal(signal.SIGINT)
            done.append("second")

    with pytest.raises(KeyboardInterrupt):
        clean_up()
    assert done == ["first"]
