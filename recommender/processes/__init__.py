"""The processes of a service: a supervisor starts workers, the encoder and the compactor."""
