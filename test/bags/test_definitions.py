import contextlib
import time

import pytest
from rosbags.typesys import TypesysError

from csl_tracker.bags import definitions
from csl_tracker.bags.definitions import understand
from csl_tracker.messages import topics
from csl_tracker.messages.types import typestore

BAR = "\n" + "=" * 80 + "\n"
DOUBLING = BAR.join(
    ["a/B0 x\na/B0 y"] + [f"MSG: a/B{i}\na/B{i + 1} x\na/B{i + 1} y" for i in range(40)] + ["MSG: a/B40\nuint8 x"]
)
HOSTILE = [
    "\n".join(f"uint8 field{i}" for i in range(100_000)),
    "\n".join(f"uint8 field{i}" for i in range(7000)),
    "string[1000000000] names",
    "string[50000] names",
    "float64[1000000000] numbers",
    "uint8 x" + "\n" * 200_000,
    "uint8 " + "x" * 200_000,
    "string x" + "[" * 10_000,
    "uint8 X=" + "(" * 3000,
    DOUBLING,
    "Z x" + BAR + "MSG: a/Z\nZ x",
    "Z[] x" + BAR + "MSG: a/Z\nuint8 ONE=1",
    "Z[1000] x" + BAR + "MSG: a/Z\nstring[1000] names",
    "\x00" * 1000,
    'string x "' + "a" * 100_000,
]


@pytest.mark.parametrize("definition", HOSTILE, ids=lambda definition: definition[:20].replace("\n", " "))
@pytest.mark.parametrize("form", ["ros2msg", "ros2idl"])
def test_a_definition_that_would_become_much_code_is_not_understood(definition, form):
    began = time.process_time()
    with contextlib.suppress(TypesysError):  # the reader takes this for a definition that says nothing
        assert understand(definition, form, "a/msg/Hostile") is None
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("uint8 x\n", True),
        ("# " + "x" * 3000 + "\nuint8 x", True),
        ("# comment\n" * 8001, False),
        ("# " + "x" * 4000 + "\nuint8 x", False),
        ("#" + ("x" * 999 + "\n#") * 300 + "\nuint8 x", False),
        ("uint8 X=" + "(" * 24, False),
    ],
    ids=["one field", "comment", "lines", "line", "bytes", "depth"],
)
def test_each_limit_on_the_text_holds_alone(text, plain):
    """The grammar is not even asked where a limit on the text is met."""
    assert definitions._is_plain(text) == plain


@pytest.mark.parametrize(
    ("definition", "bounded"),
    [
        ("\n".join(f"uint8 f{i}" for i in range(2000)), True),
        ("\n".join(f"uint8 f{i}" for i in range(2001)), False),
        ("string[20000] names", True),
        ("string[20001] names", False),
        (f"float64[{(128 << 20) // 8}] numbers", True),
        (f"float64[{(128 << 20) // 8 + 1}] numbers", False),
        ("Z[100] x" + BAR + "MSG: a/Z\nstring[200] names", True),
        ("Z[101] x" + BAR + "MSG: a/Z\nstring[200] names", False),
        ("Z x" + BAR + "MSG: a/Z\nZ x", False),
        ("Z[] x" + BAR + "MSG: a/Z\nuint8 ONE=1", False),
        ("Z[] x" + BAR + "MSG: a/Z\nuint8 one", True),
    ],
    ids=lambda value: value[:16].replace("\n", " ") if isinstance(value, str) else None,
)
def test_each_limit_on_the_fields_holds_alone(definition, bounded):
    types = definitions.FORMATS["ros2msg"](definition, "a/msg/Hostile")
    assert definitions._is_bounded(types) == bounded


def test_definitions_of_a_usual_length_are_understood():
    fields = "\n".join(f"float64[6] joint{i}  # a comment that says what this is\nZ[] z{i}" for i in range(300))
    store = understand(f"{fields}{BAR}MSG: a/Z\nstring[4] names\nuint8[65536] data", "ros2msg", "a/msg/Long")
    assert store is not None
    assert "a/msg/Long" in store.fielddefs


def test_a_type_that_is_known_here_makes_no_code():
    text, _ = typestore().generate_msgdef(topics.IMAGE_TYPE, ros_version=2)
    assert understand(text, "ros2msg", topics.IMAGE_TYPE) is None
