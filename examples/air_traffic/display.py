"""What the programs show while they run: a progress bar and a live table, or plain lines."""

import sys
import time
from collections import deque
from datetime import datetime, timezone

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

REFRESH_S = 0.25
PLAIN_S = 10.0


def clock(moment: float) -> str:
    return datetime.fromtimestamp(moment / 1000, timezone.utc).strftime("%H:%M:%S")


class Rate:
    """How much a growing count grew per second, lately."""

    def __init__(self, seconds: float = 2.0):
        self._seconds = seconds
        self._samples: deque = deque()

    def at(self, now: float, count: float) -> float:
        self._samples.append((now, count))
        # The oldest one that stays is the last from before the window.
        while len(self._samples) > 1 and now - self._samples[1][0] >= self._seconds:
            self._samples.popleft()
        began, first = self._samples[0]
        return (count - first) / (now - began) if now > began else 0.0


class ReplayDisplay:
    """The progress of the replay. Without a terminal: a line now and then."""

    def __init__(self, recorded, plain: bool = False):
        self._plain = plain or not sys.stdout.isatty()
        self._begins_at = recorded.begins_at
        self._rate = Rate()
        self._next = 0.0
        self._bar = Progress(
            TextColumn("{task.fields[clock]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[text]}"),
            console=Console(),
            refresh_per_second=4,
            disable=self._plain,
        )
        length = recorded.ends_at - recorded.begins_at
        self._task = self._bar.add_task("", total=length, clock=clock(self._begins_at), text="")

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def line(self, text: str):
        if self._plain:
            print(text, flush=True)
        else:
            self._bar.console.print(text, highlight=False)

    def progress(self, moment: float, in_air: int, outcome):
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (PLAIN_S if self._plain else REFRESH_S)
        rate = self._rate.at(now, outcome.sent)
        text = f"{in_air} aircraft  {rate:,.0f} updates/s  {outcome.checks} checks passed"
        if self._plain:
            print(f"{clock(moment)}  {text}", flush=True)
        else:
            done = moment - self._begins_at
            self._bar.update(self._task, completed=done, clock=clock(moment), text=text)

    def checked(self, number: int, moment: float, revision: int, outcome, verdicts: dict):
        aircraft = outcome.joins - outcome.leaves
        if not self._plain:
            self._next = 0.0
            self.progress(moment, aircraft, outcome)
        self.line(
            f"{clock(moment)}  check {number:2} at revision {revision}: {aircraft} aircraft equal,"
            f" {outcome.joins} joins, {outcome.leaves} leaves"
            f" ({', '.join(sorted(verdicts)) or 'nobody watches'})"
        )


class WatchDisplay:
    """The room as a live table. Plain: nothing but the lines of checks and cuts."""

    def __init__(self, plain: bool = False):
        self._plain = plain or not sys.stdout.isatty()
        self._next = 0.0
        self._message_rate, self._byte_rate = Rate(), Rate()
        self._said: deque = deque(maxlen=5)
        self._live = None if self._plain else Live(auto_refresh=False, screen=True)

    def __enter__(self):
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_):
        if self._live:
            self._live.stop()

    def line(self, text: str):
        if self._live:
            self._said.append(text)
            self._next = 0.0
        else:
            print(text, flush=True)

    def show(self, watch):
        now = time.monotonic()
        if not self._live or now < self._next:
            return
        self._next = now + REFRESH_S
        self._live.update(self._page(watch, now), refresh=True)

    def _page(self, watch, now: float):
        state = watch.state
        messages = self._message_rate.at(now, watch.messages)
        kilobytes = self._byte_rate.at(now, watch.bytes) / 1000
        aircraft = state.senders
        moments = [props["timestamp"] for props in aircraft.values() if "timestamp" in props]
        head = Text(
            f"{clock(max(moments)) if moments else '--:--:--'}   {len(aircraft)} aircraft,"
            f" {state.joins} joins, {state.leaves} leaves   revision {state.revision}\n"
            f"{messages:,.0f} messages/s, {kilobytes:,.0f} kB/s   {watch.checks} checks passed,"
            f" {watch.resumes} resumes",
            style="bold",
        )
        table = Table(*HEADINGS, expand=True, box=None, header_style="dim")
        room = max(5, self._live.console.height - len(self._said) - 5)
        for icao24, props in list(aircraft.items())[:room]:
            table.add_row(icao24, *(shown(props, key) for key in COLUMNS))
        return Group(head, table, Text("\n".join(self._said), style="dim"))


COLUMNS = {
    "callsign": "{}",
    "altitude": "{:,.0f}",
    "groundspeed": "{:.0f}",
    "track": "{:.0f}",
    "vertical_rate": "{:+,.0f}",
    "latitude": "{:.4f}",
    "longitude": "{:.4f}",
    "squawk": "{}",
    "onground": "{}",
}
HEADINGS = ("icao24", "callsign", "ft", "kt", "track", "ft/min", "lat", "lon", "squawk", "ground")


def shown(props: dict, key: str) -> str:
    if key not in props:
        return "-"
    if key == "onground":
        return "ground" if props[key] else ""
    return COLUMNS[key].format(props[key])
