"""What two signals are: a request and an order, or one that came twice."""

import signal

import pytest

from seqsru.training import interrupt as module
from seqsru.training.interrupt import Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_acts_as_before(number, capfd):
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Interrupt() as asked:
            assert not asked.requested
            signal.raise_signal(number)
            assert asked.requested and asked.number == number
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.default_int_handler
        assert capfd.readouterr().err.count("once more to stop at once") == 1
    finally:
        signal.signal(number, before)


def test_of_several_processes_two_at_once_are_one(monkeypatch, capfd):
    clock = [10.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Interrupt(several=True) as asked:
            signal.raise_signal(signal.SIGINT)
            clock[0] += 1.5
            signal.raise_signal(signal.SIGINT)
            assert asked.number == signal.SIGINT
            clock[0] += 1.5
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
