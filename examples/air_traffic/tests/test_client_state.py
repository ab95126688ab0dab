import unittest

import wire
from client_state import BrokenRule, ClientState, LostMessage
from recording import differences

MEMBER = wire.session.ROLE_MEMBER
SPECTATOR = wire.session.ROLE_SPECTATOR


def named(values: dict) -> list:
    """Values as the entries of an update."""
    entries = wire.write.PropsWrite()
    wire.fill(entries.set, values)
    items = []
    for name, value in entries.set.items():
        item = wire.value.NamedValue.FromString(value.SerializeToString())
        item.name = name
        items.append(item)
    return items


def member(user_id: str, role: int = 0, removed=(), replaces: bool = False, order: int = 0, **props):
    return wire.update.MemberChange(
        user_id=user_id,
        role=role,
        props=named(props),
        removed=removed,
        replaces=replaces,
        join_order=order,
    )


def changes(since: int, to: int, *members, left=(), more=False, data=None, data_removed=()):
    return wire.update.SessionUpdate(
        from_revision=since,
        to_revision=to,
        more=more,
        changes=wire.update.Changes(
            members=members,
            left=[wire.update.Departure(user_id=user_id) for user_id in left],
            data=named(data or {}),
            data_removed=data_removed,
        ),
    )


def snapshot(to: int, *members, epoch: int = 1, more=False, left=()):
    state = wire.update.Changes(
        members=members, left=[wire.update.Departure(user_id=user_id) for user_id in left]
    )
    return wire.update.SessionUpdate(
        epoch=epoch, to_revision=to, more=more, snapshot=wire.update.Snapshot(view=7, state=state)
    )


def heartbeat(to: int):
    return wire.update.SessionUpdate(to_revision=to, heartbeat=wire.update.Heartbeat())


def after(*updates) -> ClientState:
    state = ClientState()
    for update in updates:
        state.apply(update)
    return state


