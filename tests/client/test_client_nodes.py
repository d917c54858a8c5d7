"""The connections of a client."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref

import grpc
import pytest

from consensusllm.client.nodes import MEMBERS_MAX, Nodes, Unreachable

ADDRESS = "127.0.0.1:5101"


class Channel:
    """One that is up from the moment at which the test says so."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.refused = False

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        states = grpc.ChannelConnectivity
        if self.refused:
            return states.TRANSIENT_FAILURE
        return states.READY if self.up.is_set() else states.CONNECTING

    async def wait_for_state_change(self, last: grpc.ChannelConnectivity) -> None:
        await self.up.wait()

    def method(self, name: str, **kinds: object) -> None:
        """What a stub asks for when it is made; nothing is called here."""

    unary_unary = unary_stream = stream_stream = method

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("turns", range(6))
async def test_who_is_cancelled_while_the_connection_comes_up_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """In whichever turn of the event loop it happens, between the connection and its user."""
    channel = Channel()
    monkeypatch.setattr("grpc.aio.insecure_channel", lambda address, options: channel)
    nodes = Nodes([ADDRESS], token=None, pinned=True)
    forever = asyncio.Event()

    async def connect_and_go_on() -> None:
        await nodes.stub(ADDRESS)
        await forever.wait()

    work = asyncio.create_task(connect_and_go_on())
    for _ in range(5):
        await asyncio.sleep(0)
    channel.up.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    work.cancel()
    await asyncio.wait({work}, timeout=10)
    assert work.cancelled()
    await nodes.close()


def test_members_that_a_node_tells_of_are_tried_behind_those_that_were_given() -> None:
    nodes = Nodes(["a:1", "b:2"], token=None, pinned=False)
    nodes.learn(["b:2", "c:3", "d:4"])
    assert nodes.known == ("a:1", "b:2", "c:3", "d:4")
    assert nodes.addresses == ("a:1", "b:2")
    tried = ["a:1"]
    for _ in range(4):
        tried.append(nodes.following(tried[-1]))
    assert tried == ["a:1", "b:2", "c:3", "d:4", "a:1"]
    nodes.leave("a:1")
    nodes.learn(["c:3"])
    assert (nodes.current, nodes.known) == ("b:2", ("a:1", "b:2", "c:3", "d:4"))
    nodes.silent("d:4")
    nodes.learn(["c:3"])
    assert nodes.known == ("a:1", "b:2", "c:3")


def test_who_was_cut_off_for_long_does_not_make_the_others_forgotten() -> None:
    nodes = Nodes(["a:1", "b:2"], token=None, pinned=False)
    nodes.learn(["b:2", "c:3"])
    nodes.learn(["a:1", "b:2"])
    assert nodes.known == ("a:1", "b:2", "c:3")


async def test_a_silent_connection_is_made_anew_and_lives_as_long_as_its_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[weakref.ref[Channel]] = []

    def channel(address: str, options: object) -> Channel:
        fresh = Channel()
        fresh.up.set()
        made.append(weakref.ref(fresh))
        return fresh

    monkeypatch.setattr("grpc.aio.insecure_channel", channel)
    nodes = Nodes(["a:1", "b:2"], token=None, pinned=False)
    stub = await nodes.stub("a:1")
    nodes.silent("a:1")
    gc.collect()
    assert made[0]() is not None
    nodes.leave("a:1", "a:1")
    nodes.prefer("a:1")
    assert nodes.current == "b:2", "for a while no word leads back"
    await nodes.stub("a:1")
    assert len(made) == 2
    del stub
    gc.collect()
    assert (made[0](), made[1]() is None) == (None, False)
    await nodes.close()


async def test_who_has_less_time_than_a_connection_takes_says_nothing_of_the_node() -> None:
    with socket.socket() as silent:  # it listens, and nobody accepts
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        nodes = Nodes(["a:1"], token=None, pinned=False)
        with pytest.raises(Unreachable, match="no connection within"):
            await nodes.stub(address, within_s=0.001)
        nodes.prefer(address)
        assert nodes.current == address
        await nodes.close()


async def test_who_left_is_not_tried_while_a_member_can_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    up = {"b:2", "c:3"}

    async def connected(address: str, channel: Channel) -> None:
        if address not in up:
            raise Unreachable(address, "it does not accept connections")

    monkeypatch.setattr("grpc.aio.insecure_channel", lambda address, options: Channel())
    monkeypatch.setattr("consensusllm.client.nodes._connected", connected)
    nodes = Nodes(["a:1", "b:2"], token=None, pinned=False)
    nodes.learn(["b:2", "c:3"])
    assert nodes.following("c:3") == "a:1"
    with pytest.raises(Unreachable):
        await nodes.stub("a:1")
    assert [nodes.following("b:2"), nodes.following("c:3")] == ["c:3", "b:2"]
    for address in sorted(up):
        await nodes.stub(address)
        up.remove(address)
        with pytest.raises(Unreachable):
            await nodes.stub(address)
    assert nodes.following("c:3") == "a:1"
    await nodes.close()


def test_what_is_no_address_is_not_learnt_and_who_is_pinned_learns_nothing() -> None:
    nodes = Nodes(["a:1"], token=None, pinned=False)
    nodes.learn(["", "nowhere", "h:99999", ":5", "b:2", *(f"h:{port}" for port in range(1, 200))])
    assert nodes.known[:2] == ("a:1", "b:2")
    assert len(nodes.known) == 1 + MEMBERS_MAX
    pinned = Nodes(["a:1"], token=None, pinned=True)
    pinned.learn(["b:2"])
    assert pinned.known == ("a:1",)


async def test_a_leader_that_cannot_be_reached_is_not_gone_back_to_at_every_word_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel = Channel()
    channel.refused = True
    monkeypatch.setattr("grpc.aio.insecure_channel", lambda address, options: channel)
    nodes = Nodes(["a:1", "c:3"], token=None, pinned=False)
    nodes.prefer("b:2")
    assert nodes.current == "b:2"
    with pytest.raises(Unreachable):
        await nodes.stub("b:2")
    nodes.leave("b:2")
    here = nodes.current
    nodes.prefer("b:2")
    assert nodes.current == here != "b:2"
    nodes.leave(here, "b:2")
    assert nodes.current == nodes.following(here) != "b:2"
    channel.refused = False
    channel.up.set()
    await nodes.stub("b:2")
    nodes.prefer("b:2")
    assert nodes.current == "b:2"
    await nodes.close()


async def test_who_was_refused_is_asked_anew_and_does_not_wait_for_the_last_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused, up = Channel(), Channel()
    refused.refused = True
    up.up.set()
    made = iter([refused, up])
    monkeypatch.setattr("grpc.aio.insecure_channel", lambda address, options: next(made))
    nodes = Nodes([ADDRESS], token=None, pinned=True)
    with pytest.raises(Unreachable):
        await nodes.stub(ADDRESS)
    await nodes.stub(ADDRESS)
    await nodes.stub(ADDRESS)
