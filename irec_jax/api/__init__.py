"""The Python interface: tune, evaluate and compare runs; the commands call it too."""
