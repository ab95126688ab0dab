"""Plays the recording into a room: every aircraft is a user that joins, writes and leaves.

Every aircraft has a stream of its own (StreamUserProps) and sends each of its reports as one write:
what the report knows is set, what it does not know is removed. At every checkpoint the clock stops:

1. everything that was sent is acknowledged, so it is in a frame;
2. the session data `checkpoint` is set, with the recorded moment; the frame that the reply names, and
   any later one, holds exactly the state of that moment;
3. every watcher compares and answers in the session data `verdict/<watcher>`;
4. `checkpoint` is removed, and the clock goes on. So the recording stands still while it is there.
"""

import argparse
import asyncio
import gc
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

import grpc
from google.protobuf.duration_pb2 import Duration

import options
import recording
import wire
from client_state import BrokenRule, ClientState
from display import ReplayDisplay

# How often reports that fell due are handed over.
ROUND_S = 0.01

# After a stall longer than this the recorded clock is late for good. Catching up at once would be a
# burst, and the server takes at most 200 writes a second of one user (burst: one second's worth). It
# merges more than that.
CATCH_UP_S = 0.3

# Above this speed an aircraft has more than one report in a round, and only its latest is sent: a
# report is a whole state, so nothing is lost but the steps between. Below it, every report is sent.
MERGE_ABOVE_SPEED = 160

# How long the room is kept if this program dies.
EMPTY_TTL_S = 600

RECONNECT_S = 0.5


class Failed(Exception):
    """The server refused something or a check was not passed."""


@dataclass
class Outcome:
    reports: int = 0
    sent: int = 0
    joins: int = 0
    leaves: int = 0
    checks: int = 0
    seconds: float = 0.0
    speed: float = 0.0
    # The last answer of every watcher.
    verdicts: dict = field(default_factory=dict)


class Room:
    """The session, and this program's view of it: the data, not the props. All of it as the app."""

    def __init__(self, channel, app: str, session_id: str):
        self.calls = wire.service_grpc.SessionServiceStub(channel)
        self.streams = wire.delivery_grpc.DeliveryServiceStub(channel)
        self.app = app
        self.session_id = session_id
        self.state = ClientState()
        self._changed = asyncio.Event()

    async def open(self, checkpoint: dict, patience: float):
        request = wire.service.OpenSharedSessionRequest(
            app=self.app,
            session_id=self.session_id,
            settings=wire.session.SessionSettings(empty_ttl=Duration(seconds=EMPTY_TTL_S)),
        )
        wire.fill(request.data, {options.CHECKPOINT: checkpoint})
        try:
            await self.calls.OpenSharedSession(
                request, metadata=wire.AS_APP, timeout=patience, wait_for_ready=True
            )
        except grpc.aio.AioRpcError as refused:
            if refused.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
            # Left behind by a run that was killed.
            await self.delete()
            await self.calls.OpenSharedSession(request, metadata=wire.AS_APP)

    async def delete(self):
        await self.calls.DeleteSession(
            wire.service.DeleteSessionRequest(app=self.app, session_id=self.session_id),
            metadata=wire.AS_APP,
        )

    async def stop_clock(self, checkpoint: dict):
        request = wire.service.SetSessionDataRequest(app=self.app, session_id=self.session_id)
        wire.fill(request.set, {options.CHECKPOINT: checkpoint})
        return (await self.calls.SetSessionData(request, metadata=wire.AS_APP)).position

    async def start_clock(self):
        await self.calls.SetSessionData(
            wire.service.SetSessionDataRequest(
                app=self.app, session_id=self.session_id, remove=[options.CHECKPOINT]
            ),
            metadata=wire.AS_APP,
        )

    async def listen(self):
        """Follows the session data for as long as the room is there."""
        while not self.state.over:
            request = wire.delivery.SubscribeToSessionRequest(
                app=self.app,
                session_id=self.session_id,
                # No aircraft has such a prop: frames that only move aircraft do not come here.
                options=wire.update.DeliveryOptions(props=["none"]),
            )
            if place := self.state.resume():
                request.resume.position.epoch = place.epoch
                request.resume.position.revision = place.revision
                request.resume.view = place.view
            try:
                async for response in self.streams.SubscribeToSession(request, metadata=wire.AS_APP):
                    self.state.apply(response.update)
                    self._changed.set()
            except grpc.aio.AioRpcError as lost:
                if not self.state.ended and lost.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(RECONNECT_S + self.state.wait_s)

    async def verdicts(self, number: int, watchers: int, patience: float) -> dict[str, dict]:
        """The answers to a checkpoint, by watcher, once there are enough."""
        try:
            async with asyncio.timeout(patience):
                while True:
                    self._changed.clear()
                    answers = {
                        key.removeprefix(options.VERDICT): answer
                        for key, answer in self.state.data.items()
                        if key.startswith(options.VERDICT)
                        and (answer["number"] == number or answer["wrong"])
                    }
                    for watcher, answer in answers.items():
                        if answer["wrong"]:
                            raise Failed(f"checkpoint {number}: {watcher}: {answer['wrong']}")
                    if len(answers) >= watchers:
                        return answers
                    await self._changed.wait()
        except TimeoutError:
            raise Failed(
                f"{watchers} watchers should answer to checkpoint {number}, {len(answers)} did"
            ) from None


