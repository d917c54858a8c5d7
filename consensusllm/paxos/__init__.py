"""The consensus core: Multi-Paxos as a pure, synchronous object without I/O, clock or randomness."""
