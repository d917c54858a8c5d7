from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AddNode(_message.Message):
    __slots__ = ("node", "address")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    node: int
    address: str
    def __init__(self, node: _Optional[int] = ..., address: _Optional[str] = ...) -> None: ...

class RemoveNode(_message.Message):
    __slots__ = ("node", "asked")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    node: int
    asked: int
    def __init__(self, node: _Optional[int] = ..., asked: _Optional[int] = ...) -> None: ...

class TransferLeader(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: int
    def __init__(self, node: _Optional[int] = ...) -> None: ...

class ChangeRequest(_message.Message):
    __slots__ = ("add", "remove", "transfer")
    ADD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    add: AddNode
    remove: RemoveNode
    transfer: TransferLeader
    def __init__(self, add: _Optional[_Union[AddNode, _Mapping]] = ..., remove: _Optional[_Union[RemoveNode, _Mapping]] = ..., transfer: _Optional[_Union[TransferLeader, _Mapping]] = ...) -> None: ...

class ChangeReply(_message.Message):
    __slots__ = ("outcome", "message", "leader_address", "behind", "members")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NOT_LEADER: _ClassVar[ChangeReply.Outcome]
        UNDER_WAY: _ClassVar[ChangeReply.Outcome]
        DONE: _ClassVar[ChangeReply.Outcome]
        REFUSED: _ClassVar[ChangeReply.Outcome]
    NOT_LEADER: ChangeReply.Outcome
    UNDER_WAY: ChangeReply.Outcome
    DONE: ChangeReply.Outcome
    REFUSED: ChangeReply.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LEADER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    BEHIND_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    outcome: ChangeReply.Outcome
    message: str
    leader_address: str
    behind: int
    members: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, outcome: _Optional[_Union[ChangeReply.Outcome, str]] = ..., message: _Optional[str] = ..., leader_address: _Optional[str] = ..., behind: _Optional[int] = ..., members: _Optional[_Iterable[str]] = ...) -> None: ...

