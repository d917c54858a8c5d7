from consensusllm.wire.generated import peer_pb2 as _peer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("cluster_id", "node", "address")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    node: int
    address: str
    def __init__(self, cluster_id: _Optional[str] = ..., node: _Optional[int] = ..., address: _Optional[str] = ...) -> None: ...

class FromNode(_message.Message):
    __slots__ = ("hello", "envelopes")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    envelopes: _peer_pb2.Envelopes
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., envelopes: _Optional[_Union[_peer_pb2.Envelopes, _Mapping]] = ...) -> None: ...

class ToNode(_message.Message):
    __slots__ = ("envelopes",)
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    envelopes: _peer_pb2.Envelopes
    def __init__(self, envelopes: _Optional[_Union[_peer_pb2.Envelopes, _Mapping]] = ...) -> None: ...

class FaultRequest(_message.Message):
    __slots__ = ("fail_node", "fix_node", "fail_link", "fix_link", "partition", "heal", "delay", "drop", "duplicate", "reorder", "isolate", "install_node", "retire_node", "cluster_id")
    FAIL_NODE_FIELD_NUMBER: _ClassVar[int]
    FIX_NODE_FIELD_NUMBER: _ClassVar[int]
    FAIL_LINK_FIELD_NUMBER: _ClassVar[int]
    FIX_LINK_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    HEAL_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    REORDER_FIELD_NUMBER: _ClassVar[int]
    ISOLATE_FIELD_NUMBER: _ClassVar[int]
    INSTALL_NODE_FIELD_NUMBER: _ClassVar[int]
    RETIRE_NODE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    fail_node: FailNode
    fix_node: FixNode
    fail_link: LinkFault
    fix_link: LinkFault
    partition: Partition
    heal: Heal
    delay: Delay
    drop: Percent
    duplicate: Percent
    reorder: Percent
    isolate: Isolate
    install_node: InstallNode
    retire_node: RetireNode
    cluster_id: str
    def __init__(self, fail_node: _Optional[_Union[FailNode, _Mapping]] = ..., fix_node: _Optional[_Union[FixNode, _Mapping]] = ..., fail_link: _Optional[_Union[LinkFault, _Mapping]] = ..., fix_link: _Optional[_Union[LinkFault, _Mapping]] = ..., partition: _Optional[_Union[Partition, _Mapping]] = ..., heal: _Optional[_Union[Heal, _Mapping]] = ..., delay: _Optional[_Union[Delay, _Mapping]] = ..., drop: _Optional[_Union[Percent, _Mapping]] = ..., duplicate: _Optional[_Union[Percent, _Mapping]] = ..., reorder: _Optional[_Union[Percent, _Mapping]] = ..., isolate: _Optional[_Union[Isolate, _Mapping]] = ..., install_node: _Optional[_Union[InstallNode, _Mapping]] = ..., retire_node: _Optional[_Union[RetireNode, _Mapping]] = ..., cluster_id: _Optional[str] = ...) -> None: ...

