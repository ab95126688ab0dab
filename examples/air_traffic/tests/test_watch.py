import unittest
from types import SimpleNamespace

import grpc

import options
import wire
from client_state import LostMessage
from display import WatchDisplay
from recording import Recording
from tests.test_client_state import MEMBER, changes, member, snapshot
from tests.test_recording import at, report
from watch import Failed, Watch

RECORDED = Recording([report(0, squawk="1"), report(1, squawk="2"), report(2)])
FIRST, SECOND, THIRD = (RECORDED.last_report("a", at(second)).known for second in range(3))


def checkpoint(number: int, moment: int, joins: int, leaves: int) -> dict:
    return {
        options.CHECKPOINT: {"number": number, "moment": moment, "joins": joins, "leaves": leaves}
    }


def stream() -> list:
    """The whole recording as a subscriber gets it."""
    return [
        snapshot(1),
        changes(1, 2, data=checkpoint(0, at(-1), 0, 0)),
        changes(2, 3, member("a", MEMBER, **FIRST), data_removed=[options.CHECKPOINT]),
        changes(3, 4, member("a", **SECOND)),
        changes(4, 5, data=checkpoint(1, at(1), 1, 0)),
        changes(5, 6, member("a", removed=["squawk"], **THIRD), data_removed=[options.CHECKPOINT]),
        changes(6, 7, left=["a"]),
        changes(7, 8, data=checkpoint(2, RECORDED.ends_at, 1, 1)),
        wire.update.SessionUpdate(ended=wire.update.Ended(reason=wire.update.END_REASON_DELETED)),
    ]


class Gone(grpc.RpcError):
    def code(self):
        return grpc.StatusCode.NOT_FOUND


class Watched(Watch):
    """A watch of a stream that was written beforehand."""

    def __init__(self, updates: list):
        chosen = SimpleNamespace(
            address="127.0.0.1:1", app="", session="", name="w", spectator=False, cut_every=0.0, patience=0.0
        )
        super().__init__(chosen, RECORDED, WatchDisplay(plain=True))
        self.display.line = lambda text: None
        self.answers = []
        self.calls = SimpleNamespace(SetSessionData=self.take_answer)
        self.updates = iter(updates)
        self.streams = SimpleNamespace(SubscribeToSession=self.subscribe)

    def take_answer(self, request, metadata):
        self.answers.append((request, metadata))

    def subscribe(self, request, metadata):
        count = 0
        for count, update in enumerate(self.updates, 1):
            yield wire.delivery.SubscribeToSessionResponse(update=update)
        if not count:
            raise Gone


class Watching(unittest.TestCase):
    def test_the_recording_as_it_is_passes(self):
        watch = Watched(stream())
        watch.run()
        self.assertEqual((watch.checks, watch.state.joins, watch.state.leaves), (2, 1, 1))
        self.assertEqual([metadata for _, metadata in watch.answers], [wire.AS_APP] * 3)

    def test_a_wrong_prop_fails(self):
        updates = stream()
        updates[3] = changes(3, 4, member("a", **{**SECOND, "squawk": "7700"}))
        with self.assertRaisesRegex(Failed, "squawk: '7700' instead of '2'"):
            Watched(updates).run()

    def test_a_prop_that_stays_although_unknown_fails(self):
        updates = stream()
        updates[5] = changes(5, 6, member("a", **THIRD), data_removed=[options.CHECKPOINT])
        with self.assertRaisesRegex(Failed, "squawk: '2' instead of None"):
            Watched(updates).run()

    def test_half_a_report_fails(self):
        updates = stream()
        updates[3] = changes(3, 4, member("a", timestamp=SECOND["timestamp"]))
        with self.assertRaisesRegex(Failed, "squawk: '1' instead of '2'"):
            Watched(updates).run()

    def test_an_old_state_at_a_checkpoint_fails(self):
        updates = stream()
        updates[3] = changes(3, 4, data={"other": 1})
        with self.assertRaisesRegex(Failed, "differences"):
            Watched(updates).run()

    def test_a_member_that_stays_fails(self):
        updates = stream()
        updates[6] = changes(6, 7, data={"other": 1})
        with self.assertRaisesRegex(Failed, "a should not be there"):
            Watched(updates).run()

    def test_a_leave_and_join_too_many_fail(self):
        updates = stream()
        updates[3] = changes(3, 4, member("a", MEMBER, replaces=True, **SECOND))
        with self.assertRaisesRegex(Failed, r"\(2, 1\) joins and leaves were seen instead of \(1, 0\)"):
            Watched(updates).run()

    def test_a_dropped_message_fails(self):
        for dropped in range(1, 7):
            updates = stream()
            del updates[dropped]
            with self.assertRaises((LostMessage, Failed)):
                Watched(updates).run()

    def test_a_room_that_is_closed_early_and_does_not_come_back_fails(self):
        updates = stream()
        del updates[7]
        with self.assertRaises(Gone):
            Watched(updates).run()

    def test_a_stream_that_just_stops_fails(self):
        with self.assertRaises(Failed):
            Watched(stream()[:4]).run()


if __name__ == "__main__":
    unittest.main()