class Requests(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[Request]
    def __init__(self, requests: _Optional[_Iterable[_Union[Request, _Mapping]]] = ...) -> None: ...

class Responses(_message.Message):
    __slots__ = ("responses", "leader_address", "done", "members")
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    LEADER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[Response]
    leader_address: str
    done: _containers.RepeatedScalarFieldContainer[int]
    members: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, responses: _Optional[_Iterable[_Union[Response, _Mapping]]] = ..., leader_address: _Optional[str] = ..., done: _Optional[_Iterable[int]] = ..., members: _Optional[_Iterable[str]] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("id", "timeout_ms", "command", "ask", "read")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    id: int
    timeout_ms: int
    command: bytes
    ask: Ask
    read: Read
    def __init__(self, id: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., command: _Optional[bytes] = ..., ask: _Optional[_Union[Ask, _Mapping]] = ..., read: _Optional[_Union[Read, _Mapping]] = ...) -> None: ...

class Ask(_message.Message):
    __slots__ = ("session", "sequence", "acknowledged", "conversation", "question", "retry", "turn", "close_after", "deadline_ms", "options", "models", "samples", "one", "domain", "persona", "strategy", "user", "council")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_AFTER_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ONE_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    PERSONA_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    COUNCIL_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    sequence: int
    acknowledged: int
    conversation: str
    question: str
    retry: bool
    turn: int
    close_after: int
    deadline_ms: int
    options: GenerationOptions
    models: _containers.RepeatedScalarFieldContainer[str]
    samples: int
    one: bool
    domain: str
    persona: str
    strategy: str
    user: str
    council: str
    def __init__(self, session: _Optional[bytes] = ..., sequence: _Optional[int] = ..., acknowledged: _Optional[int] = ..., conversation: _Optional[str] = ..., question: _Optional[str] = ..., retry: _Optional[bool] = ..., turn: _Optional[int] = ..., close_after: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., options: _Optional[_Union[GenerationOptions, _Mapping]] = ..., models: _Optional[_Iterable[str]] = ..., samples: _Optional[int] = ..., one: _Optional[bool] = ..., domain: _Optional[str] = ..., persona: _Optional[str] = ..., strategy: _Optional[str] = ..., user: _Optional[str] = ..., council: _Optional[str] = ...) -> None: ...

class Read(_message.Message):
    __slots__ = ("stale", "key", "conversation", "list", "keys", "budgets")
    STALE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    stale: bool
    key: str
    conversation: str
    list: ListConversations
    keys: ListKeys
    budgets: bool
    def __init__(self, stale: _Optional[bool] = ..., key: _Optional[str] = ..., conversation: _Optional[str] = ..., list: _Optional[_Union[ListConversations, _Mapping]] = ..., keys: _Optional[_Union[ListKeys, _Mapping]] = ..., budgets: _Optional[bool] = ...) -> None: ...

class ListConversations(_message.Message):
    __slots__ = ("after", "limit")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    after: str
    limit: int
    def __init__(self, after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListKeys(_message.Message):
    __slots__ = ("prefix", "after", "limit")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    after: str
    limit: int
    def __init__(self, prefix: _Optional[str] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("id", "reply", "read", "failure")
    ID_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    id: int
    reply: Reply
    read: ReadReply
    failure: Failure
    def __init__(self, id: _Optional[int] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ..., read: _Optional[_Union[ReadReply, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("kind", "message", "leader", "leader_address", "retry_after_ms", "may_have_happened")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[Failure.Kind]
        NOT_LEADER: _ClassVar[Failure.Kind]
        OVERLOADED: _ClassVar[Failure.Kind]
        NO_QUORUM: _ClassVar[Failure.Kind]
        UNKNOWN: _ClassVar[Failure.Kind]
        INVALID: _ClassVar[Failure.Kind]
    UNSPECIFIED: Failure.Kind
    NOT_LEADER: Failure.Kind
    OVERLOADED: Failure.Kind
    NO_QUORUM: Failure.Kind
    UNKNOWN: Failure.Kind
    INVALID: Failure.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    LEADER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    MAY_HAVE_HAPPENED_FIELD_NUMBER: _ClassVar[int]
    kind: Failure.Kind
    message: str
    leader: int
    leader_address: str
    retry_after_ms: int
    may_have_happened: bool
    def __init__(self, kind: _Optional[_Union[Failure.Kind, str]] = ..., message: _Optional[str] = ..., leader: _Optional[int] = ..., leader_address: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., may_have_happened: _Optional[bool] = ...) -> None: ...

class ReadReply(_message.Message):
    __slots__ = ("applied_slot", "key_value", "conversation", "list", "keys", "not_found", "budgets")
    APPLIED_SLOT_FIELD_NUMBER: _ClassVar[int]
    KEY_VALUE_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NOT_FOUND_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    applied_slot: int
    key_value: KeyValue
    conversation: Conversation
    list: ConversationList
    keys: KeyList
    not_found: bool
    budgets: BudgetList
    def __init__(self, applied_slot: _Optional[int] = ..., key_value: _Optional[_Union[KeyValue, _Mapping]] = ..., conversation: _Optional[_Union[Conversation, _Mapping]] = ..., list: _Optional[_Union[ConversationList, _Mapping]] = ..., keys: _Optional[_Union[KeyList, _Mapping]] = ..., not_found: _Optional[bool] = ..., budgets: _Optional[_Union[BudgetList, _Mapping]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("scope", "limit", "spent", "reserved")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    scope: str
    limit: int
    spent: int
    reserved: int
    def __init__(self, scope: _Optional[str] = ..., limit: _Optional[int] = ..., spent: _Optional[int] = ..., reserved: _Optional[int] = ...) -> None: ...

class BudgetList(_message.Message):
    __slots__ = ("budgets",)
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    budgets: _containers.RepeatedCompositeFieldContainer[Budget]
    def __init__(self, budgets: _Optional[_Iterable[_Union[Budget, _Mapping]]] = ...) -> None: ...

class KeyValue(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    def __init__(self, value: _Optional[bytes] = ...) -> None: ...

class KeyList(_message.Message):
    __slots__ = ("keys", "more")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    more: bool
    def __init__(self, keys: _Optional[_Iterable[str]] = ..., more: _Optional[bool] = ...) -> None: ...

class ConversationSummary(_message.Message):
    __slots__ = ("conversation", "turns", "open_turns", "last_question", "updated_ms", "degraded")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    OPEN_TURNS_FIELD_NUMBER: _ClassVar[int]
    LAST_QUESTION_FIELD_NUMBER: _ClassVar[int]
    UPDATED_MS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turns: int
    open_turns: int
    last_question: str
    updated_ms: int
    degraded: bool
    def __init__(self, conversation: _Optional[str] = ..., turns: _Optional[int] = ..., open_turns: _Optional[int] = ..., last_question: _Optional[str] = ..., updated_ms: _Optional[int] = ..., degraded: _Optional[bool] = ...) -> None: ...

class ConversationList(_message.Message):
    __slots__ = ("conversations", "more")
    CONVERSATIONS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    conversations: _containers.RepeatedCompositeFieldContainer[ConversationSummary]
    more: bool
    def __init__(self, conversations: _Optional[_Iterable[_Union[ConversationSummary, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class Conversation(_message.Message):
    __slots__ = ("conversation", "revision", "turns", "created_ms", "updated_ms", "system")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_MS_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    revision: int
    turns: _containers.RepeatedCompositeFieldContainer[Turn]
    created_ms: int
    updated_ms: int
    system: str
    def __init__(self, conversation: _Optional[str] = ..., revision: _Optional[int] = ..., turns: _Optional[_Iterable[_Union[Turn, _Mapping]]] = ..., created_ms: _Optional[int] = ..., updated_ms: _Optional[int] = ..., system: _Optional[str] = ...) -> None: ...

class Turn(_message.Message):
    __slots__ = ("turn", "question", "candidates", "choice", "closed", "opened_ms", "deadline_ms", "close_after", "asked_revision", "choice_revision", "options", "retries", "user", "council")
    TURN_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    OPENED_MS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_AFTER_FIELD_NUMBER: _ClassVar[int]
    ASKED_REVISION_FIELD_NUMBER: _ClassVar[int]
    CHOICE_REVISION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    COUNCIL_FIELD_NUMBER: _ClassVar[int]
    turn: int
    question: str
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    choice: int
    closed: bool
    opened_ms: int
    deadline_ms: int
    close_after: int
    asked_revision: int
    choice_revision: int
    options: GenerationOptions
    retries: _containers.RepeatedCompositeFieldContainer[Retried]
    user: str
    council: Council
    def __init__(self, turn: _Optional[int] = ..., question: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., choice: _Optional[int] = ..., closed: _Optional[bool] = ..., opened_ms: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., close_after: _Optional[int] = ..., asked_revision: _Optional[int] = ..., choice_revision: _Optional[int] = ..., options: _Optional[_Union[GenerationOptions, _Mapping]] = ..., retries: _Optional[_Iterable[_Union[Retried, _Mapping]]] = ..., user: _Optional[str] = ..., council: _Optional[_Union[Council, _Mapping]] = ...) -> None: ...

class Retried(_message.Message):
    __slots__ = ("revision", "time_ms", "deadline_ms", "close_after")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_AFTER_FIELD_NUMBER: _ClassVar[int]
    revision: int
    time_ms: int
    deadline_ms: int
    close_after: int
    def __init__(self, revision: _Optional[int] = ..., time_ms: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., close_after: _Optional[int] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("number", "node", "model", "attempt", "ended", "text", "error", "finish_reason", "usage", "takeovers", "planned_node", "planned_model", "opened_revision", "ended_revision", "provider", "prompt_hash", "cost", "fallbacks", "left_out", "context_tokens", "stage", "seat", "ranking", "hedge")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TAKEOVERS_FIELD_NUMBER: _ClassVar[int]
    PLANNED_NODE_FIELD_NUMBER: _ClassVar[int]
    PLANNED_MODEL_FIELD_NUMBER: _ClassVar[int]
    OPENED_REVISION_FIELD_NUMBER: _ClassVar[int]
    ENDED_REVISION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    PROMPT_HASH_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SEAT_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    HEDGE_FIELD_NUMBER: _ClassVar[int]
    number: int
    node: int
    model: str
    attempt: int
    ended: bool
    text: str
    error: str
    finish_reason: str
    usage: Usage
    takeovers: _containers.RepeatedCompositeFieldContainer[TakenOver]
    planned_node: int
    planned_model: str
    opened_revision: int
    ended_revision: int
    provider: str
    prompt_hash: str
    cost: int
    fallbacks: _containers.RepeatedScalarFieldContainer[str]
    left_out: int
    context_tokens: int
    stage: int
    seat: int
    ranking: _containers.RepeatedScalarFieldContainer[int]
    hedge: Hedge
    def __init__(self, number: _Optional[int] = ..., node: _Optional[int] = ..., model: _Optional[str] = ..., attempt: _Optional[int] = ..., ended: _Optional[bool] = ..., text: _Optional[str] = ..., error: _Optional[str] = ..., finish_reason: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., takeovers: _Optional[_Iterable[_Union[TakenOver, _Mapping]]] = ..., planned_node: _Optional[int] = ..., planned_model: _Optional[str] = ..., opened_revision: _Optional[int] = ..., ended_revision: _Optional[int] = ..., provider: _Optional[str] = ..., prompt_hash: _Optional[str] = ..., cost: _Optional[int] = ..., fallbacks: _Optional[_Iterable[str]] = ..., left_out: _Optional[int] = ..., context_tokens: _Optional[int] = ..., stage: _Optional[int] = ..., seat: _Optional[int] = ..., ranking: _Optional[_Iterable[int]] = ..., hedge: _Optional[_Union[Hedge, _Mapping]] = ...) -> None: ...

class Hedge(_message.Message):
    __slots__ = ("attempt", "node", "model", "revision")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    node: int
    model: str
    revision: int
    def __init__(self, attempt: _Optional[int] = ..., node: _Optional[int] = ..., model: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class TakenOver(_message.Message):
    __slots__ = ("attempt", "node", "kept", "revision", "model", "reason")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    node: int
    kept: int
    revision: int
    model: str
    reason: str
    def __init__(self, attempt: _Optional[int] = ..., node: _Optional[int] = ..., kept: _Optional[int] = ..., revision: _Optional[int] = ..., model: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens", "estimated")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    estimated: bool
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., estimated: _Optional[bool] = ...) -> None: ...

class Council(_message.Message):
    __slots__ = ("template", "revision", "seed", "members", "stages")
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    template: str
    revision: str
    seed: int
    members: _containers.RepeatedCompositeFieldContainer[CouncilMember]
    stages: _containers.RepeatedCompositeFieldContainer[CouncilStage]
    def __init__(self, template: _Optional[str] = ..., revision: _Optional[str] = ..., seed: _Optional[int] = ..., members: _Optional[_Iterable[_Union[CouncilMember, _Mapping]]] = ..., stages: _Optional[_Iterable[_Union[CouncilStage, _Mapping]]] = ...) -> None: ...

class CouncilMember(_message.Message):
    __slots__ = ("node", "model", "role", "instructions", "fallbacks")
    NODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    node: int
    model: str
    role: str
    instructions: str
    fallbacks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[int] = ..., model: _Optional[str] = ..., role: _Optional[str] = ..., instructions: _Optional[str] = ..., fallbacks: _Optional[_Iterable[str]] = ...) -> None: ...

class CouncilStage(_message.Message):
    __slots__ = ("kind", "seats", "close_after", "deadline_ms", "instructions")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SEATS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_AFTER_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    seats: _containers.RepeatedScalarFieldContainer[int]
    close_after: int
    deadline_ms: int
    instructions: str
    def __init__(self, kind: _Optional[str] = ..., seats: _Optional[_Iterable[int]] = ..., close_after: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., instructions: _Optional[str] = ...) -> None: ...

class TemplatesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Templates(_message.Message):
    __slots__ = ("templates", "problems")
    TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    templates: _containers.RepeatedCompositeFieldContainer[Template]
    problems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, templates: _Optional[_Iterable[_Union[Template, _Mapping]]] = ..., problems: _Optional[_Iterable[str]] = ...) -> None: ...

class Template(_message.Message):
    __slots__ = ("name", "description", "revision", "own", "stages", "roles", "samples", "chairman")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OWN_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CHAIRMAN_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    revision: str
    own: bool
    stages: _containers.RepeatedCompositeFieldContainer[TemplateStage]
    roles: _containers.RepeatedCompositeFieldContainer[TemplateRole]
    samples: int
    chairman: TemplateRole
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., revision: _Optional[str] = ..., own: _Optional[bool] = ..., stages: _Optional[_Iterable[_Union[TemplateStage, _Mapping]]] = ..., roles: _Optional[_Iterable[_Union[TemplateRole, _Mapping]]] = ..., samples: _Optional[int] = ..., chairman: _Optional[_Union[TemplateRole, _Mapping]] = ...) -> None: ...

class TemplateRole(_message.Message):
    __slots__ = ("name", "instructions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    instructions: str
    def __init__(self, name: _Optional[str] = ..., instructions: _Optional[str] = ...) -> None: ...

class TemplateStage(_message.Message):
    __slots__ = ("kind", "by", "quorum", "deadline_ms", "instructions")
    KIND_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    QUORUM_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    by: _containers.RepeatedScalarFieldContainer[str]
    quorum: int
    deadline_ms: int
    instructions: str
    def __init__(self, kind: _Optional[str] = ..., by: _Optional[_Iterable[str]] = ..., quorum: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., instructions: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("conversation", "turn", "positions")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: int
    positions: _containers.RepeatedCompositeFieldContainer[Position]
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[int] = ..., positions: _Optional[_Iterable[_Union[Position, _Mapping]]] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("candidate", "attempt", "offset")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    candidate: int
    attempt: int
    offset: int
    def __init__(self, candidate: _Optional[int] = ..., attempt: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class WatchEvent(_message.Message):
    __slots__ = ("delta", "candidate_done", "turn_closed", "takeover", "stage_opened")
    DELTA_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_DONE_FIELD_NUMBER: _ClassVar[int]
    TURN_CLOSED_FIELD_NUMBER: _ClassVar[int]
    TAKEOVER_FIELD_NUMBER: _ClassVar[int]
    STAGE_OPENED_FIELD_NUMBER: _ClassVar[int]
    delta: WatchDelta
    candidate_done: Candidate
    turn_closed: Turn
    takeover: Takeover
    stage_opened: StageOpened
    def __init__(self, delta: _Optional[_Union[WatchDelta, _Mapping]] = ..., candidate_done: _Optional[_Union[Candidate, _Mapping]] = ..., turn_closed: _Optional[_Union[Turn, _Mapping]] = ..., takeover: _Optional[_Union[Takeover, _Mapping]] = ..., stage_opened: _Optional[_Union[StageOpened, _Mapping]] = ...) -> None: ...

class StageOpened(_message.Message):
    __slots__ = ("stage", "council", "seats")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    COUNCIL_FIELD_NUMBER: _ClassVar[int]
    SEATS_FIELD_NUMBER: _ClassVar[int]
    stage: int
    council: Council
    seats: _containers.RepeatedCompositeFieldContainer[SeatTaken]
    def __init__(self, stage: _Optional[int] = ..., council: _Optional[_Union[Council, _Mapping]] = ..., seats: _Optional[_Iterable[_Union[SeatTaken, _Mapping]]] = ...) -> None: ...

class SeatTaken(_message.Message):
    __slots__ = ("candidate", "seat", "node")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    SEAT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    candidate: int
    seat: int
    node: int
    def __init__(self, candidate: _Optional[int] = ..., seat: _Optional[int] = ..., node: _Optional[int] = ...) -> None: ...

class WatchDelta(_message.Message):
    __slots__ = ("candidate", "attempt", "offset", "text", "node", "model")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    candidate: int
    attempt: int
    offset: int
    text: str
    node: int
    model: str
    def __init__(self, candidate: _Optional[int] = ..., attempt: _Optional[int] = ..., offset: _Optional[int] = ..., text: _Optional[str] = ..., node: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class Takeover(_message.Message):
    __slots__ = ("candidate", "attempt", "node", "offset")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    candidate: int
    attempt: int
    node: int
    offset: int
    def __init__(self, candidate: _Optional[int] = ..., attempt: _Optional[int] = ..., node: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Status(_message.Message):
    __slots__ = ("cluster_id", "node", "incarnation", "role", "leader", "ballot_seq_num", "ballot_pid", "chosen_through", "applied_slot", "state_hash", "snapshot_slot", "log_first_slot", "log_bytes", "members", "models", "conversations", "keys", "loop_lag_ms", "uptime_ms", "version", "transport", "orchestrator_address", "pending", "elections", "loop_lag_max_ms", "progress", "registry")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    BALLOT_SEQ_NUM_FIELD_NUMBER: _ClassVar[int]
    BALLOT_PID_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_THROUGH_FIELD_NUMBER: _ClassVar[int]
    APPLIED_SLOT_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_SLOT_FIELD_NUMBER: _ClassVar[int]
    LOG_FIRST_SLOT_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CONVERSATIONS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    LOOP_LAG_MS_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    ORCHESTRATOR_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    ELECTIONS_FIELD_NUMBER: _ClassVar[int]
    LOOP_LAG_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    node: int
    incarnation: int
    role: str
    leader: int
    ballot_seq_num: int
    ballot_pid: int
    chosen_through: int
    applied_slot: int
    state_hash: str
    snapshot_slot: int
    log_first_slot: int
    log_bytes: int
    members: _containers.RepeatedCompositeFieldContainer[MemberStatus]
    models: _containers.RepeatedCompositeFieldContainer[ModelStatus]
    conversations: int
    keys: int
    loop_lag_ms: float
    uptime_ms: int
    version: str
    transport: str
    orchestrator_address: str
    pending: int
    elections: int
    loop_lag_max_ms: float
    progress: Progress
    registry: _containers.RepeatedCompositeFieldContainer[RegisteredModel]
    def __init__(self, cluster_id: _Optional[str] = ..., node: _Optional[int] = ..., incarnation: _Optional[int] = ..., role: _Optional[str] = ..., leader: _Optional[int] = ..., ballot_seq_num: _Optional[int] = ..., ballot_pid: _Optional[int] = ..., chosen_through: _Optional[int] = ..., applied_slot: _Optional[int] = ..., state_hash: _Optional[str] = ..., snapshot_slot: _Optional[int] = ..., log_first_slot: _Optional[int] = ..., log_bytes: _Optional[int] = ..., members: _Optional[_Iterable[_Union[MemberStatus, _Mapping]]] = ..., models: _Optional[_Iterable[_Union[ModelStatus, _Mapping]]] = ..., conversations: _Optional[int] = ..., keys: _Optional[int] = ..., loop_lag_ms: _Optional[float] = ..., uptime_ms: _Optional[int] = ..., version: _Optional[str] = ..., transport: _Optional[str] = ..., orchestrator_address: _Optional[str] = ..., pending: _Optional[int] = ..., elections: _Optional[int] = ..., loop_lag_max_ms: _Optional[float] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., registry: _Optional[_Iterable[_Union[RegisteredModel, _Mapping]]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("known_slot", "records_encoded", "records", "bytes_received", "bytes")
    KNOWN_SLOT_FIELD_NUMBER: _ClassVar[int]
    RECORDS_ENCODED_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    known_slot: int
    records_encoded: int
    records: int
    bytes_received: int
    bytes: int
    def __init__(self, known_slot: _Optional[int] = ..., records_encoded: _Optional[int] = ..., records: _Optional[int] = ..., bytes_received: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class MemberStatus(_message.Message):
    __slots__ = ("node", "address", "live", "chosen_through", "connected", "voting", "queued_bytes")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_THROUGH_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    VOTING_FIELD_NUMBER: _ClassVar[int]
    QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    node: int
    address: str
    live: bool
    chosen_through: int
    connected: bool
    voting: bool
    queued_bytes: int
    def __init__(self, node: _Optional[int] = ..., address: _Optional[str] = ..., live: _Optional[bool] = ..., chosen_through: _Optional[int] = ..., connected: _Optional[bool] = ..., voting: _Optional[bool] = ..., queued_bytes: _Optional[int] = ...) -> None: ...

class ModelStatus(_message.Message):
    __slots__ = ("node", "provider", "model", "note", "name", "in_flight", "tokens_per_second", "latency_p50_ms", "latency_p99_ms", "last_error", "served")
    NODE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_MS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P99_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    node: int
    provider: str
    model: str
    note: str
    name: str
    in_flight: int
    tokens_per_second: float
    latency_p50_ms: int
    latency_p99_ms: int
    last_error: str
    served: bool
    def __init__(self, node: _Optional[int] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., note: _Optional[str] = ..., name: _Optional[str] = ..., in_flight: _Optional[int] = ..., tokens_per_second: _Optional[float] = ..., latency_p50_ms: _Optional[int] = ..., latency_p99_ms: _Optional[int] = ..., last_error: _Optional[str] = ..., served: _Optional[bool] = ...) -> None: ...

class RegisteredModel(_message.Message):
    __slots__ = ("node", "served", "answers", "errors", "prompt_tokens", "completion_tokens", "cost", "failures", "failed_ms", "speed", "loaded", "probe_error", "probed_ms")
    NODE_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    FAILED_MS_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    PROBE_ERROR_FIELD_NUMBER: _ClassVar[int]
    PROBED_MS_FIELD_NUMBER: _ClassVar[int]
    node: int
    served: ServedModel
    answers: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cost: int
    failures: int
    failed_ms: int
    speed: int
    loaded: bool
    probe_error: str
    probed_ms: int
    def __init__(self, node: _Optional[int] = ..., served: _Optional[_Union[ServedModel, _Mapping]] = ..., answers: _Optional[int] = ..., errors: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., cost: _Optional[int] = ..., failures: _Optional[int] = ..., failed_ms: _Optional[int] = ..., speed: _Optional[int] = ..., loaded: _Optional[bool] = ..., probe_error: _Optional[str] = ..., probed_ms: _Optional[int] = ...) -> None: ...

class GenerationOptions(_message.Message):
    __slots__ = ("temperature", "max_tokens", "seed", "system", "role", "hedge_ms")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HEDGE_MS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    max_tokens: int
    seed: int
    system: str
    role: str
    hedge_ms: int
    def __init__(self, temperature: _Optional[float] = ..., max_tokens: _Optional[int] = ..., seed: _Optional[int] = ..., system: _Optional[str] = ..., role: _Optional[str] = ..., hedge_ms: _Optional[int] = ...) -> None: ...

class PlannedCandidate(_message.Message):
    __slots__ = ("number", "node", "model", "fallbacks")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    number: int
    node: int
    model: str
    fallbacks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, number: _Optional[int] = ..., node: _Optional[int] = ..., model: _Optional[str] = ..., fallbacks: _Optional[_Iterable[str]] = ...) -> None: ...

class OpenSession(_message.Message):
    __slots__ = ("numbered",)
    NUMBERED_FIELD_NUMBER: _ClassVar[int]
    numbered: bool
    def __init__(self, numbered: _Optional[bool] = ...) -> None: ...

class ServedModel(_message.Message):
    __slots__ = ("name", "provider", "model", "context_tokens", "max_tokens", "prompt_price", "completion_price", "tags", "fallbacks", "hedge_ms", "server")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_PRICE_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_PRICE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    HEDGE_MS_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    name: str
    provider: str
    model: str
    context_tokens: int
    max_tokens: int
    prompt_price: int
    completion_price: int
    tags: _containers.RepeatedScalarFieldContainer[str]
    fallbacks: _containers.RepeatedScalarFieldContainer[str]
    hedge_ms: int
    server: str
    def __init__(self, name: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., context_tokens: _Optional[int] = ..., max_tokens: _Optional[int] = ..., prompt_price: _Optional[int] = ..., completion_price: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ..., fallbacks: _Optional[_Iterable[str]] = ..., hedge_ms: _Optional[int] = ..., server: _Optional[str] = ...) -> None: ...

class ServeModels(_message.Message):
    __slots__ = ("node", "models")
    NODE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    node: int
    models: _containers.RepeatedCompositeFieldContainer[ServedModel]
    def __init__(self, node: _Optional[int] = ..., models: _Optional[_Iterable[_Union[ServedModel, _Mapping]]] = ...) -> None: ...

class RecordProbe(_message.Message):
    __slots__ = ("node", "server", "models")
    NODE_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    node: int
    server: str
    models: _containers.RepeatedCompositeFieldContainer[ProbedModel]
    def __init__(self, node: _Optional[int] = ..., server: _Optional[str] = ..., models: _Optional[_Iterable[_Union[ProbedModel, _Mapping]]] = ...) -> None: ...

class ProbedModel(_message.Message):
    __slots__ = ("model", "loaded", "error", "answers")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    model: str
    loaded: bool
    error: str
    answers: int
    def __init__(self, model: _Optional[str] = ..., loaded: _Optional[bool] = ..., error: _Optional[str] = ..., answers: _Optional[int] = ...) -> None: ...

class CreateConversation(_message.Message):
    __slots__ = ("conversation", "system")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    system: str
    def __init__(self, conversation: _Optional[str] = ..., system: _Optional[str] = ...) -> None: ...

class SubmitQuery(_message.Message):
    __slots__ = ("conversation", "question", "plan", "close_after", "deadline_ms", "options", "user")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_AFTER_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    question: str
    plan: _containers.RepeatedCompositeFieldContainer[PlannedCandidate]
    close_after: int
    deadline_ms: int
    options: GenerationOptions
    user: str
    def __init__(self, conversation: _Optional[str] = ..., question: _Optional[str] = ..., plan: _Optional[_Iterable[_Union[PlannedCandidate, _Mapping]]] = ..., close_after: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., options: _Optional[_Union[GenerationOptions, _Mapping]] = ..., user: _Optional[str] = ...) -> None: ...

class ConveneCouncil(_message.Message):
    __slots__ = ("conversation", "question", "council", "options", "user")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    COUNCIL_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    question: str
    council: Council
    options: GenerationOptions
    user: str
    def __init__(self, conversation: _Optional[str] = ..., question: _Optional[str] = ..., council: _Optional[_Union[Council, _Mapping]] = ..., options: _Optional[_Union[GenerationOptions, _Mapping]] = ..., user: _Optional[str] = ...) -> None: ...

class CloseStage(_message.Message):
    __slots__ = ("conversation", "turn", "last_candidate", "reason")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    LAST_CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: int
    last_candidate: int
    reason: str
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[int] = ..., last_candidate: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class RetryTurn(_message.Message):
    __slots__ = ("conversation", "turn", "plan", "deadline_ms")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: int
    plan: _containers.RepeatedCompositeFieldContainer[PlannedCandidate]
    deadline_ms: int
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[int] = ..., plan: _Optional[_Iterable[_Union[PlannedCandidate, _Mapping]]] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class RecordCheckpoint(_message.Message):
    __slots__ = ("conversation", "turn", "candidate", "attempt", "text", "offset")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: int
    candidate: int
    attempt: int
    text: str
    offset: int
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[int] = ..., candidate: _Optional[int] = ..., attempt: _Optional[int] = ..., text: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class RecordCandidate(_message.Message):
    __slots__ = ("conversation", "turn", "candidate", "attempt", "text", "model", "finish_reason", "usage", "error", "provider", "served_as", "prompt_hash", "speed", "left_out", "context_tokens", "hedge_usage")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SERVED_AS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_HASH_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    HEDGE_USAGE_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: int
    candidate: int
    attempt: int
    text: str
    model: str
    finish_reason: str
    usage: Usage
    error: str
    provider: str
    served_as: str
    prompt_hash: str
    speed: int
    left_out: int
    context_tokens: int
    hedge_usage: Usage
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[int] = ..., candidate: _Optional[int] = ..., attempt: _Optional[int] = ..., text: _Optional[str] = ..., model: _Optional[str] = ..., finish_reason: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., error: _Optional[str] = ..., provider: _Optional[str] = ..., served_as: _Optional[str] = ..., prompt_hash: _Optional[str] = ..., speed: _Optional[int] = ..., left_out: _Optional[int] = ..., context_tokens: _Optional[int] = ..., hedge_usage: _Optional[_Union[Usage, _Mapping]] = ...) -> None: ...

class HedgeCandidate(_message.Message):
    __slots__ = ("conversation", "turn", "candidate", "attempt", "node", "model")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: int
    candidate: int
    attempt: int
    node: int
    model: str
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[int] = ..., candidate: _Optional[int] = ..., attempt: _Optional[int] = ..., node: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class ReassignCandidate(_message.Message):
    __slots__ = ("conversation", "turn", "candidate", "attempt", "node", "keep", "model", "reason", "served_as", "usage", "hedged", "hedge_usage")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SERVED_AS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    HEDGED_FIELD_NUMBER: _ClassVar[int]
    HEDGE_USAGE_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: int
    candidate: int
    attempt: int
    node: int
    keep: int
    model: str
    reason: str
    served_as: str
    usage: Usage
    hedged: bool
    hedge_usage: Usage
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[int] = ..., candidate: _Optional[int] = ..., attempt: _Optional[int] = ..., node: _Optional[int] = ..., keep: _Optional[int] = ..., model: _Optional[str] = ..., reason: _Optional[str] = ..., served_as: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., hedged: _Optional[bool] = ..., hedge_usage: _Optional[_Union[Usage, _Mapping]] = ...) -> None: ...

class CloseTurn(_message.Message):
    __slots__ = ("conversation", "turn", "reason", "last_candidate")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LAST_CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: int
    reason: str
    last_candidate: int
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[int] = ..., reason: _Optional[str] = ..., last_candidate: _Optional[int] = ...) -> None: ...

class Choose(_message.Message):
    __slots__ = ("conversation", "turn", "candidate")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: int
    candidate: int
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[int] = ..., candidate: _Optional[int] = ...) -> None: ...

class Fork(_message.Message):
    __slots__ = ("source", "target", "at_turn")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    AT_TURN_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    at_turn: int
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., at_turn: _Optional[int] = ...) -> None: ...

class Rename(_message.Message):
    __slots__ = ("conversation", "target", "created_ms", "updated_ms")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_MS_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    target: str
    created_ms: int
    updated_ms: int
    def __init__(self, conversation: _Optional[str] = ..., target: _Optional[str] = ..., created_ms: _Optional[int] = ..., updated_ms: _Optional[int] = ...) -> None: ...

class Delete(_message.Message):
    __slots__ = ("conversation",)
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    def __init__(self, conversation: _Optional[str] = ...) -> None: ...

class SetBudget(_message.Message):
    __slots__ = ("scope", "limit")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    scope: str
    limit: int
    def __init__(self, scope: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ImportTurn(_message.Message):
    __slots__ = ("conversation", "turn")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    conversation: str
    turn: Turn
    def __init__(self, conversation: _Optional[str] = ..., turn: _Optional[_Union[Turn, _Mapping]] = ...) -> None: ...

class Put(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: bytes
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class CompareAndSwap(_message.Message):
    __slots__ = ("key", "expected", "new")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    key: str
    expected: bytes
    new: bytes
    def __init__(self, key: _Optional[str] = ..., expected: _Optional[bytes] = ..., new: _Optional[bytes] = ...) -> None: ...

class DeleteKey(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class SessionCommand(_message.Message):
    __slots__ = ("session", "sequence", "acknowledged", "open_session", "create_conversation", "submit_query", "retry_turn", "record_checkpoint", "record_candidate", "reassign_candidate", "close_turn", "choose", "fork", "rename", "delete", "import_turn", "put", "compare_and_swap", "delete_key", "serve_models", "set_budget", "record_probe", "hedge_candidate", "convene_council", "close_stage")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    OPEN_SESSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_QUERY_FIELD_NUMBER: _ClassVar[int]
    RETRY_TURN_FIELD_NUMBER: _ClassVar[int]
    RECORD_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    RECORD_CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    REASSIGN_CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TURN_FIELD_NUMBER: _ClassVar[int]
    CHOOSE_FIELD_NUMBER: _ClassVar[int]
    FORK_FIELD_NUMBER: _ClassVar[int]
    RENAME_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    IMPORT_TURN_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    COMPARE_AND_SWAP_FIELD_NUMBER: _ClassVar[int]
    DELETE_KEY_FIELD_NUMBER: _ClassVar[int]
    SERVE_MODELS_FIELD_NUMBER: _ClassVar[int]
    SET_BUDGET_FIELD_NUMBER: _ClassVar[int]
    RECORD_PROBE_FIELD_NUMBER: _ClassVar[int]
    HEDGE_CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    CONVENE_COUNCIL_FIELD_NUMBER: _ClassVar[int]
    CLOSE_STAGE_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    sequence: int
    acknowledged: int
    open_session: OpenSession
    create_conversation: CreateConversation
    submit_query: SubmitQuery
    retry_turn: RetryTurn
    record_checkpoint: RecordCheckpoint
    record_candidate: RecordCandidate
    reassign_candidate: ReassignCandidate
    close_turn: CloseTurn
    choose: Choose
    fork: Fork
    rename: Rename
    delete: Delete
    import_turn: ImportTurn
    put: Put
    compare_and_swap: CompareAndSwap
    delete_key: DeleteKey
    serve_models: ServeModels
    set_budget: SetBudget
    record_probe: RecordProbe
    hedge_candidate: HedgeCandidate
    convene_council: ConveneCouncil
    close_stage: CloseStage
    def __init__(self, session: _Optional[bytes] = ..., sequence: _Optional[int] = ..., acknowledged: _Optional[int] = ..., open_session: _Optional[_Union[OpenSession, _Mapping]] = ..., create_conversation: _Optional[_Union[CreateConversation, _Mapping]] = ..., submit_query: _Optional[_Union[SubmitQuery, _Mapping]] = ..., retry_turn: _Optional[_Union[RetryTurn, _Mapping]] = ..., record_checkpoint: _Optional[_Union[RecordCheckpoint, _Mapping]] = ..., record_candidate: _Optional[_Union[RecordCandidate, _Mapping]] = ..., reassign_candidate: _Optional[_Union[ReassignCandidate, _Mapping]] = ..., close_turn: _Optional[_Union[CloseTurn, _Mapping]] = ..., choose: _Optional[_Union[Choose, _Mapping]] = ..., fork: _Optional[_Union[Fork, _Mapping]] = ..., rename: _Optional[_Union[Rename, _Mapping]] = ..., delete: _Optional[_Union[Delete, _Mapping]] = ..., import_turn: _Optional[_Union[ImportTurn, _Mapping]] = ..., put: _Optional[_Union[Put, _Mapping]] = ..., compare_and_swap: _Optional[_Union[CompareAndSwap, _Mapping]] = ..., delete_key: _Optional[_Union[DeleteKey, _Mapping]] = ..., serve_models: _Optional[_Union[ServeModels, _Mapping]] = ..., set_budget: _Optional[_Union[SetBudget, _Mapping]] = ..., record_probe: _Optional[_Union[RecordProbe, _Mapping]] = ..., hedge_candidate: _Optional[_Union[HedgeCandidate, _Mapping]] = ..., convene_council: _Optional[_Union[ConveneCouncil, _Mapping]] = ..., close_stage: _Optional[_Union[CloseStage, _Mapping]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SessionOpened(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    def __init__(self, session: _Optional[bytes] = ...) -> None: ...

class TurnOpened(_message.Message):
    __slots__ = ("turn", "candidates")
    TURN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    turn: int
    candidates: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, turn: _Optional[int] = ..., candidates: _Optional[_Iterable[int]] = ...) -> None: ...

class Chosen(_message.Message):
    __slots__ = ("turn", "candidate")
    TURN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    turn: int
    candidate: int
    def __init__(self, turn: _Optional[int] = ..., candidate: _Optional[int] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("code", "message", "turn", "winner", "current")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    WINNER_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    turn: int
    winner: int
    current: bytes
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., turn: _Optional[int] = ..., winner: _Optional[int] = ..., current: _Optional[bytes] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("done", "turn_opened", "chosen", "refused", "session_opened")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TURN_OPENED_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    SESSION_OPENED_FIELD_NUMBER: _ClassVar[int]
    done: Done
    turn_opened: TurnOpened
    chosen: Chosen
    refused: Refused
    session_opened: SessionOpened
    def __init__(self, done: _Optional[_Union[Done, _Mapping]] = ..., turn_opened: _Optional[_Union[TurnOpened, _Mapping]] = ..., chosen: _Optional[_Union[Chosen, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., session_opened: _Optional[_Union[SessionOpened, _Mapping]] = ...) -> None: ...
