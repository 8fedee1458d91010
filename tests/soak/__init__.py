"""Breaking the live catalog on purpose: long forms by `python -m tests.soak`, short ones in the test suite."""
