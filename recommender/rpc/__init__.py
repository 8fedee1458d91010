"""The gRPC edge: services, their messages, statuses and limits."""
