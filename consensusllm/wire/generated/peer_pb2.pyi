from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Envelope(_message.Message):
    __slots__ = ("cluster_id", "src", "dst", "kind", "body", "checksum")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    SRC_FIELD_NUMBER: _ClassVar[int]
    DST_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    src: int
    dst: int
    kind: str
    body: bytes
    checksum: int
    def __init__(self, cluster_id: _Optional[str] = ..., src: _Optional[int] = ..., dst: _Optional[int] = ..., kind: _Optional[str] = ..., body: _Optional[bytes] = ..., checksum: _Optional[int] = ...) -> None: ...

class Envelopes(_message.Message):
    __slots__ = ("envelopes",)
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedCompositeFieldContainer[Envelope]
    def __init__(self, envelopes: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ...) -> None: ...

class LinkAck(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ballot(_message.Message):
    __slots__ = ("seq_num", "pid", "op_num")
    SEQ_NUM_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    OP_NUM_FIELD_NUMBER: _ClassVar[int]
    seq_num: int
    pid: int
    op_num: int
    def __init__(self, seq_num: _Optional[int] = ..., pid: _Optional[int] = ..., op_num: _Optional[int] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("slot", "ballot", "batch")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    slot: int
    ballot: Ballot
    batch: bytes
    def __init__(self, slot: _Optional[int] = ..., ballot: _Optional[_Union[Ballot, _Mapping]] = ..., batch: _Optional[bytes] = ...) -> None: ...

class Incarnation(_message.Message):
    __slots__ = ("member", "incarnation")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    member: int
    incarnation: int
    def __init__(self, member: _Optional[int] = ..., incarnation: _Optional[int] = ...) -> None: ...

class PreVote(_message.Message):
    __slots__ = ("ballot",)
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ...) -> None: ...

class PreVoteReply(_message.Message):
    __slots__ = ("ballot", "granted", "promised")
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    PROMISED_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    granted: bool
    promised: Ballot
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ..., granted: _Optional[bool] = ..., promised: _Optional[_Union[Ballot, _Mapping]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("ballot", "chosen_through", "round", "live", "round_trip_ms", "lease_ms")
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_THROUGH_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    chosen_through: int
    round: int
    live: _containers.RepeatedScalarFieldContainer[int]
    round_trip_ms: int
    lease_ms: int
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ..., chosen_through: _Optional[int] = ..., round: _Optional[int] = ..., live: _Optional[_Iterable[int]] = ..., round_trip_ms: _Optional[int] = ..., lease_ms: _Optional[int] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("ballot", "round", "chosen_through", "leased")
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_THROUGH_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    round: int
    chosen_through: int
    leased: bool
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ..., round: _Optional[int] = ..., chosen_through: _Optional[int] = ..., leased: _Optional[bool] = ...) -> None: ...

class Prepare(_message.Message):
    __slots__ = ("ballot", "incarnations")
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    INCARNATIONS_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    incarnations: _containers.RepeatedCompositeFieldContainer[Incarnation]
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ..., incarnations: _Optional[_Iterable[_Union[Incarnation, _Mapping]]] = ...) -> None: ...

class Promise(_message.Message):
    __slots__ = ("ballot", "entries", "chosen_through", "next_slot", "incarnation", "incarnations")
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_THROUGH_FIELD_NUMBER: _ClassVar[int]
    NEXT_SLOT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    INCARNATIONS_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    chosen_through: int
    next_slot: int
    incarnation: int
    incarnations: _containers.RepeatedCompositeFieldContainer[Incarnation]
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., chosen_through: _Optional[int] = ..., next_slot: _Optional[int] = ..., incarnation: _Optional[int] = ..., incarnations: _Optional[_Iterable[_Union[Incarnation, _Mapping]]] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("ballot", "promised")
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    PROMISED_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    promised: Ballot
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ..., promised: _Optional[_Union[Ballot, _Mapping]] = ...) -> None: ...

class Accept(_message.Message):
    __slots__ = ("ballot", "batches", "chosen_through")
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_THROUGH_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    batches: _containers.RepeatedScalarFieldContainer[bytes]
    chosen_through: int
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ..., batches: _Optional[_Iterable[bytes]] = ..., chosen_through: _Optional[int] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("ballot", "count", "chosen_through", "incarnation")
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_THROUGH_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    count: int
    chosen_through: int
    incarnation: int
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ..., count: _Optional[int] = ..., chosen_through: _Optional[int] = ..., incarnation: _Optional[int] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("ballot", "chosen_through")
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_THROUGH_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    chosen_through: int
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ..., chosen_through: _Optional[int] = ...) -> None: ...

class CatchUp(_message.Message):
    __slots__ = ("first_slot",)
    FIRST_SLOT_FIELD_NUMBER: _ClassVar[int]
    first_slot: int
    def __init__(self, first_slot: _Optional[int] = ...) -> None: ...

class CatchUpReply(_message.Message):
    __slots__ = ("entries", "chosen_through")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_THROUGH_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    chosen_through: int
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., chosen_through: _Optional[int] = ...) -> None: ...

