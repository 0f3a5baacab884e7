"""What goes on beside the requests: threads that do one kind of work each, whenever there is some."""
import logging
import threading
from collections.abc import Callable, Mapping

from feinschliff.app.service import Service

log = logging.getLogger("feinschliff.background")
LOOK_EVERY_S = 2.0  # for work that nobody rang for: expiry, or a change made by another server
REST_S = 5.0  # after an error


class Background:
    """`work` maps a name to a step that returns whether it found something to do."""

    def __init__(self, service: Service, work: Mapping[str, Callable[[], bool]]) -> None:
        self._service = service
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(step,), name=name) for name, step in work.items()]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every step come to its end, and begin no other."""
        self._stopping.set()
        self._service.work.ring()
        for thread in self._threads:
            thread.join()

    def _run(self, step: Callable[[], bool]) -> None:
        heard = 0
        while not self._stopping.is_set():
            try:
                found = step()
            except Exception:  # the boundary of a thread: whatever it was, the next look may go well
                log.exception("background work failed")
                self._stopping.wait(REST_S)
                continue
            if not found:
                heard = self._service.work.wait(heard, LOOK_EVERY_S)
