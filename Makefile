# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test lint types pytest test-next fuzz fuzz-readers bench faults architectures clean

demo: $(STAMP)
	$(BIN)/lm-eval-muse demo

test: lint types pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# One thread per worker: threads of several workers would wait for each other. In the order of files, the
# demo's models are trained while others run, not at the end.
pytest: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# The tests that run lm-eval, with its newest pre-release and otherwise the packages of .venv.
NEXT := build/next
test-next: $(STAMP)
	test -x $(NEXT)/bin/python || $(PYTHON) -m venv $(NEXT)
	echo "import site; site.addsitedir('$$(echo $(CURDIR)/.venv/lib/python*/site-packages)')" \
		> $$(echo $(NEXT)/lib/python*/site-packages)/libraries.pth
	$(NEXT)/bin/python -m pip install --quiet --pre --upgrade --no-deps lm_eval
	$(NEXT)/bin/python -c 'import lm_eval; print("lm_eval", lm_eval.__version__)'
	OMP_NUM_THREADS=1 $(NEXT)/bin/python -m pytest --numprocesses auto --dist loadfile \
		tests/harness_tasks tests/leaderboard/execution/test_runner.py tests/leaderboard/cli/test_single_model.py

# Ten times as many cases of bad input as in the tests.
fuzz: $(STAMP)
	HYPOTHESIS_PROFILE=fuzz OMP_NUM_THREADS=1 $(BIN)/pytest tests/leaderboard/test_bad_input.py

# Coverage-guided fuzzing of readers of untrusted files; findings go to build/fuzz.
FUZZ_SECONDS ?= 600
fuzz-readers: $(STAMP)
	$(BIN)/python -m pip install --quiet 'atheris>=3'
	mkdir -p build/fuzz
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz_readers.py build/fuzz/corpus \
		-max_total_time=$(FUZZ_SECONDS) -print_final_stats=1

# Torch first and alone: with a plain requirement pip may choose a build with gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt harness_tasks/autoload.pth
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

# Speed and memory as ratios within one run; not part of the tests, whose machine may be busy.
bench: $(STAMP)
	LM_EVAL_MUSE_ONEDNN=1 $(BIN)/pytest tests/benchmarks --override-ini addopts=-ra --benchmark-columns median,rounds

# A grid killed at 50 random moments, and other mishaps; FAULTS_KILLS=10 for a first impression.
faults: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/faults --override-ini addopts=-ra

# Every architecture of transformers, through each command, to docs/architectures.md; about half an
# hour. ONLY=llama,gpt2 makes some rows again.
architectures: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.architectures.matrix $(if $(ONLY),--again --only $(ONLY))

clean:
	rm -rf .venv build dist