class Steps(unittest.TestCase):
    def test_a_snapshot_is_the_state(self):
        state = after(snapshot(5, member("a", MEMBER, x=1.0, on=False)))
        self.assertEqual(state.senders, {"a": {"x": 1.0, "on": False}})
        self.assertEqual(state.resume(), (1, 5, 7))

    def test_a_second_snapshot_forgets_everything(self):
        state = after(
            snapshot(5, member("a", MEMBER, x=1.0), member("b", MEMBER)),
            snapshot(9, member("b", MEMBER), member("c", MEMBER, y=2), epoch=2, left=["a"]),
        )
        self.assertEqual(state.senders, {"b": {}, "c": {"y": 2}})
        self.assertEqual((state.joins, state.leaves, state.epoch, state.revision), (3, 1, 2, 9))

    def test_members_are_in_join_order_however_they_are_listed(self):
        state = after(
            snapshot(1, member("zed", MEMBER, order=1)),
            changes(1, 4, *(member(user, MEMBER, order=order) for user, order in (("kim", 4), ("amy", 3)))),
            changes(4, 5, member("zed", MEMBER, replaces=True, order=5), member("bob", MEMBER, order=2)),
        )
        self.assertEqual(list(state.members), ["bob", "amy", "kim", "zed"])

    def test_changes_set_and_remove(self):
        state = after(
            snapshot(1, member("a", MEMBER, x=1.0, y=2.0)),
            changes(1, 2, member("a", removed=["x"], y=3.0, z="text")),
        )
        self.assertEqual(state.senders, {"a": {"y": 3.0, "z": "text"}})
        self.assertEqual(state.revision, 2)

    def test_from_may_lie_before_the_own_revision(self):
        state = after(snapshot(5, member("a", MEMBER)), changes(3, 7, member("a", x=1)))
        self.assertEqual(state.senders, {"a": {"x": 1}})

    def test_what_is_known_already_is_ignored(self):
        state = after(snapshot(5, member("a", MEMBER, x=2)))
        self.assertFalse(state.apply(changes(3, 5, member("a", x=1))))
        self.assertEqual(state.senders, {"a": {"x": 2}})

    def test_a_heartbeat_moves_the_revision(self):
        state = after(snapshot(5, member("a", MEMBER)), heartbeat(8), changes(7, 9, member("a", x=1)))
        self.assertEqual(state.revision, 9)

    def test_a_heartbeat_before_there_is_anything_to_show_changes_nothing(self):
        state = after(heartbeat(0), snapshot(5, member("a", MEMBER)))
        self.assertEqual(state.revision, 5)
        state.resume()
        self.assertFalse(state.apply(heartbeat(0)))
        self.assertEqual(state.revision, 5)

    def test_data_is_set_then_removed(self):
        state = after(snapshot(1), changes(1, 2, data={"k": {"n": 1, "s": "x"}}))
        self.assertEqual(state.data, {"k": {"n": 1, "s": "x"}})
        state.apply(changes(2, 3, data_removed=["k"]))
        self.assertEqual(state.data, {})

    def test_parts_are_applied_together(self):
        state = after(snapshot(1, member("a", MEMBER, x=1)))
        self.assertFalse(state.apply(changes(1, 2, member("a", x=2), more=True)))
        self.assertEqual((state.revision, state.senders), (1, {"a": {"x": 1}}))
        self.assertTrue(state.apply(changes(1, 2, member("a", y=3), member("b", MEMBER))))
        self.assertEqual((state.revision, state.senders), (2, {"a": {"x": 2, "y": 3}, "b": {}}))

    def test_a_snapshot_in_parts_goes_on_as_changes(self):
        state = after(
            snapshot(4, member("a", MEMBER, x=1), more=True),
            changes(0, 4, member("a", y=2), member("b", MEMBER)),
        )
        self.assertEqual(state.senders, {"a": {"x": 1, "y": 2}, "b": {}})

    def test_resuming_forgets_unfinished_parts(self):
        state = after(snapshot(1, member("a", MEMBER)), changes(1, 2, member("a", x=1), more=True))
        self.assertEqual(state.resume(), (1, 1, 7))
        state.apply(changes(1, 3, member("a", y=1)))
        self.assertEqual(state.senders, {"a": {"y": 1}})

    def test_ended_is_over_unless_one_comes_back(self):
        for reason, over in (
            (wire.update.END_REASON_DELETED, True),
            (wire.update.END_REASON_KICKED, True),
            (wire.update.END_REASON_AGE, False),
            (wire.update.END_REASON_DRAINING, False),
        ):
            state = after(snapshot(1))
            state.apply(wire.update.SessionUpdate(ended=wire.update.Ended(reason=reason)))
            self.assertEqual(state.over, over)


class JoinsAndLeaves(unittest.TestCase):
    def test_each_is_counted(self):
        state = after(snapshot(1), changes(1, 2, member("a", MEMBER)), changes(2, 3, left=["a"]))
        self.assertEqual((state.joins, state.leaves, state.senders), (1, 1, {}))

    def test_replaces_is_a_leave_and_a_join(self):
        state = after(
            snapshot(1, member("a", MEMBER, x=1, y=1), member("b", MEMBER)),
            changes(1, 2, member("a", MEMBER, replaces=True, order=2, x=2)),
        )
        self.assertEqual((state.joins, state.leaves), (3, 1))
        self.assertEqual(list(state.senders.items()), [("b", {}), ("a", {"x": 2})])

    def test_who_came_and_went_unseen_is_counted_if_named(self):
        state = after(snapshot(1), changes(1, 9, left=["a"]))
        self.assertEqual((state.joins, state.leaves), (1, 1))

    def test_a_snapshot_on_an_open_stream_names_all_that_left(self):
        before = snapshot(1, member("a", MEMBER), member("b", MEMBER))
        state = after(before, snapshot(5, member("b", MEMBER), left=["a", "c"]))
        self.assertEqual((state.joins, state.leaves), (3, 2))
        with self.assertRaises(LostMessage):
            after(before, snapshot(5, member("b", MEMBER)))

    def test_the_snapshot_of_a_new_stream_names_nobody(self):
        state = after(snapshot(1, member("a", MEMBER), member("b", MEMBER)))
        state.resume()
        state.apply(snapshot(5, member("b", MEMBER)))
        self.assertEqual((state.joins, state.leaves), (2, 1))

    def test_spectators_do_not_count(self):
        state = after(
            snapshot(1, member("s", SPECTATOR)),
            changes(1, 2, member("s", SPECTATOR, replaces=True), member("a", MEMBER)),
            changes(2, 3, left=["s"]),
        )
        self.assertEqual((state.joins, state.leaves, list(state.senders)), (1, 0, ["a"]))


