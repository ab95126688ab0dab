"""A tower and its aircraft: recorded traffic in a hosted session.

Every aircraft is a member that sends its reports; the tower is the host and sees them all. The aircraft
see what the tower shows and nothing of each other. Halfway the tower hands over to its relief. All that
is printed was checked; the exit code is 0 only if everything was in order.
"""

import argparse
import asyncio
import sys
import time
from contextlib import suppress

import grpc
from crew import HIDDEN, SHOWN, Aircraft, Controller, Secrets
from link import SESSION, Failed, Link, reason_of, wire

import recording
from client_state import BrokenRule
from display import clock

# How often reports that fell due are handed over.
ROUND_S = 0.01

# After a stall longer than this the recorded clock is late for good: the server takes at most 200 writes
# a second of one user.
CATCH_UP_S = 0.3

# How often the tower says what it sees, while the recording plays.
INFORM_S = 0.25

# How many times everything is compared.
CHECKS = 8

# How long to wait for the server at the start.
SERVER_S = 5.0


class Play:
    def __init__(self, channel, recorded: recording.Recording, chosen):
        self.calls = wire.service_grpc.SessionServiceStub(channel)
        self.recorded = recorded
        self.chosen = chosen
        self.secrets = Secrets(recorded)
        self.common = (channel, chosen.app)
        self.tower = self._controller("tower")
        self.relief = self._controller("relief")
        self.host = self.tower
        self.in_air: dict[str, Aircraft] = {}
        self.flights: dict[str, asyncio.Task] = {}
        self.flown: list[Aircraft] = []
        self.number = 0
        self.now = recorded.begins_at - 1
        self.compared = 0

    def _controller(self, name: str) -> Controller:
        return Controller(self.secrets, *self.common, name, self.chosen.patience)

    async def run(self):
        await self._clear()
        moments = [m for m in self.recorded.checkpoints(CHECKS) if m < self.recorded.ends_at]
        events = iter(self.recorded.events())
        pending = next(events)
        async with asyncio.TaskGroup() as tasks:
            for controller in (self.tower, self.relief):
                await controller.join({}, self._session())
                tasks.create_task(controller.listen())
                await controller.until(lambda c=controller: c.host, "a host")
            for at, moment in enumerate(moments, 1):
                informed = last = time.monotonic()
                while self.now < moment:
                    await asyncio.sleep(ROUND_S)
                    now = time.monotonic()
                    played = min(now - last, CATCH_UP_S) * self.chosen.speed * 1000
                    self.now = min(moment, self.now + played)
                    last = now
                    while pending and pending.moment <= self.now:
                        self._hand_over(pending, tasks)
                        pending = next(events, None)
                    if now - informed > INFORM_S:
                        informed = now
                        await self._inform()
                await self._compare(at, moment)
                if at == len(moments) // 2:
                    await self._change_shift(moment)
            # The recording stops here: every aircraft that is still in the air leaves now.
            for aircraft in self.in_air.values():
                aircraft.hand_over(None)
            await self.host.until(lambda: not self.host.aircraft, "the last aircraft leaves")
            self._compare_secrets()
            await self.delete()

    async def _clear(self):
        """Waits for the server, and ends a session that a run which was killed has left behind."""
        try:
            await self.delete(timeout=SERVER_S, wait_for_ready=True)
        except grpc.aio.AioRpcError as refused:
            if refused.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Failed(
                    f"no server at {self.chosen.address}; start one: cargo run --release -- serve"
                ) from None
            if refused.code() is not grpc.StatusCode.NOT_FOUND:
                raise

    def _session(self):
        """The session as the first controller opens it."""
        session = wire.service.OpenSharedSessionRequest(kind=wire.session.SESSION_KIND_HOSTED)
        # The host sees these of everybody; the members see those, of the host.
        session.settings.propnames.extend([*recording.PROPS, HIDDEN])
        session.settings.hostprops.extend(SHOWN)
        # 0: an aircraft that closes its stream is gone at once.
        session.settings.rejoin_grace.SetInParent()
        return session

    async def delete(self, **options):
        """As the app itself."""
        await self.calls.DeleteSession(
            wire.service.DeleteSessionRequest(app=self.chosen.app, session_id=SESSION),
            metadata=wire.AS_APP,
            **options,
        )

    def _hand_over(self, event: recording.Event, tasks: asyncio.TaskGroup):
        name = event.flight.aircraft
        aircraft = self.in_air.get(name)
        if aircraft is None:
            aircraft = self.in_air[name] = Aircraft(
                event.flight, self.secrets, *self.common, name, self.chosen.patience
            )
            self.flown.append(aircraft)
            self.flights[name] = tasks.create_task(aircraft.fly(self.flights.get(name)))
        aircraft.hand_over(event.report)
        if event.report is None:
            del self.in_air[name]

    async def _inform(self):
        self.number += 1
        await self.host.inform(self.number)

    async def _compare(self, at: int, moment: int):
        """Everybody sees what they have to see, and nothing else."""
        for link in self.in_air.values():
            await link.until(lambda a=link: a.settled, "all that it sent is acknowledged")
        # What is acknowledged was framed, so it comes before this or with it.
        await self._inform()
        await self._told(self.host)
        expected = self.recorded.state_at(moment)
        await self.host.until(
            lambda: self.host.aircraft.keys() == expected.keys(), "every aircraft and no other"
        )
        if wrong := recording.differences(expected, self.host.aircraft):
            raise Failed(f"at {clock(moment)} {self.host.user_id} sees {'; '.join(wrong[:3])}")
        other = self.relief if self.host is self.tower else self.tower
        for link in (other, *self.in_air.values()):
            await self._told(link)
            if link.of_host != self.host.said or link.of_others:
                raise Failed(f"{link.user_id} sees {link.of_host} and {link.of_others}")
            self.compared += 1
        sequence = sorted(self.host.said["sequence"], key=self.host.said["sequence"].get)
        print(
            f"{clock(moment)}  check {at}: {self.host.user_id} sees all of {len(expected)} aircraft;"
            f" they see information {self.number}, {self.host.said['in_sight']} in sight, approach:"
            f" {' '.join(sequence[:3])}{' ...' if len(sequence) > 3 else ''}",
            flush=True,
        )

    async def _told(self, link: Link):
        """Somebody sees what the host said last."""
        await link.until(lambda: link.of_host.get("information") == self.number, "the host's words")

    async def _change_shift(self, moment: int):
        """The relief becomes host: it sees the aircraft now, and the tower does not any more."""
        term = self.tower.state.session.term
        await self.tower.hand_over_to(self.calls, self.relief.user_id)
        for link in (self.tower, self.relief, *self.in_air.values()):
            await link.until(lambda a=link: a.host == self.relief.user_id, "the new host")
            if link.state.session.term != term + 1:
                raise Failed(f"{link.user_id} sees the term {link.state.session.term} after {term}")
        for controller in (self.tower, self.relief):
            if controller.reasons[-1] != "SNAPSHOT_REASON_VIEW_CHANGED":
                raise Failed(f"{controller.user_id} got {controller.reasons}")
        if wrong := recording.differences(self.recorded.state_at(moment), self.relief.aircraft):
            raise Failed(f"the relief sees {'; '.join(wrong[:3])}")
        # It has taken over what the tower showed, and nothing of what the tower kept for itself.
        if self.relief.of_host != self.tower.said:
            raise Failed(f"the relief took over {self.relief.of_host}")
        for link in (self.tower, *self.in_air.values()):
            if link.of_host != self.tower.said or link.of_others:
                raise Failed(f"{link.user_id} sees {link.of_host} and {link.of_others}")
        # The tower believes to be host still: its term says that it is not.
        await self.tower.write({"information": -1}, term=term)
        await self.tower.until(lambda: self.tower.settled, "an answer")
        if [reason_of(refusal) for refusal in self.tower.refusals] != ["STALE_TERM"]:
            raise Failed(f"a write of the old term was answered with {self.tower.refusals}")
        self.host = self.relief
        print(
            f"{clock(moment)}  the tower hands over: the relief sees the aircraft, the tower sees none;"
            f" term {term} -> {term + 1}, a write of term {term} is refused with STALE_TERM",
            flush=True,
        )

    def _compare_secrets(self):
        """What no aircraft received did reach the host, or the search would prove nothing."""
        for controller in (self.tower, self.relief):
            if not controller.learned:
                raise Failed(f"{controller.user_id} was host and learned nothing")
            if controller.leaked:
                raise Failed(f"{controller.user_id} was not host and got {controller.leaked}")
        known = self.tower.learned | self.relief.learned
        callsigns = {report.known["callsign"] for a in self.flown for report in a.flight.reports}
        if missing := {name for name in callsigns if name.encode() not in known}:
            raise Failed(f"no host ever saw {', '.join(missing)}")