class FailNode(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: int
    def __init__(self, node: _Optional[int] = ...) -> None: ...

class FixNode(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: int
    def __init__(self, node: _Optional[int] = ...) -> None: ...

class LinkFault(_message.Message):
    __slots__ = ("a", "b", "one_way")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    ONE_WAY_FIELD_NUMBER: _ClassVar[int]
    a: int
    b: int
    one_way: bool
    def __init__(self, a: _Optional[int] = ..., b: _Optional[int] = ..., one_way: _Optional[bool] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class Partition(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[Group]
    def __init__(self, groups: _Optional[_Iterable[_Union[Group, _Mapping]]] = ...) -> None: ...

class Heal(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Delay(_message.Message):
    __slots__ = ("a", "b", "delay_ms", "jitter_ms")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    JITTER_MS_FIELD_NUMBER: _ClassVar[int]
    a: int
    b: int
    delay_ms: float
    jitter_ms: float
    def __init__(self, a: _Optional[int] = ..., b: _Optional[int] = ..., delay_ms: _Optional[float] = ..., jitter_ms: _Optional[float] = ...) -> None: ...

class Percent(_message.Message):
    __slots__ = ("a", "b", "percent")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    a: int
    b: int
    percent: float
    def __init__(self, a: _Optional[int] = ..., b: _Optional[int] = ..., percent: _Optional[float] = ...) -> None: ...

class Isolate(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: int
    def __init__(self, node: _Optional[int] = ...) -> None: ...

class InstallNode(_message.Message):
    __slots__ = ("node", "address")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    node: int
    address: str
    def __init__(self, node: _Optional[int] = ..., address: _Optional[str] = ...) -> None: ...

class RetireNode(_message.Message):
    __slots__ = ("node", "reusable")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REUSABLE_FIELD_NUMBER: _ClassVar[int]
    node: int
    reusable: bool
    def __init__(self, node: _Optional[int] = ..., reusable: _Optional[bool] = ...) -> None: ...

class FaultReply(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class ListFaultsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListFaultsReply(_message.Message):
    __slots__ = ("faults", "attached", "down", "cut", "fates")
    class FatesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    DOWN_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    FATES_FIELD_NUMBER: _ClassVar[int]
    faults: _containers.RepeatedScalarFieldContainer[str]
    attached: _containers.RepeatedScalarFieldContainer[int]
    down: _containers.RepeatedScalarFieldContainer[int]
    cut: _containers.RepeatedCompositeFieldContainer[Cut]
    fates: _containers.ScalarMap[str, int]
    def __init__(self, faults: _Optional[_Iterable[str]] = ..., attached: _Optional[_Iterable[int]] = ..., down: _Optional[_Iterable[int]] = ..., cut: _Optional[_Iterable[_Union[Cut, _Mapping]]] = ..., fates: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Cut(_message.Message):
    __slots__ = ("src", "dst")
    SRC_FIELD_NUMBER: _ClassVar[int]
    DST_FIELD_NUMBER: _ClassVar[int]
    src: int
    dst: int
    def __init__(self, src: _Optional[int] = ..., dst: _Optional[int] = ...) -> None: ...

class TraceRequest(_message.Message):
    __slots__ = ("kinds",)
    KINDS_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kinds: _Optional[_Iterable[str]] = ...) -> None: ...

class TraceEvent(_message.Message):
    __slots__ = ("time_ms", "src", "dst", "kind", "size_bytes", "fate", "body_summary", "skipped")
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SRC_FIELD_NUMBER: _ClassVar[int]
    DST_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FATE_FIELD_NUMBER: _ClassVar[int]
    BODY_SUMMARY_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    time_ms: int
    src: int
    dst: int
    kind: str
    size_bytes: int
    fate: str
    body_summary: str
    skipped: int
    def __init__(self, time_ms: _Optional[int] = ..., src: _Optional[int] = ..., dst: _Optional[int] = ..., kind: _Optional[str] = ..., size_bytes: _Optional[int] = ..., fate: _Optional[str] = ..., body_summary: _Optional[str] = ..., skipped: _Optional[int] = ...) -> None: ...

class ProcessOrder(_message.Message):
    __slots__ = ("number", "start", "node", "join", "retire", "reusable")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    RETIRE_FIELD_NUMBER: _ClassVar[int]
    REUSABLE_FIELD_NUMBER: _ClassVar[int]
    number: int
    start: bool
    node: int
    join: str
    retire: bool
    reusable: bool
    def __init__(self, number: _Optional[int] = ..., start: _Optional[bool] = ..., node: _Optional[int] = ..., join: _Optional[str] = ..., retire: _Optional[bool] = ..., reusable: _Optional[bool] = ...) -> None: ...

class ProcessReport(_message.Message):
    __slots__ = ("number", "error", "nodes")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    number: int
    error: str
    nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, number: _Optional[int] = ..., error: _Optional[str] = ..., nodes: _Optional[_Iterable[int]] = ...) -> None: ...