class PlantedErrors(unittest.TestCase):
    def test_a_dropped_message_is_detected(self):
        stream = [
            snapshot(1, member("a", MEMBER, x=1)),
            *(changes(n, n + 1, member("a", x=n)) for n in range(1, 9)),
        ]
        after(*stream)
        for dropped in range(1, len(stream) - 1):
            with self.assertRaises(LostMessage):
                after(*stream[:dropped], *stream[dropped + 1 :])

    def test_a_dropped_snapshot_is_detected(self):
        for since in (0, 1):
            with self.assertRaises(LostMessage):
                after(changes(since, 2, member("a", MEMBER)))
        with self.assertRaises(BrokenRule):
            after(heartbeat(2))

    def test_a_dropped_part_is_detected(self):
        with self.assertRaises(BrokenRule):
            after(snapshot(1), changes(1, 2, member("a", MEMBER), more=True), changes(2, 3))

    def test_changes_of_somebody_unknown_are_detected(self):
        with self.assertRaises(LostMessage):
            after(snapshot(1), changes(1, 2, member("a", x=1)))

    def test_a_heartbeat_that_goes_back_is_detected(self):
        with self.assertRaises(BrokenRule):
            after(snapshot(5), heartbeat(4))
        with self.assertRaises(BrokenRule):
            after(snapshot(5), heartbeat(0))

    def test_a_step_to_nowhere_is_detected(self):
        with self.assertRaises(BrokenRule):
            after(snapshot(5), changes(5, 5))

    def test_left_and_changed_at_once_is_detected(self):
        with self.assertRaises(BrokenRule):
            after(snapshot(1), changes(1, 2, member("a", MEMBER), left=["a"]))

    def test_anything_after_the_end_is_detected(self):
        state = after(snapshot(1))
        state.apply(
            wire.update.SessionUpdate(ended=wire.update.Ended(reason=wire.update.END_REASON_DELETED))
        )
        with self.assertRaises(BrokenRule):
            state.apply(heartbeat(1))

    def test_an_empty_update_is_detected(self):
        with self.assertRaises(BrokenRule):
            after(snapshot(1), wire.update.SessionUpdate(to_revision=2))

    def test_a_wrong_prop_is_detected(self):
        expected = {"a": {"x": 1.0, "y": "s"}}
        for props, wrong in (
            ({"x": 1.0, "y": "s"}, 0),
            ({"x": 1.5, "y": "s"}, 1),
            ({"x": 1, "y": "s"}, 1),
            ({"x": 1.0}, 1),
            ({"x": 1.0, "y": "s", "z": 0}, 1),
        ):
            state = after(snapshot(1, member("a", MEMBER, **props)))
            self.assertEqual(len(differences(expected, state.senders)), wrong)


class Values(unittest.TestCase):
    def test_types_survive(self):
        values = {"i": 2**60, "n": 1.0, "f": False, "t": "", "m": {"deep": {"i": -1}}}
        found = {item.name: wire.plain(item) for item in named(values)}
        self.assertEqual(found, values)
        self.assertEqual({k: type(v) for k, v in found.items()}, {k: type(v) for k, v in values.items()})


if __name__ == "__main__":
    unittest.main()
