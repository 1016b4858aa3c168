"""Checks that only this user and root can write a file: exported networks may contain executable code."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_ACL = "system.posix_acl_access"


def distrust(path: Path) -> str:
    """Why another user may have written a file or folder; empty if none can.

    Checks all parent folders up to the root, both of the path as given and with links resolved. Parent folders with the sticky
    bit, such as ``/tmp``, are accepted, since only the owner of an entry can replace it.

    Args:
        path: An existing file or folder.

    Returns:
        A clause without a full stop that includes the remedy.

    Raises:
        OSError: The status cannot be read.
    """
    if not hasattr(os, "geteuid"):  # not Unix
        return ""
    absolute = Path(os.path.abspath(path))
    resolved = Path(os.path.realpath(path))
    places = [*reversed(absolute.parents), absolute, *reversed(resolved.parents), resolved]
    for place in dict.fromkeys(places):
        problem = distrust_status(place, os.lstat(place), is_target=place in (absolute, resolved))
        if problem:
            return problem
    return ""


def distrust_status(path: Path, status: os.stat_result, is_target: bool = True) -> str:
    """:func:`distrust` for a single file or folder.

    Args:
        path: Its path, for the message.
        status: Result of ``lstat`` or ``fstat``.
        is_target: It is the file or folder in use, not a parent; then the sticky bit is not sufficient.
    """
    if not hasattr(os, "geteuid"):
        return ""
    if status.st_uid not in (0, os.geteuid()):
        return (
            f"{path} belongs to another user (number {status.st_uid}); remove it, or set XDG_CACHE_HOME to a folder of your own"
        )
    if stat.S_ISLNK(status.st_mode) or (status.st_mode & stat.S_ISVTX and stat.S_ISDIR(status.st_mode) and not is_target):
        return ""
    by_others = status.st_mode & stat.S_IWOTH
    by_group = status.st_mode & stat.S_IWGRP and not _is_own_group(path, status)
    if by_others or by_group:
        return f"other users can write to {path}; take that away with 'chmod go-w {path}'"
    return ""


def _is_own_group(path: Path, status: os.stat_result) -> bool:
    """Whether the group is the private group of the user, which distributions create with write permission."""
    import grp
    import pwd

    try:
        if _ACL in os.listxattr(path, follow_symlinks=False):  # then the group bits are the mask of all ACL entries
            return False
    except (OSError, AttributeError):
        pass
    try:
        user, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    return user.pw_gid == status.st_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def open_trusted(path: Path) -> int:
    """Open a file for reading if no other user can have written it; does not follow links.

    Args:
        path: A file in a trusted folder.

    Returns:
        The file descriptor.

    Raises:
        OSError: The file cannot be opened, is a link, is not a regular file, or is not trusted.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        problem = distrust_status(path, status)
        if problem:
            raise PermissionError(problem)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
