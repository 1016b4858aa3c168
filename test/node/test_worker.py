import threading
import time

import pytest

from csl_tracker.node.worker import NewestItemWorker

TIMEOUT = 5.0


def wait_for(condition, timeout=TIMEOUT):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.001)


class Gate:
    """A process function that works for as long as the test wants it to."""

    def __init__(self):
        self.seen, self.failed = [], []
        self.entered, self.release = threading.Semaphore(0), threading.Semaphore(0)

    def process(self, item):
        self.entered.release()
        assert self.release.acquire(timeout=TIMEOUT)
        if item < 0:
            raise ValueError(f"negative {item}")
        self.seen.append(item)

    def on_error(self, item, error):
        self.failed.append((item, str(error)))


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def worker(gate):
    worker = NewestItemWorker(gate.process, gate.on_error)
    worker.start()
    yield worker
    for _ in range(20):
        gate.release.release()
    assert worker.stop(TIMEOUT)


def test_an_error_is_reported_and_the_thread_lives_on(gate, worker):
    for item in (-1, 2):
        worker.submit(item)
        assert gate.entered.acquire(timeout=TIMEOUT)
        gate.release.release()
        wait_for(lambda: len(gate.seen) + len(gate.failed) == worker.processed == worker.received)
    assert gate.failed == [(-1, "negative -1")]
    assert gate.seen == [2]


def test_a_failing_report_is_logged_and_the_thread_lives_on(caplog):
    seen = []

    def process(item):
        if item < 0:
            raise ValueError(f"negative {item}")
        seen.append(item)

    def on_error(item, error):
        raise RuntimeError(f"nobody to tell of {item}")

    worker = NewestItemWorker(process, on_error, "tracker")
    worker.start()
    for count, item in enumerate((-1, 2), start=1):
        worker.submit(item)
        wait_for(lambda count=count: worker.processed == count)
    assert worker.stop(TIMEOUT)
    assert seen == [2]
    [record] = [record for record in caplog.records if record.name == "csl_tracker.node.worker"]
    assert "negative -1" in record.getMessage()
    assert "'tracker'" in record.getMessage()
    assert "nobody to tell of -1" in caplog.text


@pytest.mark.parametrize("waiting", [1, 2, 9])
def test_only_the_newest_of_the_waiting_items_is_processed(gate, worker, waiting):
    worker.submit(0)
    assert gate.entered.acquire(timeout=TIMEOUT)
    for item in range(1, waiting + 1):
        worker.submit(item)
    gate.release.release()
    gate.release.release()
    wait_for(lambda: worker.processed == 2)
    assert gate.seen == [0, waiting]
    assert worker.dropped == waiting - 1
    assert worker.received == worker.processed + worker.dropped


def test_stop_lets_the_item_at_work_finish_and_drops_the_waiting_one(gate):
    worker = NewestItemWorker(gate.process, gate.on_error)
    worker.start()
    worker.submit(1)
    assert gate.entered.acquire(timeout=TIMEOUT)
    worker.submit(2)
    assert not worker.stop(timeout_s=0.05)
    gate.release.release()
    assert worker.stop(TIMEOUT)
    worker.submit(3)
    assert gate.seen == [1]
    assert (worker.received, worker.processed, worker.dropped) == (2, 1, 1)


def test_stop_before_start_and_twice():
    worker = NewestItemWorker(print, print)
    assert worker.stop()
    assert worker.stop()


def test_no_item_is_lost_uncounted_under_a_flood():
    seen = []
    worker = NewestItemWorker(seen.append, lambda item, error: None)
    worker.start()
    for item in range(20000):
        worker.submit(item)
    wait_for(lambda: worker.processed + worker.dropped == 20000)
    assert worker.stop(TIMEOUT)
    assert seen[-1] == 19999
    assert seen == sorted(set(seen))
    assert len(seen) == worker.processed


def test_the_heart_beats_between_items_and_never_during_one():
    beats, entered, release = [], threading.Event(), threading.Event()

    def process(item):
        entered.set()
        assert release.wait(30)

    worker = NewestItemWorker(process, lambda item, error: None, heartbeat=lambda: beats.append(1), heartbeat_s=0.01)
    worker.start()
    try:
        end = time.monotonic() + 30
        while len(beats) < 3:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert worker.busy_s() == 0.0
        assert worker.submit(1) is False
        assert entered.wait(30)
        count = len(beats)
        time.sleep(0.2)
        assert len(beats) == count
        assert worker.busy_s() >= 0.2
        assert [worker.submit(item) for item in (2, 3)] == [False, True], "the second takes the place of the first"
        release.set()
        while len(beats) == count:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        release.set()
        assert worker.stop(30)


def test_a_heart_that_fails_does_not_end_the_thread(caplog):
    done = threading.Event()

    def fail():
        raise RuntimeError("no heart")

    worker = NewestItemWorker(lambda item: done.set(), lambda item, error: None, heartbeat=fail, heartbeat_s=0.01)
    worker.start()
    worker.submit(1)
    assert done.wait(30)
    assert worker.stop(30)
    assert "heartbeat" in caplog.text


def test_idle_work_waits_until_no_item_does_and_may_fail(gate, caplog):
    idle: list[int] = []

    def settle():
        idle.append(worker.processed)
        if len(idle) == 1:
            raise RuntimeError("not today")

    worker = NewestItemWorker(gate.process, gate.on_error, idle=settle)
    worker.start()
    worker.submit(1)
    assert gate.entered.acquire(timeout=TIMEOUT)
    worker.submit(2)
    gate.release.release()
    assert gate.entered.acquire(timeout=TIMEOUT)
    assert idle == [], "item 2 waited"
    gate.release.release()
    wait_for(lambda: idle == [2])
    worker.submit(3)
    gate.release.release()
    wait_for(lambda: idle == [2, 3])
    assert worker.stop(TIMEOUT)
    assert "The idle work of the thread" in caplog.text
