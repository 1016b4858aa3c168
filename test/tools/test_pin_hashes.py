import pin_hashes
import pytest

FOUND = {
    "environment": {"python_version": "3.12", "sys_platform": "linux", "platform_machine": "x86_64"},
    "install": [
        {"metadata": {"name": "tqdm", "version": "4.1"}, "download_info": {"archive_info": {"hashes": {"sha256": "ab"}}}},
        {"metadata": {"name": "PyYAML", "version": "6.0"}, "download_info": {"archive_info": {"hashes": {"sha256": "cd"}}}},
    ],
}


def test_every_file_is_pinned_by_its_hash() -> None:
    lines = pin_hashes.pinned(FOUND).splitlines()
    assert lines[0].startswith("# Python 3.12, linux x86_64")
    assert lines[1:] == ["PyYAML==6.0 --hash=sha256:cd", "tqdm==4.1 --hash=sha256:ab"]


def test_a_file_without_a_hash_is_not_left_out() -> None:
    of_git = {"metadata": {"name": "av", "version": "1"}, "download_info": {"vcs_info": {}}}
    with pytest.raises(ValueError, match="av 1 comes without a SHA-256"):
        pin_hashes.pinned({**FOUND, "install": [of_git]})
