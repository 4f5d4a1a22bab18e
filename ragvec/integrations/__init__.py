"""ragvec inside other frameworks; each file needs its own extra."""
