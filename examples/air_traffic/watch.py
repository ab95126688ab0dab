"""Watches the room: rebuilds its state from one subscription, shows it and proves it.

The state comes from nothing but the snapshot and the changes. Whenever the replayer stops the clock
(session data `checkpoint`, see replay.py) this program reads its own copy of the recording, compares
aircraft by aircraft and prop by prop, and answers in the session data `verdict/<name>`.
"""

import argparse
import random
import sys
import time

import grpc

import options
import recording
import wire
from client_state import BrokenRule, ClientState
from display import WatchDisplay, clock

RETRY_S = 0.2

# How long a cut lasts at most. An aircraft stays at least 0.6 s at 150 x: shorter cuts cannot hide a
# whole flight, so that joins and leaves still add up.
CUT_S = 0.15

# A verdict names at most so many differences.
NAMED = 3


class Failed(Exception):
    """What was received is not what has to be there."""


class Watch:
    def __init__(self, chosen, recorded: recording.Recording, display: WatchDisplay):
        channel = grpc.insecure_channel(chosen.address)
        self.calls = wire.service_grpc.SessionServiceStub(channel)
        self.streams = wire.delivery_grpc.DeliveryServiceStub(channel)
        self.chosen = chosen
        self.recorded = recorded
        self.display = display
        self.state = ClientState()
        self.messages = 0
        self.bytes = 0
        self.resumes = 0
        self.checks = 0
        # The checkpoint that was answered last.
        self._answered = None
        # Joins and leaves before this program came.
        self._missed = None

    def run(self):
        """Until the room is closed; raises Failed or BrokenRule as soon as something is wrong."""
        patience = time.monotonic() + self.chosen.patience
        while not self.state.ended:
            try:
                self._follow()
            except grpc.RpcError as lost:
                there_yet = self.state.snapshots or time.monotonic() > patience
                waiting = lost.code() is grpc.StatusCode.NOT_FOUND and not there_yet
                if not waiting and lost.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                if time.monotonic() > patience:
                    raise
                time.sleep(RETRY_S)
            else:
                patience = time.monotonic() + self.chosen.patience
        if self.state.ended.reason != wire.update.END_REASON_DELETED:
            reason = wire.update.EndReason.Name(self.state.ended.reason)
            raise Failed(f"the stream ended with {reason}: {self.state.ended.message}")
        if self._answered is None or self._answered["moment"] < self.recorded.ends_at:
            raise Failed("the room was closed before the end of the recording")

    def _follow(self):
        """One subscription, from the first message until it ends or is cut."""
        resumed = self.state.place()
        snapshots = self.state.snapshots
        call = self.streams.SubscribeToSession(self._request(resumed))
        cut_at = time.monotonic() + self.chosen.cut_every if self.chosen.cut_every else None
        for response in call:
            self.messages += 1
            self.bytes += response.ByteSize()
            moved = self.state.apply(response.update)
            if resumed:
                if self.state.snapshots > snapshots:
                    raise Failed(f"resuming at {resumed.revision} was answered with a snapshot")
                self.resumes += 1
                resumed = None
            if moved:
                self._compare()
            self.display.show(self)
            if cut_at and time.monotonic() > cut_at:
                call.cancel()
                away = random.uniform(0, CUT_S)
                self.display.line(f"cut at revision {self.state.revision} for {away * 1000:.0f} ms")
                time.sleep(away)
                return

    def _request(self, place):
        request = wire.delivery.SubscribeToSessionRequest(
            app=self.chosen.app, session_id=self.chosen.session
        )
        if self.chosen.spectator:
            request.user_id = self.chosen.name
            request.join.spectator = True
        if place:
            request.resume.position.epoch = place.epoch
            request.resume.position.revision = place.revision
            request.resume.view = place.view
        return request

    def _compare(self):
        checkpoint = self.state.data.get(options.CHECKPOINT)
        if checkpoint is None or checkpoint == self._answered:
            return
        self._answered = checkpoint
        wrong = self._wrong(checkpoint)
        text = f"{len(wrong)} differences, among them {'; '.join(wrong[:NAMED])}" if wrong else ""
        self._answer(checkpoint, text)
        if wrong:
            raise Failed(f"at {clock(checkpoint['moment'])}: {text}")
        self.checks += 1
        self.display.line(
            f"{clock(checkpoint['moment'])}  revision {self.state.revision}: {len(self.aircraft)}"
            f" aircraft equal, {self.state.joins} joins, {self.state.leaves} leaves"
        )

    @property
    def aircraft(self) -> dict[str, dict]:
        return {
            user_id: member.props
            for user_id, member in self.state.members.items()
            if member.role != wire.session.ROLE_SPECTATOR
        }

    def _wrong(self, checkpoint: dict) -> list[str]:
        moment = checkpoint["moment"]
        wrong = recording.differences(self.recorded.state_at(moment), self.aircraft)
        expected = self.recorded.joins_until(moment), self.recorded.leaves_until(moment)
        played = checkpoint["joins"], checkpoint["leaves"]
        if played != expected:
            wrong.append(f"{played} joins and leaves were played instead of {expected}")
        counted = self.state.joins, self.state.leaves
        if self._missed is None:
            # Who comes to the empty room has missed nothing.
            self._missed = expected[0] - counted[0], expected[1] - counted[1]
        counted = counted[0] + self._missed[0], counted[1] + self._missed[1]
        if counted != expected:
            wrong.append(f"{counted} joins and leaves were seen instead of {expected}")
        return wrong

    def _answer(self, checkpoint: dict, wrong: str):
        request = wire.service.SetSessionDataRequest(
            app=self.chosen.app, session_id=self.chosen.session
        )
        verdict = {
            "number": checkpoint["number"],
            "wrong": wrong,
            "epoch": self.state.epoch,
            "revision": self.state.revision,
            "joins": self.state.joins,
            "leaves": self.state.leaves,
            "messages": self.messages,
            "bytes": self.bytes,
            "resumes": self.resumes,
        }
        wire.fill(request.set, {options.VERDICT + self.chosen.name: verdict})
        self.calls.SetSessionData(request)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_shared(parser)
    parser.add_argument("--name", default="watcher", help="who answers (%(default)s)")
    parser.add_argument(
        "--spectator", action="store_true", help="join as a spectator instead of acting as the app"
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of the live table")
    parser.add_argument(
        "--cut-every",
        type=float,
        default=0.0,
        metavar="S",
        help="break the stream every so many seconds and resume where it was",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="S",
        help="how long to wait for the server or the room (%(default)s)",
    )
    chosen = parser.parse_args()
    recorded = recording.load(chosen.minutes)
    with WatchDisplay(chosen.plain) as display:
        watch = Watch(chosen, recorded, display)
        try:
            watch.run()
            failed = None
        except (Failed, BrokenRule) as wrong:
            failed = f"{type(wrong).__name__}: {wrong}"
        except grpc.RpcError as refused:
            failed = f"{refused.code().name}: {refused.details()}"
        except KeyboardInterrupt:
            failed = "stopped"
    if failed:
        print(f"watch: {failed}", file=sys.stderr)
        return 1
    print(
        f"watch: {watch.checks} checks passed, {watch.state.joins} joins, {watch.state.leaves} leaves,"
        f" {watch.messages:,} messages, {watch.bytes:,} bytes, {watch.resumes} resumes"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
