"""Any sequence of operations, cuts and restarts against a model of a few lines."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from storage_bench import Bench, MemoryBench, SqliteBench, info_of

from consensusllm.paxos.ballot import BOTTOM, Ballot
from consensusllm.paxos.batch import Batch
from consensusllm.paxos.messages import Entry
from consensusllm.paxos.ready import Persist, Recovered
from consensusllm.storage import Disk


@dataclass
class Model:
    promised: Ballot = BOTTOM
    log: dict[int, Entry] = field(default_factory=dict)
    chosen: int = 0
    compacted: int = 0
    snapshot: tuple[int, bytes] = (0, b"")
    staged: tuple[int, bytes] = (0, b"")

    def apply(self, change: Persist) -> None:
        self.promised = change.promised or self.promised
        self.log.update({entry.slot: entry for entry in change.entries})
        self.compacted = max(self.compacted, change.compact_through or 0)
        self.chosen = max(self.chosen, self.compacted, change.chosen_through or 0)
        self.log = {slot: entry for slot, entry in self.log.items() if slot > self.compacted}

    def recovered(self) -> Recovered:
        return Recovered(
            incarnation=7,
            voting=True,
            promised=self.promised,
            entries=tuple(self.log[slot] for slot in sorted(self.log)),
            chosen_through=self.chosen,
            compacted_through=self.compacted,
            snapshot_slot=self.snapshot[0],
        )


class DiskMachine(RuleBasedStateMachine):
    def make_bench(self) -> Bench:
        return MemoryBench()

    def __init__(self) -> None:
        super().__init__()
        self.bench = self.make_bench()
        self.model = Model()
        self.disk: Disk

    @initialize()
    def begin(self) -> None:
        self.bench.format()
        self.disk = self.bench.open()
        self.disk.load()

    @rule(data=st.data(), count=st.integers(1, 3))
    def write(self, data: st.DataObject, count: int) -> None:
        changes = []
        for _ in range(count):
            change = self.draw_change(data)
            self.model.apply(change)
            changes.append(change)
        self.disk.write(changes)

    def draw_change(self, data: st.DataObject) -> Persist:
        model = self.model
        raised = data.draw(st.integers(0, 2))
        ballot = Ballot(model.promised.seq_num + raised, data.draw(st.integers(5, 6)))
        slots = data.draw(st.lists(st.integers(1, 4), max_size=4))
        entries = tuple(
            Entry(
                model.chosen + slot,
                Ballot(data.draw(st.integers(1, 9)), 1),
                Batch.pack(slot, [data.draw(st.binary(max_size=5000))]),
            )
            for slot in slots
        )
        held = {*model.log, *(entry.slot for entry in entries)}
        through = model.chosen
        while through + 1 in held:
            through += 1
        return Persist(
            promised=ballot if ballot >= model.promised else None,
            entries=entries,
            chosen_through=data.draw(st.none() | st.integers(0, through)),
            compact_through=data.draw(st.none() | st.integers(0, min(through, model.snapshot[0]))),
        )

    @rule(slot=st.integers(1, 20), data=st.binary(max_size=6000))
    def stage_first(self, slot: int, data: bytes) -> None:
        self.disk.stage_snapshot(slot, 0, data)
        self.model.staged = (slot, data)

    @rule(data=st.binary(min_size=1, max_size=6000), shift=st.sampled_from([0, 0, 0, -1, 1]))
    def stage_next(self, data: bytes, shift: int) -> None:
        slot, held = self.model.staged
        offset = len(held) + shift
        if slot and offset > 0:
            self.disk.stage_snapshot(slot, offset, data)
            if shift == 0:
                self.model.staged = (slot, held + data)

    @precondition(lambda self: self.model.staged[0] > 0)
    @rule(whole=st.booleans())
    def publish(self, whole: bool) -> None:
        slot, data = self.model.staged
        change = Persist(compact_through=slot) if whole else Persist()
        if slot > self.model.snapshot[0]:
            self.model.snapshot = (slot, data)
        self.model.staged = (0, b"")
        self.disk.publish_snapshot(info_of(slot, data), change)
        self.model.apply(change)

    @rule(closed=st.booleans())
    def restart(self, closed: bool) -> None:
        if closed:
            self.disk.close()
        self.disk = self.bench.open()
        assert self.disk.load() == self.model.recovered()

    @invariant()
    def reads_agree(self) -> None:
        slot, data = self.model.snapshot
        assert self.disk.staged() == (self.model.staged[0], len(self.model.staged[1]))
        info = self.disk.snapshot()
        assert info == (info_of(slot, data) if slot else None)
        if slot:
            assert self.disk.read_snapshot(slot, 0, len(data)) == data

    def teardown(self) -> None:
        self.bench.dispose()


class SqliteMachine(DiskMachine):
    def make_bench(self) -> Bench:
        self.directory = tempfile.TemporaryDirectory()
        return SqliteBench(Path(self.directory.name))

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


_SETTINGS = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

TestMemoryModel = DiskMachine.TestCase
TestMemoryModel.settings = _SETTINGS
TestSqliteModel = SqliteMachine.TestCase
TestSqliteModel.settings = _SETTINGS