class Compacted(_message.Message):
    __slots__ = ("slot",)
    SLOT_FIELD_NUMBER: _ClassVar[int]
    slot: int
    def __init__(self, slot: _Optional[int] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ("slot", "offset")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    slot: int
    offset: int
    def __init__(self, slot: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("slot", "offset", "size_bytes", "digest", "data")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    slot: int
    offset: int
    size_bytes: int
    digest: bytes
    data: bytes
    def __init__(self, slot: _Optional[int] = ..., offset: _Optional[int] = ..., size_bytes: _Optional[int] = ..., digest: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class Rejoin(_message.Message):
    __slots__ = ("incarnation", "chosen_through")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_THROUGH_FIELD_NUMBER: _ClassVar[int]
    incarnation: int
    chosen_through: int
    def __init__(self, incarnation: _Optional[int] = ..., chosen_through: _Optional[int] = ...) -> None: ...

class Rejoined(_message.Message):
    __slots__ = ("ballot", "incarnation", "incarnations", "membership")
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    INCARNATIONS_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    incarnation: int
    incarnations: _containers.RepeatedCompositeFieldContainer[Incarnation]
    membership: bytes
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ..., incarnation: _Optional[int] = ..., incarnations: _Optional[_Iterable[_Union[Incarnation, _Mapping]]] = ..., membership: _Optional[bytes] = ...) -> None: ...

class TimeoutNow(_message.Message):
    __slots__ = ("ballot",)
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    ballot: Ballot
    def __init__(self, ballot: _Optional[_Union[Ballot, _Mapping]] = ...) -> None: ...

class Forward(_message.Message):
    __slots__ = ("number", "commands")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    number: int
    commands: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, number: _Optional[int] = ..., commands: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ForwardRefused(_message.Message):
    __slots__ = ("number", "leader", "overloaded")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    OVERLOADED_FIELD_NUMBER: _ClassVar[int]
    number: int
    leader: int
    overloaded: bool
    def __init__(self, number: _Optional[int] = ..., leader: _Optional[int] = ..., overloaded: _Optional[bool] = ...) -> None: ...

class ReadIndex(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class ReadIndexReply(_message.Message):
    __slots__ = ("number", "slot")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    number: int
    slot: int
    def __init__(self, number: _Optional[int] = ..., slot: _Optional[int] = ...) -> None: ...

class PeerMessage(_message.Message):
    __slots__ = ("pre_vote", "pre_vote_reply", "heartbeat", "heartbeat_reply", "prepare", "promise", "nack", "accept", "accepted", "commit", "catch_up", "catch_up_reply", "compacted", "snapshot_request", "snapshot_chunk", "rejoin", "rejoined", "forward", "forward_refused", "read_index", "read_index_reply", "timeout_now")
    PRE_VOTE_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_REPLY_FIELD_NUMBER: _ClassVar[int]
    PREPARE_FIELD_NUMBER: _ClassVar[int]
    PROMISE_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    CATCH_UP_FIELD_NUMBER: _ClassVar[int]
    CATCH_UP_REPLY_FIELD_NUMBER: _ClassVar[int]
    COMPACTED_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    REJOIN_FIELD_NUMBER: _ClassVar[int]
    REJOINED_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    FORWARD_REFUSED_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_REPLY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_NOW_FIELD_NUMBER: _ClassVar[int]
    pre_vote: PreVote
    pre_vote_reply: PreVoteReply
    heartbeat: Heartbeat
    heartbeat_reply: HeartbeatReply
    prepare: Prepare
    promise: Promise
    nack: Nack
    accept: Accept
    accepted: Accepted
    commit: Commit
    catch_up: CatchUp
    catch_up_reply: CatchUpReply
    compacted: Compacted
    snapshot_request: SnapshotRequest
    snapshot_chunk: SnapshotChunk
    rejoin: Rejoin
    rejoined: Rejoined
    forward: Forward
    forward_refused: ForwardRefused
    read_index: ReadIndex
    read_index_reply: ReadIndexReply
    timeout_now: TimeoutNow
    def __init__(self, pre_vote: _Optional[_Union[PreVote, _Mapping]] = ..., pre_vote_reply: _Optional[_Union[PreVoteReply, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., heartbeat_reply: _Optional[_Union[HeartbeatReply, _Mapping]] = ..., prepare: _Optional[_Union[Prepare, _Mapping]] = ..., promise: _Optional[_Union[Promise, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., accept: _Optional[_Union[Accept, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., catch_up: _Optional[_Union[CatchUp, _Mapping]] = ..., catch_up_reply: _Optional[_Union[CatchUpReply, _Mapping]] = ..., compacted: _Optional[_Union[Compacted, _Mapping]] = ..., snapshot_request: _Optional[_Union[SnapshotRequest, _Mapping]] = ..., snapshot_chunk: _Optional[_Union[SnapshotChunk, _Mapping]] = ..., rejoin: _Optional[_Union[Rejoin, _Mapping]] = ..., rejoined: _Optional[_Union[Rejoined, _Mapping]] = ..., forward: _Optional[_Union[Forward, _Mapping]] = ..., forward_refused: _Optional[_Union[ForwardRefused, _Mapping]] = ..., read_index: _Optional[_Union[ReadIndex, _Mapping]] = ..., read_index_reply: _Optional[_Union[ReadIndexReply, _Mapping]] = ..., timeout_now: _Optional[_Union[TimeoutNow, _Mapping]] = ...) -> None: ...

class StreamMessage(_message.Message):
    __slots__ = ("subscribe", "deltas")
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    DELTAS_FIELD_NUMBER: _ClassVar[int]
    subscribe: Subscribe
    deltas: _containers.RepeatedCompositeFieldContainer[Delta]
    def __init__(self, subscribe: _Optional[_Union[Subscribe, _Mapping]] = ..., deltas: _Optional[_Iterable[_Union[Delta, _Mapping]]] = ...) -> None: ...

class Subscribe(_message.Message):
    __slots__ = ("conversation", "turn", "candidate", "attempt", "offset")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: int
    candidate: int
    attempt: int
    offset: int
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[int] = ..., candidate: _Optional[int] = ..., attempt: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("conversation", "turn", "candidate", "attempt", "offset", "text", "model")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: int
    candidate: int
    attempt: int
    offset: int
    text: str
    model: str
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[int] = ..., candidate: _Optional[int] = ..., attempt: _Optional[int] = ..., offset: _Optional[int] = ..., text: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...
