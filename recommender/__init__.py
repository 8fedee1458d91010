"""Related News: retrieval, ranking, slot planning and the gRPC service. Start reading at recommend.py."""