async def play(chosen) -> Play:
    recorded = recording.load(chosen.minutes)
    async with grpc.aio.insecure_channel(chosen.address) as channel:
        played = Play(channel, recorded, chosen)
        try:
            await played.run()
        except BaseException:
            with suppress(grpc.aio.AioRpcError):
                await played.delete()
            raise
        return played


def first_cause(error: BaseException) -> BaseException:
    return first_cause(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", nargs="?", default="localhost:7000", help="the server (%(default)s)")
    parser.add_argument("--app", default="tower", help="namespace (%(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=12.0, metavar="N", help="how much of it (%(default)s)"
    )
    parser.add_argument(
        "--speed", type=float, default=60.0, metavar="X", help="recorded over real time (%(default)s)"
    )
    parser.add_argument(
        "--patience", type=float, default=30.0, metavar="S", help="how long to wait (%(default)s)"
    )
    chosen = parser.parse_args()
    try:
        played = asyncio.run(play(chosen))
    except KeyboardInterrupt:
        print("tower: stopped", file=sys.stderr)
        return 1
    except (Failed, BrokenRule, grpc.aio.AioRpcError, BaseExceptionGroup) as group:
        cause = first_cause(group)
        if isinstance(cause, grpc.aio.AioRpcError):
            cause = f"{cause.code().name}: {cause.details()}"
        elif not isinstance(cause, (Failed, BrokenRule)):
            raise
        print(f"tower: FAILED: {cause}", file=sys.stderr)
        return 1
    heard = sum(aircraft.messages for aircraft in played.flown)
    print(
        f"tower: ok: {played.recorded.reports:,} reports of {played.recorded.aircraft} aircraft,"
        f" {played.compared} views compared, {heard:,} messages to aircraft"
        f" ({played.secrets.searched / 1e6:.1f} MB searched) without a prop of another"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
