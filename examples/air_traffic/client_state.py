"""What a client knows of one session, rebuilt from the updates of a subscription.

This is all that a client has to do, as the comments of update.proto describe it: for LATEST and ALL
delivery, by name and in columns. It is strict: whatever the contract does not allow is an error.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import wire

# After these ends of a stream the client comes back and resumes; after the others it is over.
COMES_BACK = (
    wire.update.END_REASON_SLOW,
    wire.update.END_REASON_DRAINING,
    wire.update.END_REASON_AGE,
)


class BrokenRule(Exception):
    """An update that the contract does not allow."""


class LostMessage(BrokenRule):
    """An update that does not follow on the state: something between them never came."""


@dataclass
class Member:
    role: int
    join_order: int
    disconnected: bool = False
    props: dict = field(default_factory=dict)


class Place(NamedTuple):
    """Where to resume."""

    epoch: int
    revision: int
    view: int


class ClientState:
    def __init__(self):
        self.epoch = 0
        self.revision = 0
        self.view = 0
        self.session = None
        self.data: dict = {}
        self.private_data: dict = {}
        # By user id, in join order.
        self.members: dict[str, Member] = {}
        # The names of props in columns, by number. They stay for a resume.
        self._names: dict[int, str] = {}
        # Whether the next step is the first of its stream.
        self._is_first = True
        # Counted over all updates, spectators left out.
        self.joins = 0
        self.leaves = 0
        self.snapshots = 0
        # The last message of the stream, once it came.
        self.ended = None
        self._parts: list = []

    @property
    def over(self) -> bool:
        """The session has ended for this subscriber, not only the stream."""
        return self.ended is not None and self.ended.reason not in COMES_BACK

    @property
    def wait_s(self) -> float:
        """How long the server asks to wait before coming back."""
        if self.ended is None:
            return 0.0
        return self.ended.reconnect_delay.ToTimedelta().total_seconds()

    @property
    def senders(self) -> dict[str, dict]:
        """The props of all members who may write."""
        return {
            user_id: member.props
            for user_id, member in self.members.items()
            if member.role != wire.session.ROLE_SPECTATOR
        }

    def apply(self, update) -> bool:
        """Takes one SessionUpdate; True if the state moved on."""
        body = update.WhichOneof("body")
        if self.ended:
            raise BrokenRule(f"{body} after ended")
        if self._parts:
            self._expect_part(update, body)
        if body in ("snapshot", "changes", "log"):
            self._parts.append(update)
            if update.more:
                return False
            parts, self._parts = self._parts, []
            moved, self._is_first = self._step(parts), False
            return moved
        if body == "heartbeat":
            if update.to_revision == 0 and self._is_first:
                # The stream is alive, and there is nothing to show yet.
                return False
            if not self.snapshots:
                raise BrokenRule("a heartbeat before the first snapshot")
            if update.to_revision < self.revision:
                raise BrokenRule(f"a heartbeat at {update.to_revision}, after {self.revision}")
            self.revision, self._is_first = update.to_revision, False
            return True
        if body == "ended":
            self.ended = update.ended
            return False
        raise BrokenRule(f"an update with {body or 'nothing'} in it")

    def resume(self) -> Place | None:
        """Where a new subscription goes on; None = from a snapshot. To be called before each."""
        self._parts, self.ended, self._is_first = [], None, True
        return Place(self.epoch, self.revision, self.view) if self.snapshots else None

    def _expect_part(self, update, body):
        first = self._parts[0]
        same = (first.from_revision, first.to_revision) == (update.from_revision, update.to_revision)
        goes_on = "log" if first.WhichOneof("body") == "log" else "changes"
        if body != goes_on or not same:
            raise BrokenRule(f"{body} to {update.to_revision} within the step to {first.to_revision}")

    def _step(self, parts) -> bool:
        first = parts[0]
        if first.WhichOneof("body") == "snapshot":
            self._start_over(first, [first.snapshot.state, *(part.changes for part in parts[1:])])
            return True
        if first.from_revision >= first.to_revision:
            raise BrokenRule(f"a step from {first.from_revision} to {first.to_revision}")
        if first.to_revision <= self.revision:
            return False
        if not self.snapshots or first.from_revision > self.revision:
            raise LostMessage(
                f"the step {first.from_revision} to {first.to_revision} came at {self.revision}"
            )
        if first.WhichOneof("body") == "log":
            # One after the other: somebody may come and go within a step.
            for entry in (entry for part in parts for entry in part.log.updates):
                self._change([entry.change])
        else:
            self._change([part.changes for part in parts])
        self.revision = first.to_revision
        return True

    def _start_over(self, first, states):
        known, before = self.members.keys(), self.senders.keys()
        self.session, self.data, self.private_data, self.members = None, {}, {}, {}
        self._names = {}
        joins, leaves = self.joins, self.leaves
        self._change(states)
        after = self.senders.keys()
        left = {departure.user_id for changes in states for departure in changes.left}
        if not self._is_first and (unnamed := known - self.members.keys() - left):
            raise LostMessage(f"a snapshot without {', '.join(sorted(unnamed))} does not say that they left")
        # Those who came and went between two updates are named as well. The first snapshot of a stream
        # names nobody: there only members who are new and members who are gone can be counted.
        unseen = len(left - known)
        self.joins = joins + len(after - before) + unseen
        self.leaves = leaves + len(before - after) + unseen
        self.epoch, self.view, self.revision = first.epoch, first.snapshot.view, first.to_revision
        self.snapshots += 1

    def _change(self, steps):
        left = {departure.user_id for changes in steps for departure in changes.left}
        for changes in steps:
            if changes.HasField("session"):
                self.session = changes.session
            set_and_drop(self.data, changes.data, changes.data_removed)
            set_and_drop(self.private_data, changes.private_data, changes.private_data_removed)
            for change in changes.members:
                if change.user_id in left:
                    raise BrokenRule(f"{change.user_id} both left and changed")
                self._change_member(change)
        for user_id in left:
            if user_id in self.members:
                self._drop_member(user_id)
            else:
                # Came and went between two updates.
                self.joins += 1
                self.leaves += 1
        if any(change.join_order for changes in steps for change in changes.members):
            self.members = dict(sorted(self.members.items(), key=lambda member: member[1].join_order))
        for changes in steps:
            self._names.update({entry.number: entry.name for entry in changes.dictionary.props})
            for block in changes.blocks:
                self._set_columns(block)

    def _set_columns(self, block):
        by_order = {member.join_order: member for member in self.members.values()}
        rows = list(block.users)
        following = 0
        for gap, length in zip(block.runs[::2], block.runs[1::2], strict=True):
            rows.extend(range(following + gap, following + gap + length))
            following += gap + length
        for column in block.columns:
            values = wire.column(column)
            if column.prop not in self._names or len(values) != len(rows):
                raise BrokenRule(f"a column {column.prop} of {len(values)} values for {len(rows)} members")
            for row, value in zip(rows, values):
                if row not in by_order:
                    raise LostMessage(f"member {row} is in a block, but has not joined")
                by_order[row].props[self._names[column.prop]] = value

    def _change_member(self, change):
        member = self.members.get(change.user_id)
        if member is None or change.replaces:
            if not change.role:
                raise LostMessage(f"{change.user_id} has joined, but has no role")
            if member is not None:
                # Left and came back.
                self._drop_member(change.user_id)
            if change.role != wire.session.ROLE_SPECTATOR:
                self.joins += 1
            member = self.members[change.user_id] = Member(change.role, change.join_order)
        if change.role:
            member.role = change.role
        if change.HasField("disconnected"):
            member.disconnected = change.disconnected
        set_and_drop(member.props, change.props, change.removed)

    def _drop_member(self, user_id: str):
        if self.members.pop(user_id).role != wire.session.ROLE_SPECTATOR:
            self.leaves += 1


def set_and_drop(known: dict, items, removed):
    for item in items:
        known[item.name] = wire.plain(item)
    for key in removed:
        known.pop(key, None)
