"""Nearest neighbours in one segment: exact search, and FAISS indices chosen, built and tuned for it."""
