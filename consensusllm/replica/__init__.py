"""One replica: consensus, state machine and disk, joined without I/O; and the runtime around it."""
