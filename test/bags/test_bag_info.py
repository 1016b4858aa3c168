import pytest

from csl_tracker.bags.info import _reliability


@pytest.mark.parametrize(
    ("qos", "reliability"),
    [
        ("", None),
        ("- history: 1\n  reliability: 1\n", "reliable"),
        ("- reliability: best_effort\n- reliability: reliable\n", "best_effort"),
        ("- reliability: 1\n" + "# " + "x" * 4000 + "\n", "reliable"),
        ("- reliability: 1\n" + "# " + "x" * 4100 + "\n", None),
        ("no list", None),
    ],
)
def test_the_reliability_that_publishers_offered(qos, reliability):
    assert _reliability(qos) == reliability
