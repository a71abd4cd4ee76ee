"""Counts the cases of the matrices whose every case is a test of its own, and writes them down."""

from __future__ import annotations

import pytest

from tests.figures import record

HERE = "tests/hostile/"
MATRICES = {  # figure: (begin of its cases' names, its control, cases of a full run)
    "T13 authorisation matrix": (
        (f"{HERE}test_authorisation.py", f"{HERE}test_signing_in.py"),
        "test_the_matrix_would_notice_a_missing_check",
        170,
    ),
    "T14 addresses in names": (
        (f"{HERE}test_who_comes_in.py::test_no_name_of_a_base_model",),
        "test_an_address_that_is_asked_is_seen",
        60,
    ),
}
CONTROLS = {
    "test_the_matrix_would_notice_a_missing_check": (
        "with a check taken out, a person opens and deletes another's private adapter: seen"
    ),
    "test_an_address_that_is_asked_is_seen": "an address that is really asked is seen",
}
_reports: dict[str, tuple[bool, float]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    passed, seconds = _reports.get(report.nodeid, (True, 0.0))
    _reports[report.nodeid] = (passed and not report.failed, seconds + report.duration)


def pytest_sessionfinish() -> None:
    for figure, (begins, control, full) in MATRICES.items():
        cases = [found for name, found in _reports.items() if name.startswith(begins)]
        shown = [ok for name, (ok, _) in _reports.items() if name.endswith(f"::{control}")]
        if cases:
            record(
                figure, count=len(cases), failures=sum(not ok for ok, _ in cases),
                seconds=sum(seconds for _, seconds in cases),
                control=CONTROLS[control] if shown == [True] else "not run with it, or failed",
                full=len(cases) >= full and shown == [True], command=HERE.rstrip("/"),
            )  # fmt: skip
