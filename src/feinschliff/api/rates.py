"""How many requests a key may make: a bucket that fills evenly and holds a tenth of a minute's worth, at least ten."""
import threading
import time
from collections.abc import Callable

from feinschliff.core.service import KeyId
from feinschliff.core.service_errors import RateLimited


class Rates:
    """Kept in memory: each server counts for itself, and a restart forgives."""

    def __init__(self, per_minute: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_minute / 60
        self._capacity = max(10.0, per_minute / 10)
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._buckets: dict[KeyId, tuple[float, float]] = {}  # key → (requests left, when that was so)

    def take(self, key: KeyId) -> None:
        """Raises RateLimited."""
        now_s = self._clock_s()
        with self._lock:
            left, then_s = self._buckets.get(key, (self._capacity, now_s))
            left = min(self._capacity, left + (now_s - then_s) * self._per_s)
            if left < 1:
                self._buckets[key] = (left, now_s)
                raise RateLimited(
                    f"Rate limit reached: {self._per_s * 60:.0f} requests a minute.", retry_after_s=(1 - left) / self._per_s
                )
            self._buckets[key] = (left - 1, now_s)
