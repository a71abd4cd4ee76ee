# LoRA Studio. `make` alone prints what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.ready-to-run
TEST_STAMP := $(VENV)/.ready-to-test

export GRADIO_ANALYTICS_ENABLED := False

.PHONY: help run test check format soak fuzz atheris demo bench docs clean

FIGURES := $(abspath build/figures)

help: ## Print this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: $(RUN_STAMP) ## Install what is missing, start the app and print its address
	@$(BIN)/python app.py

test check: export OMP_NUM_THREADS ?= 1
test: $(TEST_STAMP) ## Everything: style, types, unit tests, worker faults, a real browser
	@PATH="$(abspath $(BIN)):$$PATH" scripts/browser
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest

check: $(TEST_STAMP) ## Style and types only
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

format: $(TEST_STAMP) ## Put the code in its style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

soak fuzz: export OMP_NUM_THREADS ?= 1
soak fuzz: export LORA_STUDIO_FULL := 1
soak fuzz: export LORA_STUDIO_FIGURES := $(FIGURES)
soak: atheris ## The fault and hostile tests with their full counts (hours), then RELIABILITY.md
	@PATH="$(abspath $(BIN)):$$PATH" scripts/browser
	@$(BIN)/python -m pytest tests/faults tests/hostile \
		tests/web/test_page_texts.py tests/unit/gallery/test_backup.py; status=$$?; \
		$(BIN)/python scripts/reliability.py $(FIGURES) && exit $$status

fuzz: atheris ## Fuzz what reads uploaded bytes, with the full counts
	@$(BIN)/python -m pytest tests/hostile/test_fuzz.py tests/hostile/test_parsers.py; status=$$?; \
		$(BIN)/python scripts/reliability.py $(FIGURES) && exit $$status

atheris: $(TEST_STAMP)
	@mkdir -p $(FIGURES)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris || \
		echo "There is no atheris for this Python: T3 is not run, and RELIABILITY.md will say so."

demo: $(RUN_STAMP) ## Train the embedded demo models and adapters again from nothing
	@$(BIN)/python -m lora_studio.demo.build

bench: $(RUN_STAMP) ## Run the comparisons under benchmarks/ and print their ratios
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(RUN_STAMP) ## Write the generated tables of the README again
	@$(BIN)/python scripts/readme_tables.py

clean: ## Remove the virtual environment and what the app has written here
	rm -rf $(VENV) .studio build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "LoRA Studio needs Python 3.11 or newer; name one: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "Python's venv module is missing. On Debian or Ubuntu: sudo apt-get install python3-venv"; \
		rm -rf $(VENV); exit 1; }

$(RUN_STAMP): requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing what LoRA Studio needs into $(VENV) (once; some minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(TEST_STAMP): $(RUN_STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@
