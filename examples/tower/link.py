"""One user's stream: its props up, what it may see of the session down."""

import asyncio
import sys
from pathlib import Path

# The recording, the API and the rules of updates are those of the other example.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "air_traffic"))

import wire  # noqa: E402
from client_state import ClientState  # noqa: E402

SESSION = "tower"


class Failed(Exception):
    """The server refused something or a check was not passed."""


class Link:
    def __init__(self, channel, app: str, user_id: str, patience: float):
        self.app = app
        self.user_id = user_id
        self.patience = patience
        self.streams = wire.delivery_grpc.DeliveryServiceStub(channel)
        self.state = ClientState()
        self.acked = 0
        self.refusals: list = []
        # Why the snapshots came, in order.
        self.reasons: list[str] = []
        self.messages = 0
        self._seq = 0
        self._last_write = 0
        self._call = None
        self._moved = asyncio.Event()

    async def join(self, props: dict, missing=None):
        """Joins with first props, and opens the session `missing` if there is none. The membership is
        tied to the stream: it ends with it."""
        self._call = self.streams.StreamUserProps()
        request = self._next()
        request.open.app = self.app
        request.open.user_id = self.user_id
        subscription = request.open.subscriptions.add(session_id=SESSION)
        subscription.join.SetInParent()
        wire.fill(subscription.join.props, props)
        if missing:
            subscription.open_if_missing.CopyFrom(missing)
        await self._call.write(request)

    async def listen(self):
        """Takes what comes, until the stream is over."""
        async for response in self._call:
            self.messages += 1
            self.refusals += response.refusals
            self.acked = max(self.acked, response.acked_seq)
            for delivery in response.updates:
                if delivery.update.WhichOneof("body") == "snapshot":
                    reason = delivery.update.snapshot.reason
                    self.reasons.append(wire.update.SnapshotReason.Name(reason))
                self.state.apply(delivery.update)
            self.check(response)
            self._moved.set()

    def check(self, response):
        """What must be true after every message."""

    async def write(self, known: dict, unknown=(), term: int = 0):
        request = self._next()
        self._last_write = request.seq
        request.write.session_ids.append(SESSION)
        request.write.term = term
        wire.fill(request.write.set, known)
        request.write.remove.extend(unknown)
        await self._call.write(request)

    async def leave(self):
        """Closes the stream once all is acknowledged, and with it the membership."""
        await self._call.done_writing()

    @property
    def settled(self) -> bool:
        """Others see all that was sent: the join, with its props, is in a frame, and so are the writes."""
        return self.user_id in self.state.members and self.acked >= self._last_write

    async def until(self, holds, what: str):
        try:
            async with asyncio.timeout(self.patience):
                while not holds():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise Failed(f"{self.user_id} waited in vain: {what}") from None

    @property
    def host(self) -> str:
        return self.state.session.host_id if self.state.session else ""

    @property
    def of_host(self) -> dict:
        """What this user sees of the host."""
        return self.state.senders.get(self.host, {})

    @property
    def of_others(self) -> dict[str, dict]:
        """The members other than the host of whom this user sees something."""
        return {
            user: props for user, props in self.state.senders.items() if props and user != self.host
        }

    def _next(self):
        self._seq += 1
        return wire.delivery.StreamUserPropsRequest(seq=self._seq)


def reason_of(refusal) -> str:
    return wire.error.ErrorReason.Name(refusal.reason).removeprefix("ERROR_REASON_")
