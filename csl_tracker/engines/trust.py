"""Whether a file can have been written by nobody but this user and root: an exported network is run as it lies there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_ACL = "system.posix_acl_access"


def distrust(path: Path) -> str:
    """Why another user may have put a file or folder where it is; empty where none can have.

    Every folder on the way from the root of the file system is looked at, with links as they stand and as they resolve. Folders
    with the sticky bit, such as ``/tmp``, are passed, since only the owner can replace what is in them.

    Args:
        path: A file or folder that exists.

    Returns:
        A clause without a full stop, with what to do about it.

    Raises:
        OSError: It cannot be looked at.
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
    """:func:`distrust` for one file or folder alone, of which the status is known.

    Args:
        path: What to call it.
        status: Of ``lstat`` or ``fstat``.
        is_target: Whether it is what is used, and not a folder on the way: there the sticky bit does not help.
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
    """Whether a group has one member: distributions give every user such a group, and let it write."""
    import grp
    import pwd

    try:
        if _ACL in os.listxattr(path, follow_symlinks=False):  # the group's rights then bound those of others
            return False
    except (OSError, AttributeError):
        pass
    try:
        user, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    return user.pw_gid == status.st_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def open_trusted(path: Path) -> int:
    """Open a file for reading that no other user can have written; links are not followed.

    Args:
        path: In a folder that is trusted.

    Returns:
        The descriptor.

    Raises:
        OSError: It cannot be opened, is a link or no regular file, or is not trusted; the text says which.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no regular file")
        problem = distrust_status(path, status)
        if problem:
            raise PermissionError(problem)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
