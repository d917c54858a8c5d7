"""Generated from protos/ by `python -m consensusllm.wire.generate`; never edited."""
