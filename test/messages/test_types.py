import json
from pathlib import Path

import pytest

from csl_tracker.messages.types import message_folder, typestore


def test_the_types_hash_as_the_built_package_says():
    messages = pytest.importorskip("csl_tracker_msgs.msg")
    share = next(
        (
            folder
            for parent in Path(messages.__file__).parents
            if (folder := parent / "share" / "csl_tracker_msgs" / "msg").is_dir()
        ),
        None,
    )
    assert share is not None
    for path in message_folder().glob("*.msg"):
        name = f"csl_tracker_msgs/msg/{path.stem}"
        hashes = {
            item["type_name"]: item["hash_string"]
            for item in json.loads((share / f"{path.stem}.json").read_text())["type_hashes"]
        }
        assert typestore().hash_rihs01(name) == hashes[name]
