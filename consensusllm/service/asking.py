"""A client's question, completed with its plan: who is to answer it, and as whom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from consensusllm.conversations.budget_rules import is_user
from consensusllm.conversations.commands import (
    ConveneCouncil,
    Operation,
    RetryTurn,
    SubmitQuery,
)
from consensusllm.council.domains import role
from consensusllm.council.load import Load
from consensusllm.council.planning import Cluster, Unplannable, Wishes, plan
from consensusllm.replica.runtime import Runtime
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.records import options_from_proto

from .councils import Templates

if TYPE_CHECKING:
    from consensusllm.serving import OwnModel


MODELS_MAX = 1024
"""Names of models in a query, each of which is looked up; a turn has far fewer answers."""


def wishes_of(ask: pb.Ask) -> Wishes:
    """Raises MalformedMessage."""
    if len(ask.models) > MODELS_MAX:
        raise MalformedMessage(f"{len(ask.models)} models are named: the most is {MODELS_MAX}")
    return Wishes(tuple(ask.models), ask.samples or 1, ask.one, ask.strategy or "smart")


class Planner:
    """Plans by what ``runtime``'s node knows; ``domains`` are the configured ones, ``models`` its
    own, filled in later, and ``configured`` the names of each node's, as far as they are known."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        default_deadline_ms: int,
        domains: Mapping[str, str],
        templates: Templates,
        models: Sequence[OwnModel] = (),
        configured: Mapping[int, Collection[str]] = MappingProxyType({}),
    ) -> None:
        self._runtime = runtime
        self._templates = templates
        self._default_deadline_ms = default_deadline_ms
        self._domains = domains
        self._models = models
        self._configured = configured
        self._load = Load(lambda: runtime.replica.machine)

    def complete(self, ask: pb.Ask, wishes: Wishes) -> Operation:
        """The command that ``ask`` stands for. Raises Unplannable."""
        most = self._runtime.replica.config.limits.candidates_per_turn
        cluster = self._cluster(wishes)
        self._check_served(wishes, cluster)
        planned = plan(wishes, cluster, most)
        deadline_ms = ask.deadline_ms or self._default_deadline_ms
        if ask.retry and ask.council:
            raise Unplannable("a council is convened for a new question, not for a retry")
        if ask.close_after and ask.council:
            raise Unplannable(
                "the stages of a council close as its template says: leave out close_after"
            )
        if ask.retry:
            return RetryTurn(ask.conversation, ask.turn, planned, deadline_ms)
        if ask.user and not is_user(ask.user):
            raise Unplannable(
                f"{ask.user!r:.80} is no name of a user: use 1 to 64 of letters, digits, '.', '_', "
                "'@' and '-'"
            )
        options = options_from_proto(ask.options)
        if options.hedge_ms and not any(each.fallbacks for each in planned):
            raise Unplannable(
                "none of these models has fallbacks, so nobody else could be asked: leave out hedge"
            )
        if ask.council:
            council = self._templates.convened(
                ask.council, planned, cluster.registry.keys(), deadline_ms
            )
            told = replace(options, role=role(ask.domain, ask.persona, self._domains))
            return ConveneCouncil(ask.conversation, ask.question, council, told, ask.user)
        if wishes.samples > 1 and options.seed is not None:
            raise Unplannable("samples with one seed would all be the same: leave out n or seed")
        if not wishes.plain and ask.close_after > len(planned):
            raise Unplannable(
                f"the turn cannot close after {ask.close_after} of {len(planned)} answers: ask for "
                "more answers, or wait for fewer"
            )
        return SubmitQuery(
            ask.conversation,
            ask.question,
            planned,
            min(ask.close_after, len(planned)),
            deadline_ms,
            replace(options, role=role(ask.domain, ask.persona, self._domains)),
            ask.user,
        )

    def counts(self, operation: Operation) -> Callable[[], None]:
        """Count what ``operation`` gives the nodes to do until the result is called, once it is
        applied or will not be: what comes at once is planned before any of it is in the state."""
        return self._load.give(_nodes(operation))

    def _check_served(self, wishes: Wishes, cluster: Cluster) -> None:
        """Raises Unplannable for a model that a node is configured with and nobody serves: it is
        not in the registry, and only that node knows why."""
        here = self._runtime.replica.node
        why = {each.served.name: each.note for each in self._models if each.provider is None}
        served = set(cluster.names())
        for asked in wishes.models:
            name = asked.partition("@")[0]
            if name in served:
                continue
            if name in why:
                raise Unplannable(
                    f"nobody serves {name}: node {here} is configured with it, and cannot: "
                    f"{why[name]}"
                )
            for node, names in sorted(self._configured.items()):
                if name in names:
                    raise Unplannable(
                        f"nobody serves {name}: node {node} is configured with it, and has not "
                        "begun or cannot: models says why"
                    )

    def _cluster(self, wishes: Wishes) -> Cluster:
        replica = self._runtime.replica
        live = replica.paxos.live or replica.paxos.membership.voters
        load = {} if wishes.plain else self._load.by_node()
        now_ms = replica.time_ms(self._runtime.clock())
        return Cluster(replica.machine.registry, live, load, now_ms)


def _nodes(operation: Operation) -> list[int]:
    """Who is asked at once, a node for each answer."""
    if isinstance(operation, SubmitQuery | RetryTurn):
        return [each.node for each in operation.plan]
    if isinstance(operation, ConveneCouncil):
        council = operation.council
        return [council.member(seat).node for seat in council.stage(1).seats]
    return []
