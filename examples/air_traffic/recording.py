"""The recording: which aircraft reported what, and which are in the air at a moment.

Everything here is a pure function of the recording. The replayer takes the order of events from it;
the watcher asks it what the state has to be. Moments are milliseconds since 1970.
"""

import gzip
import importlib.util
import json
from bisect import bisect_right
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple

# The props of an aircraft: every column of the recording except icao24, which names the user.
PROPS = (
    "timestamp",
    "callsign",
    "latitude",
    "longitude",
    "altitude",
    "groundspeed",
    "track",
    "vertical_rate",
    "onground",
    "squawk",
)

# An aircraft that is silent for longer than this has left.
SILENCE_MS = 60_000


class Report(NamedTuple):
    """What one aircraft said in one second: all of its state, not a change."""

    moment: int
    aircraft: str
    # In the order of PROPS; None where the receivers did not know.
    values: tuple

    @property
    def known(self) -> dict:
        return {key: value for key, value in zip(PROPS, self.values) if value is not None}

    @property
    def unknown(self) -> list[str]:
        return [key for key, value in zip(PROPS, self.values) if value is None]


class Flight(NamedTuple):
    """Reports of one aircraft without a gap over SILENCE_MS, in order."""

    aircraft: str
    reports: list[Report]

    @property
    def joins_at(self) -> int:
        return self.reports[0].moment

    @property
    def leaves_at(self) -> int:
        """The first moment at which it has been silent for too long."""
        return self.reports[-1].moment + SILENCE_MS + 1


class Event(NamedTuple):
    """A report that falls due, or, without report, the end of the flight."""

    moment: int
    flight: Flight
    report: Report | None


class Recording:
    def __init__(self, reports: Iterable[Report]):
        self._by_aircraft: dict[str, list[Report]] = defaultdict(list)
        for report in reports:
            self._by_aircraft[report.aircraft].append(report)
        self.aircraft = len(self._by_aircraft)
        self.reports = sum(map(len, self._by_aircraft.values()))
        self.flights: list[Flight] = []
        for aircraft, own in self._by_aircraft.items():
            # The file holds one aircraft's two flights in the wrong order.
            own.sort(key=moment_of)
            self.flights += split_at_gaps(aircraft, own)
        self.flights.sort(key=lambda flight: flight.joins_at)

    @cached_property
    def begins_at(self) -> int:
        return min(flight.joins_at for flight in self.flights)

    @cached_property
    def last_report_at(self) -> int:
        return max(flight.reports[-1].moment for flight in self.flights)

    @cached_property
    def ends_at(self) -> int:
        """When the last aircraft has left."""
        return max(flight.leaves_at for flight in self.flights)

    def state_at(self, moment: int) -> dict[str, dict]:
        """The props of every aircraft that is in the air at a moment, by aircraft."""
        return {
            flight.aircraft: self.last_report(flight.aircraft, moment).known
            for flight in self.flights
            if flight.joins_at <= moment < flight.leaves_at
        }

    def last_report(self, aircraft: str, moment: int) -> Report | None:
        """What an aircraft said last, up to and with a moment."""
        own = self._by_aircraft.get(aircraft, [])
        after = bisect_right(own, moment, key=moment_of)
        return own[after - 1] if after else None

    def joins_until(self, moment: int) -> int:
        return sum(flight.joins_at <= moment for flight in self.flights)

    def leaves_until(self, moment: int) -> int:
        return sum(flight.leaves_at <= moment for flight in self.flights)

    def events(self) -> list[Event]:
        """All reports and leaves, by moment."""
        events = [Event(r.moment, flight, r) for flight in self.flights for r in flight.reports]
        events += [Event(flight.leaves_at, flight, None) for flight in self.flights]
        events.sort(key=moment_of)
        return events

    def checkpoints(self, between: int = 20) -> list[int]:
        """Where both sides stop and compare: so many moments spread evenly over the recording, then
        its last report, then its end, when everybody has left."""
        length = self.last_report_at - self.begins_at
        spread = [self.begins_at + length * n // (between + 1) for n in range(1, between + 1)]
        return [*spread, self.last_report_at, self.ends_at]

    def first(self, minutes: float) -> "Recording":
        """The recording as if it had been stopped after so many minutes."""
        end = self.begins_at + minutes * 60_000
        return Recording(r for flight in self.flights for r in flight.reports if r.moment <= end)


def load(minutes: float | None = None) -> Recording:
    recorded = read()
    return recorded if minutes is None else recorded.first(minutes)


def read(path: Path | None = None) -> Recording:
    with gzip.open(path or sample_path()) as file:
        rows = json.load(file)
    return Recording(
        Report(row["timestamp"], row["icao24"], tuple(row[key] for key in PROPS)) for row in rows
    )


def sample_path() -> Path:
    """Where the package `traffic` lies, found without importing it: its dependencies are absent."""
    package = importlib.util.find_spec("traffic")
    if package is None or package.origin is None:
        raise SystemExit("the recording is not installed: run setup.sh first")
    return Path(package.origin).parent / "data/samples/collections/quickstart.json.gz"


def moment_of(reported: Report | Event) -> int:
    return reported.moment


def split_at_gaps(aircraft: str, reports: list[Report]) -> Iterator[Flight]:
    flight = reports[:1]
    for report in reports[1:]:
        if report.moment - flight[-1].moment > SILENCE_MS:
            yield Flight(aircraft, flight)
            flight = []
        flight.append(report)
    yield Flight(aircraft, flight)


def differences(expected: dict[str, dict], actual: dict[str, dict]) -> list[str]:
    """Everything in which a state differs from what it has to be; the types of values count."""
    found = [f"{aircraft} is missing" for aircraft in expected.keys() - actual.keys()]
    found += [f"{aircraft} should not be there" for aircraft in actual.keys() - expected.keys()]
    for aircraft in expected.keys() & actual.keys():
        want, have = expected[aircraft], actual[aircraft]
        for key in want.keys() | have.keys():
            pair = want.get(key), have.get(key)
            if pair[0] != pair[1] or type(pair[0]) is not type(pair[1]):
                found.append(f"{aircraft} {key}: {pair[1]!r} instead of {pair[0]!r}")
    return sorted(found)
