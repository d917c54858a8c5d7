"""The drills that ship, one YAML file each; installed as ``consensusllm_drills``."""
