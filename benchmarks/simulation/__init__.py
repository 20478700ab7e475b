"""The whole loop as discrete events: the repository's own state machines inside, service times outside (`benchmarks/simulate.py`)."""
