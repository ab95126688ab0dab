"""The members: aircraft, which see the tower only, and controllers, one of which is the host."""

import asyncio
import struct

from link import SESSION, Failed, Link, reason_of, wire

import recording

# What the host shows to the members.
SHOWN = ("information", "in_sight", "sequence")

# What the host keeps for itself, so that the next host does not take it over: callsigns, by aircraft.
HIDDEN = "strips"

# Those below are in the approach sequence.
APPROACH_FT = 10_000


class Secrets:
    """Values that must not reach any aircraft: every callsign, and where each one is now."""

    def __init__(self, recorded: recording.Recording):
        self._callsigns = {
            report.known["callsign"].encode()
            for flight in recorded.flights
            for report in flight.reports
            if report.known.get("callsign")
        }
        self._places: dict[str, list[bytes]] = {}
        self.searched = 0

    def moved(self, aircraft: str, known: dict):
        place = (known.get("latitude"), known.get("longitude"))
        self._places[aircraft] = [struct.pack("<d", degrees) for degrees in place if degrees]

    def found_in(self, message: bytes) -> list[bytes]:
        self.searched += len(message)
        hidden = [*self._callsigns, *(degrees for place in self._places.values() for degrees in place)]
        return [secret for secret in hidden if secret in message]


class Aircraft(Link):
    """Sends one flight's reports, and receives what the tower says."""

    def __init__(self, flight: recording.Flight, secrets: Secrets, *link):
        super().__init__(*link)
        self.flight = flight
        self.secrets = secrets
        self._due: asyncio.Queue = asyncio.Queue()
        self._sent_all = True

    def hand_over(self, report: recording.Report | None):
        """A report to send; None: the flight is over."""
        self._sent_all = False
        self._due.put_nowait(report)

    async def fly(self, previous: asyncio.Task | None):
        if previous:
            await previous
        report = await self._due.get()
        self.secrets.moved(self.user_id, report.known)
        await self.join(report.known)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.listen())
            while report:
                if self._due.empty():
                    self._sent_all = True
                    self._moved.set()
                report = await self._due.get()
                if report:
                    self.secrets.moved(self.user_id, report.known)
                    await self.write(report.known, report.unknown)
            await self.leave()

    @property
    def settled(self) -> bool:
        return self._sent_all and super().settled

    def check(self, response):
        for refusal in self.refusals:
            raise Failed(f"{self.user_id}: {reason_of(refusal)}: {refusal.message}")
        if seen := self.of_others:
            raise Failed(f"{self.user_id} sees props of {', '.join(seen)}")
        if hidden := self.of_host.keys() - set(SHOWN):
            raise Failed(f"{self.user_id} sees {', '.join(hidden)} of the tower")
        if found := self.secrets.found_in(response.SerializeToString()):
            raise Failed(f"{self.user_id} received {found[0]!r}")


class Controller(Link):
    """Sees every aircraft while it is host, and says what the aircraft get to see."""

    def __init__(self, secrets: Secrets, *link):
        super().__init__(*link)
        self.secrets = secrets
        # Of the secrets, what came while this one was host and while it was not.
        self.learned: set[bytes] = set()
        self.leaked: set[bytes] = set()
        # What the aircraft have to see of the host.
        self.said: dict = {}

    def check(self, response):
        found = self.secrets.found_in(response.SerializeToString())
        if self.is_host:
            self.learned.update(found)
        else:
            self.leaked.update(found)

    @property
    def is_host(self) -> bool:
        return self.host == self.user_id

    @property
    def aircraft(self) -> dict[str, dict]:
        """What this controller sees of the aircraft."""
        return {
            user: {key: value for key, value in props.items() if key in recording.PROPS}
            for user, props in self.state.senders.items()
            if props and "timestamp" in props
        }

    async def inform(self, number: int):
        """What every aircraft sees: from what the host sees now."""
        low = {
            user: props["altitude"]
            for user, props in self.aircraft.items()
            if props.get("altitude", APPROACH_FT) < APPROACH_FT
        }
        self.said = {
            "information": number,
            "in_sight": len(self.aircraft),
            "sequence": {user: place for place, user in enumerate(sorted(low, key=low.get), 1)},
        }
        strips = {user: props["callsign"] for user, props in self.aircraft.items()}
        await self.write(self.said | {HIDDEN: strips}, term=self.state.session.term)

    async def hand_over_to(self, calls, successor: str):
        await calls.SwapHost(
            wire.service.SwapHostRequest(
                app=self.app,
                session_id=SESSION,
                user_id=self.user_id,
                target_user_id=successor,
                term=self.state.session.term,
            )
        )
