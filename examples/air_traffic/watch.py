"""Watches the room: rebuilds its state from one subscription, shows it and proves it.

The state comes from nothing but the snapshot and the changes. Whenever the replayer stops the clock
(session data `checkpoint`, see replay.py) this program reads its own copy of the recording, compares
aircraft by aircraft and prop by prop, and answers in the session data `verdict/<name>`. In between,
every state that it is shown of an aircraft has to be one that the recording holds.
"""

import argparse
import random
import sys
import time
from contextlib import suppress

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

# The server is not there, or the room is not.
WORTH_WAITING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)

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
        self.messages = 0
        self.bytes = 0
        self.resumes = 0
        # States of single aircraft that were found in the recording.
        self.states = 0
        self._start_over()

    def run(self):
        """Until a room is closed at the end of the recording; raises what is wrong at once."""
        while not (self.state.over and self._closed_at_the_end()):
            if self.state.over:
                self.display.line("the room was closed early, waiting for another")
                self._start_over()
            try:
                self._follow()
            except grpc.RpcError as lost:
                comes_back = self.state.ended and not self.state.over
                if lost.code() not in WORTH_WAITING and not comes_back:
                    raise
                if time.monotonic() > self._heard + self.chosen.patience:
                    raise
                self.display.show(self)
                time.sleep(RETRY_S + self.state.wait_s)

    def _start_over(self):
        self.state = ClientState()
        self.checks = 0
        # The checkpoint that was answered last.
        self._answered = None
        # Joins and leaves before this program came.
        self._missed = None
        self._heard = time.monotonic()

    def _closed_at_the_end(self) -> bool:
        if self.state.ended.reason != wire.update.END_REASON_DELETED:
            reason = wire.update.EndReason.Name(self.state.ended.reason)
            raise Failed(f"the stream ended with {reason}: {self.state.ended.message}")
        return self._saw_the_end

    @property
    def _saw_the_end(self) -> bool:
        return self._answered is not None and self._answered["moment"] >= self.recorded.ends_at

    def _follow(self):
        """One subscription, from the first message until it ends or is cut."""
        resumed = self.state.resume()
        snapshots = self.state.snapshots
        call = self.streams.SubscribeToSession(
            self._request(resumed), metadata=() if self.chosen.spectator else wire.AS_APP
        )
        cut_at = time.monotonic() + self.chosen.cut_every if self.chosen.cut_every else None
        for response in call:
            self._heard = time.monotonic()
            self.messages += 1
            self.bytes += response.ByteSize()
            moved = self.state.apply(response.update)
            if resumed:
                if self.state.snapshots > snapshots:
                    raise Failed(f"resuming at {resumed.revision} was answered with a snapshot")
                self.resumes += 1
                resumed = None
            if moved:
                self._compare_reports()
                self._compare_checkpoint()
            self.display.show(self)
            # After the end the room is closed at once: a watcher that is cut then would miss it.
            if cut_at and self._heard > cut_at and not self._saw_the_end:
                call.cancel()
                away = random.uniform(0, CUT_S)
                self.display.line(f"cut at revision {self.state.revision} for {away * 1000:.0f} ms")
                time.sleep(away)
                return
        if not self.state.ended:
            raise Failed("the stream ended without saying why")

    def _request(self, place):
        """The same options every time: a resume with others would be answered with a snapshot."""
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

    def _compare_reports(self):
        """A report is one write, so it shows as a whole or not at all: at any time, what is known of
        an aircraft is what it said in one second of the recording."""
        for aircraft, props in self.state.senders.items():
            report = self.recorded.last_report(aircraft, props.get("timestamp", 0))
            if report is None or report.known != props:
                said = {aircraft: report.known} if report else {}
                named = "; ".join(recording.differences(said, {aircraft: props})[:NAMED])
                raise Failed(f"at revision {self.state.revision}: {named}")
            self.states += 1

    def _compare_checkpoint(self):
        checkpoint = self.state.data.get(options.CHECKPOINT)
        if checkpoint is None or checkpoint == self._answered:
            return
        self._answered = checkpoint
        if wrong := self._wrong(checkpoint):
            named = "; ".join(wrong[:NAMED])
            raise Failed(f"at {clock(checkpoint['moment'])}: {len(wrong)} differences: {named}")
        self.answer()
        # Number 0 is the empty room, before the first aircraft.
        self.checks += checkpoint["number"] > 0
        self.display.line(
            f"{clock(checkpoint['moment'])}  revision {self.state.revision}:"
            f" {len(self.state.senders)} aircraft equal,"
            f" {self.state.joins} joins, {self.state.leaves} leaves"
        )

    def _wrong(self, checkpoint: dict) -> list[str]:
        moment = checkpoint["moment"]
        wrong = recording.differences(self.recorded.state_at(moment), self.state.senders)
        expected = self.recorded.joins_until(moment), self.recorded.leaves_until(moment)
        played = checkpoint["joins"], checkpoint["leaves"]
        if played != expected:
            wrong.append(f"{played} joins and leaves were played instead of {expected}")
        counted = self.state.joins, self.state.leaves
        if self._missed is None:
            # A watcher that comes to the empty room has missed nothing.
            self._missed = expected[0] - counted[0], expected[1] - counted[1]
        counted = counted[0] + self._missed[0], counted[1] + self._missed[1]
        if counted != expected:
            wrong.append(f"{counted} joins and leaves were seen instead of {expected}")
        return wrong

    def answer(self, wrong: str = ""):
        """Tells the replayer that the last checkpoint was passed, or at any time what is wrong."""
        request = wire.service.SetSessionDataRequest(
            app=self.chosen.app, session_id=self.chosen.session
        )
        verdict = {
            "number": self._answered["number"] if self._answered else 0,
            "wrong": wrong,
            "epoch": self.state.epoch,
            "revision": self.state.revision,
            "joins": self.state.joins,
            "leaves": self.state.leaves,
            "messages": self.messages,
            "bytes": self.bytes,
            "resumes": self.resumes,
            "states": self.states,
        }
        wire.fill(request.set, {options.VERDICT + self.chosen.name: verdict})
        try:
            self.calls.SetSessionData(request, metadata=wire.AS_APP)
        except grpc.RpcError as refused:
            # A replayer that waits for nobody may have closed the room.
            if refused.code() is not grpc.StatusCode.NOT_FOUND:
                raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_shared(parser)
    parser.add_argument("--name", default="watcher", help="name of this watcher (%(default)s)")
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
            with suppress(grpc.RpcError):
                watch.answer(failed)
        except grpc.RpcError as refused:
            failed = f"{refused.code().name}: {refused.details()}"
        except KeyboardInterrupt:
            failed = "stopped"
    if failed:
        print(f"watch: {failed}", file=sys.stderr)
        return 1
    print(
        f"watch: {watch.checks} checks passed, {watch.state.joins} joins, {watch.state.leaves} leaves,"
        f" {watch.messages:,} messages, {watch.bytes:,} bytes, {watch.resumes} resumes,"
        f" {watch.states:,} states found in the recording"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
