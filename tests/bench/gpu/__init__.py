"""What ragvec does on a GPU, in one command of at most nine minutes: see `python -m tests.bench.gpu --help`."""
