"""The command line: installed as ``consensusllm_cli``, started as ``consensusllm``."""
