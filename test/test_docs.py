import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "csl_tracker" / "models" / "MODEL_CARD.md"]


def test_the_readmes_figures_are_those_of_the_committed_files() -> None:
    """Nobody writes a result by hand: the tables are made from docs/results."""
    module = runpy.run_path(str(ROOT / "benchmark" / "results_table.py"))
    assert module["tables"]() in (ROOT / "README.md").read_text(encoding="utf-8")
    card = ROOT / "csl_tracker" / "models" / "MODEL_CARD.md"
    assert module["model_card"]() in card.read_text(encoding="utf-8")
    assert module["history"]() in (ROOT / "docs" / "results" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    from csl_tracker.cli.main import COMMANDS

    named = set(re.findall(r"^csl-tracker ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= set(COMMANDS)
