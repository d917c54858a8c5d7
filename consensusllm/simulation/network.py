"""The simulated network: what is sent arrives late, twice, out of order, or not at all.

Faults bind at delivery, as the orchestrator's do: what is in flight over a link when it is cut is
lost. Node 0 stands for the clients, so their links can be cut and lossy too.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

CLIENTS = 0


@dataclass(slots=True)
class Weather:
    """``loss`` and ``duplicate`` and ``straggle`` are rates, 0.0 to 1.0; a straggler, as half of
    the copies are, takes up to ``straggle_s`` longer than others, and so arrives behind what was
    sent after it."""

    delay_s: float = 0.001
    loss: float = 0.0
    duplicate: float = 0.0
    straggle: float = 0.0
    straggle_s: float = 0.5


class Network:
    def __init__(self, loop: AbstractEventLoop, rng: Random, figures: Counter[str]) -> None:
        self._loop = loop
        self._random = rng.random
        self._figures = figures
        self._cuts: Counter[tuple[int, int]] = Counter()
        self.weather = Weather()
        self.in_flight = 0

    def post(self, src: int, dst: int, arrive: Callable[[], None]) -> None:
        """Call ``arrive`` when, and if, what ``src`` sends reaches ``dst``."""
        weather = self.weather
        if weather.loss and self._random() < weather.loss:
            self._figures["messages lost"] += 1
            return
        if weather.duplicate and self._random() < weather.duplicate:
            self._figures["messages duplicated"] += 1
            self._schedule(src, dst, arrive, late=self._random() < 0.5)
        late = bool(weather.straggle) and self._random() < weather.straggle
        self._schedule(src, dst, arrive, late=late)

    def _schedule(self, src: int, dst: int, arrive: Callable[[], None], *, late: bool) -> None:
        weather = self.weather
        delay_s = weather.delay_s * (0.5 + self._random())
        if late:
            delay_s += weather.straggle_s * self._random()
        self.in_flight += 1
        self._loop.call_later(delay_s, self._arrive, (src, dst), arrive)

    def _arrive(self, link: tuple[int, int], arrive: Callable[[], None]) -> None:
        self.in_flight -= 1
        if self._cuts and self._cuts[link]:
            self._figures["messages cut off"] += 1
        else:
            self._figures["messages"] += 1
            arrive()

    # Links ------------------------------------------------------------------------------------

    def cut(self, links: Iterable[tuple[int, int]]) -> Callable[[], None]:
        """Let nothing pass over ``links``, each from one node to another, until the result is
        called. Cuts of several faults add up."""
        held = tuple(links)
        self._cuts.update(held)

        def mend() -> None:
            self._cuts.subtract(held)
            self._cuts = +self._cuts

        return mend
