"""Where the nodes are: their addresses, the channels to them, and which one is spoken to now.

It owns the gRPC channels. It refuses to roam when the client is pinned. The nodes say where the
members are, so a client finds the cluster also when all those have been replaced that it was given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

import grpc
import grpc.aio
from async_timeout import timeout

from consensusllm.client.errors import InvalidRequest, Unauthenticated
from consensusllm.wire.generated import client_pb2_grpc

CONNECT_S = 2.0
RESPONSE_BYTES_MAX = 64 << 20
UNREACHABLE_S = 5.0
"""For so long after nobody could be reached at an address no node's word leads back there: a leader
that this client cannot reach would cost every call the time of another try."""
MEMBERS_MAX = 64
"""Members whose addresses are kept."""

CONNECTION_OPTIONS = (
    # A node that was started again is found again at once; the calls have a back-off of their own.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)
"""How every client of ours connects; the bench connects its others so too."""

_OPTIONS = (("grpc.max_receive_message_length", RESPONSE_BYTES_MAX), *CONNECTION_OPTIONS)
_DENIED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


class Unreachable(Exception):
    """No connection to ``address``; the text is the reason."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}")


def reason(address: str, error: grpc.aio.AioRpcError) -> str:
    """One line that says how a call to ``address`` ended."""
    details = " ".join((error.details() or "").split())
    return f"{address}: {details or error.code().name}"


def denial(address: str, error: grpc.aio.AioRpcError) -> Unauthenticated | None:
    """The error to raise where the node turned the client's token down."""
    if error.code() not in _DENIED:
        return None
    return Unauthenticated(
        f"{reason(address, error)}: give the nodes' client_token, by --config FILE, in "
        "CONSENSUSLLM_CLIENT_TOKEN, or as the Client's token"
    )


class Nodes:
    """The nodes a client may speak to. ``addresses`` were given; ``known`` are those, and then the
    members that a node has told of since. ``current`` is where calls go."""

    def __init__(self, addresses: Sequence[str], *, token: str | None, pinned: bool) -> None:
        if isinstance(addresses, str) or not addresses:
            raise InvalidRequest("give the nodes' addresses as a list, such as ['127.0.0.1:5101']")
        for address in addresses:
            if not _is_address(address):
                raise InvalidRequest(f"{address!r} is not HOST:PORT, such as 127.0.0.1:5101")
        if pinned and len(addresses) != 1:
            raise InvalidRequest("a pinned client takes exactly one address")
        if token is not None and not (token and token.isascii() and token.isprintable()):
            raise InvalidRequest("a token is one or more printable ASCII characters")
        self.addresses = tuple(dict.fromkeys(addresses))
        self.known = self.addresses
        self.pinned = pinned
        self.metadata: tuple[tuple[str, str], ...] = ()
        if token is not None:
            self.metadata = (("authorization", f"Bearer {token}"),)
        self.current = self.addresses[0]
        self._turn = 0
        self._members: frozenset[str] = frozenset()
        self._missed: dict[str, float] = {}  # when nobody could be reached there
        self._channels: dict[str, grpc.aio.Channel] = {}
        # A channel closes where nobody has it any more, and a stub does not hold it.
        self._in_use: WeakKeyDictionary[client_pb2_grpc.ClientStub, grpc.aio.Channel] = (
            WeakKeyDictionary()
        )
        self._closed = False

    def leave(self, address: str, hint: str = "") -> None:
        """Speak to ``hint``, or else to the next node, from now on.

        Many calls learn at once that a node is of no use, so only the first one moves: nothing
        happens unless ``address`` is still the current one.
        """
        if self.pinned or address != self.current:
            return
        if hint and hint != address and self._may_answer(hint):
            self.current = hint
            return
        self.current = self.following(address)

    def prefer(self, address: str) -> None:
        """Speak to ``address``, the leader's, from now on: it saves the node a forwarding."""
        if not self.pinned and self._may_answer(address):
            self.current = address

    def learn(self, members: Iterable[str]) -> None:
        """The cluster's members are at these addresses now, as a node says that may have been cut
        off for long: where others were told of, and nobody was missed, stays known."""
        if not self.pinned:
            told = [address for address in members if _is_address(address)][:MEMBERS_MAX]
            self._members = frozenset(told)
            earlier = [address for address in self.known if address not in self._missed]
            known = dict.fromkeys([*self.addresses, *told, *earlier])
            self.known = tuple(known)[: len(self.addresses) + MEMBERS_MAX]
            for address in self._channels.keys() - {*self.known, self.current}:
                del self._channels[address]

    def following(self, address: str) -> str:
        """The node to try after ``address``: not one that left, unless no member can be reached."""
        left: set[str] = set()
        if self._members - self._missed.keys():
            left = self._missed.keys() - self._members
        if address in self.known:
            self._turn = self.known.index(address)
        for _ in self.known:
            self._turn = (self._turn + 1) % len(self.known)
            if self.known[self._turn] not in left:
                break
        return self.known[self._turn]

    async def stub(self, address: str, within_s: float = CONNECT_S) -> client_pb2_grpc.ClientStub:
        """A stub on a connection that is up; raises Unreachable where there is none in time."""
        if self._closed:
            raise RuntimeError("the client is closed")
        channel = self._channels.get(address)
        if channel is None:
            channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
            self._channels[address] = channel
        try:
            async with timeout(within_s):
                await _connected(address, channel)
        except asyncio.TimeoutError:
            if within_s >= CONNECT_S:
                self._miss(address)
            raise Unreachable(address, f"no connection within {within_s:.1f} s") from None
        except Unreachable:
            # Its next attempt would wait: a node that is started meanwhile would not be found.
            if self._channels.get(address) is channel:
                del self._channels[address]
            self._miss(address)
            raise
        self._missed.pop(address, None)
        stub = client_pb2_grpc.ClientStub(channel)  # type: ignore[no-untyped-call]
        self._in_use[stub] = channel
        return stub

    def silent(self, address: str) -> None:
        """Nothing comes over the connection to ``address``, which may be cut without a word."""
        self._channels.pop(address, None)
        self._miss(address)

    def _miss(self, address: str) -> None:
        now = time.monotonic()
        kept = {
            each: at
            for each, at in self._missed.items()
            if each in self.known or now < at + UNREACHABLE_S
        }
        self._missed = {**kept, address: now}

    def _may_answer(self, address: str) -> bool:
        at = self._missed.get(address)
        return at is None or time.monotonic() >= at + UNREACHABLE_S

    async def close(self) -> None:
        self._closed = True
        channels = {*self._channels.values(), *self._in_use.values()}
        self._channels = {}
        for channel in channels:
            await channel.close()


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon and port.isdecimal() and 1 <= int(port) <= 65535)


async def _connected(address: str, channel: grpc.aio.Channel) -> None:
    """Return when the channel is up; raise as soon as an attempt has failed.

    A call on a channel that is down would fail at once too, but one on a host that swallows
    packets would wait for the operating system's minutes.
    """
    while True:
        state = channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return
        if state in (
            grpc.ChannelConnectivity.TRANSIENT_FAILURE,
            grpc.ChannelConnectivity.SHUTDOWN,
        ):
            raise Unreachable(address, "it does not accept connections")
        await channel.wait_for_state_change(state)
