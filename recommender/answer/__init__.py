"""One answer, stage by stage: page -> retrieve -> rank -> fill -> explain. It does no I/O."""
