"""Layout of the tests: shared helpers are in tests/support, and no test module imports another."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
TEST_MODULES = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py"))


def imported_modules(path: Path) -> set[str]:
    """Return the modules that a file imports; for `from a import b`, both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def is_test_module(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "tests" and any(part.startswith("test_") or part == "conftest" for part in parts)


@pytest.mark.parametrize("name", TEST_MODULES)
def test_test_module_imports_no_other_test_module(name: str) -> None:
    imported = {module for module in imported_modules(TESTS / name) if is_test_module(module)}
    assert not imported, f"move what {name} imports from {sorted(imported)} to tests/support"


def test_support_documents_each_of_its_modules() -> None:
    documentation = (TESTS / "support" / "__init__.py").read_text()
    names = {path.stem for path in (TESTS / "support").iterdir() if path.stem[0] != "_"}
    assert not {name for name in names if name not in documentation}


def test_imports_of_test_modules_are_detected(tmp_path: Path) -> None:
    module = tmp_path / "test_example.py"
    module.write_text("import tests.test_a\nfrom tests.support import oracle\nfrom tests.core import test_b\n")
    found = {name for name in imported_modules(module) if is_test_module(name)}
    assert found == {"tests.test_a", "tests.core.test_b"}
