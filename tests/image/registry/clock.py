"""A clock for tests: waiting takes no time, and is written down."""

from __future__ import annotations

from dataclasses import dataclass, field

from vecache.image.registry.http import RetryPolicy


@dataclass
class FakeTime:
    seconds: float = 1000.0
    waits: list[float] = field(default_factory=list)
    step: float = 0.0

    def now(self) -> float:
        self.seconds += self.step
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds

    def policy(self, **changes: float) -> RetryPolicy:
        return RetryPolicy(now=self.now, sleep=self.sleep, **changes)  # type: ignore[arg-type]