class Pilot:
    """Sends one flight: joins, writes, leaves."""

    def __init__(self, room: Room, flight: recording.Flight, merge: bool, outcome: Outcome):
        self.room = room
        self.flight = flight
        self.merge = merge
        self.outcome = outcome
        self.settled = asyncio.Event()
        self._due: deque = deque()
        self._unacked: deque = deque()
        self._seq = 0
        self._landing = False
        self._wake = asyncio.Event()
        # How long the server asks to wait before connecting again.
        self._wait_s = 0.0
        self._write_failed = False

    def hand_over(self, report: recording.Report | None):
        """A report to send; None: the flight is over."""
        if report is None:
            self._landing = True
        elif self.merge and self._due:
            self._due[-1] = report
        else:
            self._due.append(report)
        self.settled.clear()
        self._wake.set()

    async def fly(self, previous: asyncio.Task | None):
        if previous:
            await previous
        await self._join(self._due.popleft())
        while not (self._landing and self._all_acked()):
            try:
                await self._stream()
            except grpc.aio.AioRpcError as lost:
                if lost.code() is not grpc.StatusCode.UNAVAILABLE and not self._write_failed:
                    raise
                # What is not acknowledged may or may not be there; sent again it changes nothing.
                self._due.extendleft(report for _, report in reversed(self._unacked))
                self._unacked.clear()
                await asyncio.sleep(RECONNECT_S + self._wait_s)
        await self._leave()
        self.settled.set()

    async def _join(self, report: recording.Report):
        request = wire.service.JoinSessionRequest(
            app=self.room.app,
            session_id=self.room.session_id,
            user_id=self.flight.aircraft,
            omit_snapshot=True,
        )
        wire.fill(request.join.props, report.known)
        await self.room.calls.JoinSession(request)
        self.outcome.joins += 1
        self.outcome.sent += 1
        self._settle()

    async def _leave(self):
        await self.room.calls.LeaveSession(
            wire.service.LeaveSessionRequest(
                app=self.room.app, session_id=self.room.session_id, user_id=self.flight.aircraft
            )
        )
        self.outcome.leaves += 1

    async def _stream(self):
        """One stream: writes up, acknowledgements down, until the flight is over."""
        call = self.room.streams.StreamUserProps()
        sending = asyncio.create_task(self._send(call))
        try:
            async for response in call:
                if response.HasField("go_away"):
                    delay = response.go_away.reconnect_delay
                    self._wait_s = delay.ToTimedelta().total_seconds()
                for refusal in response.refusals:
                    reason = wire.error.ErrorReason.Name(refusal.reason)
                    raise Failed(f"{self.flight.aircraft}: {reason}: {refusal.message}")
                while self._unacked and self._unacked[0][0] <= response.acked_seq:
                    self._unacked.popleft()
                self._settle()
        finally:
            sending.cancel()

    async def _send(self, call):
        self._write_failed = False
        try:
            await call.write(self._open())
            while not (self._landing and self._all_acked()):
                self._wake.clear()
                while self._due:
                    await call.write(self._write(self._due.popleft()))
                await self._wake.wait()
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The stream had ended. Now its reader may get grpc's own INTERNAL instead of the server's
            # status. A new stream shows what is wrong.
            self._write_failed = True

    def _open(self):
        self._seq += 1
        request = wire.delivery.StreamUserPropsRequest(seq=self._seq)
        request.open.app = self.room.app
        request.open.user_id = self.flight.aircraft
        return request

    def _write(self, report: recording.Report):
        self._seq += 1
        self._unacked.append((self._seq, report))
        self.outcome.sent += 1
        request = wire.delivery.StreamUserPropsRequest(seq=self._seq)
        write = request.write
        write.session_ids.append(self.room.session_id)
        wire.fill(write.set, report.known)
        write.remove.extend(report.unknown)
        return request

    def _all_acked(self) -> bool:
        return not self._due and not self._unacked

    def _settle(self):
        if self._all_acked():
            if self._landing:
                self._wake.set()
            else:
                self.settled.set()


