"""Models at work for the replicated state: a node's answerer, the leader's duties, live text."""
