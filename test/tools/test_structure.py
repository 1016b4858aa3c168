"""The structure that tools/structure.py reads from the imports, and the rules that it holds them to."""

import pytest
import structure


def test_no_import_runs_up_or_in_a_circle():
    edges = structure.graph()
    assert len(edges) > 100
    assert structure.upward(edges) == []
    assert structure.circles(edges) == []


def test_the_picture_of_the_page_is_that_of_the_imports():
    page = structure.PAGE.read_text(encoding="utf-8")
    assert structure.with_picture(page, structure.picture(structure.graph())) == page, "python tools/structure.py --write"


@pytest.mark.parametrize(
    ("module", "target", "good"),
    [
        ("node.session", "tracker", True),
        ("tracker", "node.session", False),
        ("bags.reader", "messages.topics", True),
        ("messages.poses", "bags.reader", False),
        ("node.session", "node.worker", True),
        ("weights", "networks", True),
        ("networks", "weights", False),
    ],
)
def test_which_imports_are_allowed(module, target, good):
    assert (structure.upward({module: {target}}) == []) is good


@pytest.mark.parametrize(
    ("edges", "count"),
    [
        ({"a": {"b"}, "b": {"c"}}, 0),
        ({"a": {"b"}, "b": {"a"}}, 1),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"e"}, "e": {"d"}}, 2),
    ],
)
def test_circles_are_found(edges, count):
    assert len(structure.circles(edges)) == count


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="has no"):
        structure.with_picture("# Architecture", "picture")


def test_modules_are_short():
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in structure.modules().items()}
    assert {name: count for name, count in lines.items() if count > 400} == {}
