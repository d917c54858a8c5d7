"""What a node offers its clients over gRPC: the pipeline, live text, and status."""
