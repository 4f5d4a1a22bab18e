# What a contributor runs; `make` alone lists it. CONTRIBUTING.md says more.
.PHONY: help setup check test slow bench docs
help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'
setup: ## install ragvec from this checkout with everything its tests need
	pip install -c constraints.txt -e '.[test]'
check: ## everything a change must pass: style, types, tests
	ruff check . && ruff format --check . && mypy && pytest -n auto --dist loadfile
test: ## the tests alone
	pytest -n auto --dist loadfile
slow: ## the long proofs
	pytest -m slow
bench: ## figures of encoding, index and serving on this machine
	python -m tests.bench.encode && python -m tests.bench.index && python -m tests.bench.serve
docs: ## write the pages made from docstrings and help
	python docs/reference.py
