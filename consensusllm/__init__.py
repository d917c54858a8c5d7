"""ConsensusLLM: LLM conversations on a Multi-Paxos replicated log."""

__version__ = "0.1.0"