class Replay:
    def __init__(self, room: Room, recorded: recording.Recording, chosen, display: ReplayDisplay):
        self.room = room
        self.recorded = recorded
        self.chosen = chosen
        self.display = display
        self.outcome = Outcome(reports=recorded.reports)
        self.now = recorded.begins_at - 1
        self._events = deque(recorded.events())
        self._in_air: dict[str, Pilot] = {}
        self._settling: set[Pilot] = set()
        self._flights: dict[str, asyncio.Task] = {}

    async def run(self) -> Outcome:
        await self.room.open(self._checkpoint(0, self.now), self.chosen.patience)
        try:
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self.room.listen())
                self.display.line(f"room {self.room.session_id} is open, waiting for watchers")
                # Checkpoint 0 is the empty room.
                await self._judge(0, None)
                began, played = time.monotonic(), 0.0
                for number, moment in enumerate(self.recorded.checkpoints(), 1):
                    played += await self._play_until(moment, tasks)
                    await self._check(number, moment)
                self.outcome.seconds = time.monotonic() - began
                length = self.recorded.ends_at - self.recorded.begins_at
                self.outcome.speed = length / 1000 / played
                await self.room.delete()
                await listening
        except BaseExceptionGroup as group:
            raise first_cause(group) from None
        finally:
            if not self.room.state.over:
                with suppress(grpc.aio.AioRpcError):
                    await self.room.delete()
        return self.outcome

    async def _play_until(self, moment: int, tasks: asyncio.TaskGroup) -> float:
        """Hands over what falls due until a moment; returns the real seconds that it took."""
        await self.room.start_clock()
        began = last = time.monotonic()
        while self.now < moment:
            await asyncio.sleep(ROUND_S)
            now = time.monotonic()
            self.now = min(moment, self.now + min(now - last, CATCH_UP_S) * self.chosen.speed * 1000)
            last = now
            while self._events and self._events[0].moment <= self.now:
                self._hand_over(self._events.popleft(), tasks)
            self.display.progress(self.now, len(self._in_air), self.outcome)
        return time.monotonic() - began

    def _hand_over(self, event: recording.Event, tasks: asyncio.TaskGroup):
        aircraft = event.flight.aircraft
        pilot = self._in_air.get(aircraft)
        if pilot is None:
            merge = self.chosen.speed > MERGE_ABOVE_SPEED
            pilot = self._in_air[aircraft] = Pilot(self.room, event.flight, merge, self.outcome)
            pilot.hand_over(event.report)
            previous = self._flights.get(aircraft)
            self._flights[aircraft] = tasks.create_task(pilot.fly(previous))
        else:
            pilot.hand_over(event.report)
            if event.report is None:
                del self._in_air[aircraft]
        self._settling.add(pilot)

    async def _check(self, number: int, moment: int):
        try:
            async with asyncio.timeout(self.chosen.patience):
                for pilot in self._settling:
                    await pilot.settled.wait()
        except TimeoutError:
            raise Failed(f"checkpoint {number}: not all that was sent was acknowledged") from None
        self._settling.clear()
        position = await self.room.stop_clock(self._checkpoint(number, moment))
        await self._judge(number, position)

    async def _judge(self, number: int, position):
        """Waits for the watchers; the recording stands still at this position meanwhile."""
        verdicts = await self.room.verdicts(number, self.chosen.watchers, self.chosen.patience)
        self.outcome.verdicts |= verdicts
        for watcher, verdict in verdicts.items():
            if position and (
                verdict["epoch"] != position.epoch or verdict["revision"] < position.revision
            ):
                raise Failed(f"checkpoint {number}: {watcher} compared before {position.revision}")
        if position:
            self.outcome.checks += 1
            self.display.checked(number, self.now, position.revision, self.outcome, verdicts)

    def _checkpoint(self, number: int, moment: int) -> dict:
        return {
            "number": number,
            "moment": int(moment),
            "joins": self.outcome.joins,
            "leaves": self.outcome.leaves,
        }


def first_cause(group: BaseExceptionGroup) -> BaseException:
    cause = group.exceptions[0]
    return first_cause(cause) if isinstance(cause, BaseExceptionGroup) else cause


async def replay(chosen, display: ReplayDisplay, recorded: recording.Recording) -> Outcome:
    # The recording stays as it is: without this, the collector walks through it again and again.
    gc.collect()
    gc.freeze()
    async with grpc.aio.insecure_channel(chosen.address) as channel:
        room = Room(channel, chosen.app, chosen.session)
        with display:
            return await Replay(room, recorded, chosen, display).run()


def play(chosen, display: ReplayDisplay, recorded: recording.Recording) -> Outcome | None:
    """The replay as a whole; None, with the reason on stderr, if it failed."""
    try:
        return asyncio.run(replay(chosen, display, recorded))
    except grpc.aio.AioRpcError as refused:
        print(f"replay: {refused.code().name}: {refused.details()}", file=sys.stderr)
    except KeyboardInterrupt:
        print("replay: stopped", file=sys.stderr)
    except (Failed, BrokenRule) as failed:
        print(f"replay: {type(failed).__name__}: {failed}", file=sys.stderr)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_shared(parser)
    options.add_replay(parser)
    chosen = parser.parse_args()
    recorded = recording.load(chosen.minutes)
    outcome = play(chosen, ReplayDisplay(recorded), recorded)
    if outcome is None:
        return 1
    print(
        f"replay: {outcome.reports:,} reports in {outcome.sent:,} writes, {outcome.joins} joins,"
        f" {outcome.leaves} leaves, {outcome.checks} checks passed,"
        f" {outcome.seconds:.1f} s, {outcome.speed:.0f} x"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
