"""Makes everything that ``make demo`` and ``make test`` need, and nothing twice.

Four steps, each with a stamp of what it was made from, so that a second call does nothing and a call that was killed is taken
up again:

1. ``environment``: the virtual environment ``.venv``;
2. ``packages``: the pinned requirements, and ROS 2 Jazzy from PyPI wheels where no ROS 2 is sourced (``ROS_DISTRO`` unset);
3. ``project``: this project as an editable install, and the hook that shows the environment the built ROS 2 packages;
4. ``workspace``: ``colcon build`` of ``csl_tracker_msgs`` and ``csl_tracker`` into ``install/``.

It runs with the standard library of any Python from 3.8 on (annotations are not evaluated). What is missing is said in one
sentence with the remedy, and the exit code is 2.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ((3, 10), (3, 11), (3, 12), (3, 13))
REQUIREMENTS = ("build", "runtime", "train", "render", "dev")
WHEELS = "ros_wheels"
CONSTRAINTS = "constraints"
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

_PROBE = """
import importlib.util, json, os, platform, sys, sysconfig
rclpy = False
if os.environ.get("ROS_DISTRO"):
    try:  # the path of a sourced ROS 2 is seen by every Python, but its libraries load only in the one it was built for
        from rclpy.impl.implementation_singleton import rclpy_implementation
        rclpy = True
    except Exception:
        pass
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "implementation": platform.python_implementation(),
    "executable": sys.executable,
    "in_venv": sys.prefix != sys.base_prefix,
    "venv": importlib.util.find_spec("venv") is not None and importlib.util.find_spec("ensurepip") is not None,
    "rclpy": rclpy,
    "include": sysconfig.get_path("include"),
}))
"""


_NETWORK_SIGNS = (
    "Temporary failure in name resolution",
    "Name or service not known",
    "Network is unreachable",
    "NewConnectionError",
    "ConnectionError",
    "ConnectTimeout",
    "Read timed out",
    "ProxyError",
    "SSLError",
)


class SetupError(Exception):
    """Something is missing that the user can mend; the message is one sentence with the remedy."""


def say(text: str) -> None:
    """One line of progress."""
    print(f"setup: {text}", flush=True)


# ---------------------------------------------------------------------------------------------------------------- stamps


def digest(root: Path, paths: Iterable[Path], *extra: object) -> str:
    """Hash of the names and contents of files, and of anything else that the step depends on."""
    sha = hashlib.sha256(repr(extra).encode())
    for path in sorted(paths):
        sha.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return sha.hexdigest()


def read_stamp(path: Path) -> str | None:
    """The stamp's text; None without one."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def write_stamp(path: Path, text: str) -> None:
    """Write a stamp whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


# -------------------------------------------------------------------------------------------------------------- commands


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's environment without what a Python of another virtual environment left in it for its children."""
    drop = {"_ROS_WHEELS_BOOTSTRAP_COMPLETE", "VIRTUAL_ENV", "PYTHONHOME", "__PYVENV_LAUNCHER__"}
    env = {name: value for name, value in environ.items() if name not in drop and not name.startswith("_CSL_TRACKER_OVERLAY")}
    env["CSL_TRACKER_NO_OVERLAY"] = "1"
    foreign = [part for part in environ.get("_CSL_TRACKER_OVERLAY", "").split(os.pathsep) if part]
    if "_ROS_WHEELS_BOOTSTRAP_COMPLETE" in environ:
        foreign += [
            str(Path(part).parents[3])
            for part in environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
            if re.search(r"ros_\w+\.libs$", part)
        ]
    for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "LD_LIBRARY_PATH"):
        parts = [part for part in env.get(name, "").split(os.pathsep) if part]
        kept = [part for part in parts if not any(part == root or part.startswith(root + os.sep) for root in foreign)]
        if kept:
            env[name] = os.pathsep.join(kept)
        else:
            env.pop(name, None)
    return env


def run(command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path = ROOT) -> tuple[int, str]:
    """Run a command with its output in a log file.

    Returns:
        Exit code and the end of the output. Ctrl-C and SIGTERM stop the command too.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(list(command), cwd=str(cwd), env=dict(env), stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return code, log.read_text(encoding="utf-8", errors="replace")[-20000:]


def probe(python: str, env: Mapping[str, str]) -> dict[str, Any] | None:
    """What kind of Python it is; None when it does not run."""
    try:
        done = subprocess.run([python, "-c", _PROBE], env=dict(env), capture_output=True, text=True, timeout=60, check=False)
        answer = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return None
    return answer if isinstance(answer, dict) else None


# ---------------------------------------------------------------------------------------------------------------- checks


def choose_python(wish: str | None, distro: str | None, env: Mapping[str, str]) -> dict[str, Any]:
    """The interpreter to make the environment from.

    Args:
        wish: What the user asked for (``make PYTHON=...``); None takes the first one that fits.
        distro: ``ROS_DISTRO`` of a sourced ROS 2, None for the wheels.
        env: Environment to try it in.

    Raises:
        SetupError: The wish does not fit, or nothing does.
    """
    candidates = [wish] if wish else ["python3", "/usr/bin/python3", "python3.12", "python3.11", "python3.13", "python3.10"]
    reasons: list[str] = []
    for candidate in candidates:
        found = probe(candidate, env)
        if found is None:
            reasons.append(f"{candidate} does not run")
            continue
        number = ".".join(map(str, found["version"]))
        if found["implementation"] != "CPython":
            reasons.append(f"{candidate} is {found['implementation']} {number}, and the wheels are for CPython")
        elif distro and tuple(found["version"]) < (3, 10):
            reasons.append(f"{candidate} is Python {number}, and at least 3.10 is needed")
        elif distro and not found["rclpy"]:
            reasons.append(f"{candidate} (Python {number}) cannot import the rclpy of the sourced ROS 2 {distro}")
        elif not distro and tuple(found["version"][:2]) not in SUPPORTED:
            reasons.append(
                f"{candidate} is Python {number}, for which there are no ROS 2 wheels that this project was tried with"
            )
        else:
            return found
    remedy = (
        "name the Python that ROS 2 was built for, as in 'make PYTHON=/usr/bin/python3'"
        if distro
        else "install CPython 3.10, 3.11, 3.12 or 3.13 and name it, as in 'make PYTHON=python3.12'"
    )
    raise SetupError(f"no usable Python ({'; '.join(reasons if wish else reasons[:2])}): {remedy}.")


def lacks(what: str, package: str) -> SetupError:
    """The sentence for something that apt brings."""
    return SetupError(f"{what} is not installed: 'sudo apt install {package}', and run make again.")


def check_tools(python: Mapping[str, Any], env: Mapping[str, str], distro: str | None) -> None:
    """Everything that has to be there before anything is downloaded.

    Raises:
        SetupError: Names the first thing that is missing.
    """
    path = env.get("PATH")
    number = ".".join(map(str, python["version"][:2]))
    if not python["venv"]:
        raise lacks(f"the venv module of {python['executable']}", f"python{number}-venv")
    for name in ("cmake", "make"):
        if shutil.which(name, path=path) is None:
            raise lacks(f"{name}, which builds the ROS 2 messages,", name)
    for variable, what, names in (("CC", "C", ("cc", "gcc", "clang")), ("CXX", "C++", ("c++", "g++", "clang++"))):
        tried = env.get(variable, "").split()[:1] or names
        if not any(shutil.which(name, path=path) for name in tried):
            raise lacks(f"a {what} compiler ({', '.join(tried)}), which builds the ROS 2 messages,", "build-essential")
    header = Path(python["include"]) / "Python.h"
    if not header.exists():
        raise lacks(f"{header}, which the ROS 2 messages need,", f"python{number}-dev")
    if distro:
        check_sourced(env, distro)
    elif platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise SetupError(
            f"there are no ROS 2 wheels for {platform.system()} {platform.machine()}:"
            " install ROS 2 Jazzy, source its setup.bash and run make again."
        )


def check_sourced(env: Mapping[str, str], distro: str) -> None:
    """The packages of a sourced ROS 2 that the build needs.

    Raises:
        SetupError: Names the first one that is missing.
    """
    prefixes = [Path(part) for part in env.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if part]
    for package in ("rosidl_default_generators", "ament_cmake", "sensor_msgs", "diagnostic_msgs"):
        if not any((p / "share" / package / "package.xml").exists() for p in prefixes):
            raise SetupError(
                f"ROS_DISTRO says {distro}, but its package {package} is not in AMENT_PREFIX_PATH:"
                f" 'sudo apt install ros-{distro}-{package.replace('_', '-')}' and source setup.bash,"
                " or unset ROS_DISTRO to use the wheels."
            )


def explain_pip(output: str, python: Mapping[str, Any], log: Path) -> str:
    """One sentence for pip's failure."""
    number = ".".join(map(str, python["version"]))
    if re.search(r"No space left on device|Errno 28", output):
        return (
            "the disk is full: the packages need 2.3 GB with torch's CPU build and 7 GB with that for CUDA; make room, and run"
            " make again."
        )
    if any(sign in output for sign in _NETWORK_SIGNS):
        return (
            "the package index cannot be reached: check the network (or pip's index-url and proxy), and run make again;"
            " it goes on where it stopped."
        )
    # With a constraint on it, pip calls a package that has no release here a conflict with itself.
    missing = re.search(
        r"(?:No matching distribution found for|Cannot install) (\S+)(?: because these|$)", output, re.MULTILINE
    )
    if missing:
        return (
            f"there is no wheel of {missing[1]} for Python {number} on {platform.machine()}: use another Python, as in"
            " 'make PYTHON=python3.12', or a sourced ROS 2."
        )
    return f"pip could not install the requirements for Python {number}: read its output in {log}, and run make again."


# ----------------------------------------------------------------------------------------------------------------- steps


def venv_python(venv: Path) -> str:
    """The environment's interpreter."""
    return str(venv / "bin" / "python")


def environment_fits(venv: Path, python: Mapping[str, Any] | None, distro: str | None, env: Mapping[str, str]) -> bool:
    """Whether the environment works, has pip, and is of the Python (None: any supported) and the kind that are asked for."""
    found = probe(venv_python(venv), env)
    if found is None or not found["in_venv"]:
        return False
    if python is not None and found["version"][:2] != python["version"][:2]:
        return False
    if python is None and not distro and tuple(found["version"][:2]) not in SUPPORTED:
        return False
    config = read_stamp(venv / "pyvenv.cfg") or ""
    system = re.search(r"^include-system-site-packages\s*=\s*true\s*$", config, re.MULTILINE | re.IGNORECASE) is not None
    if system != bool(distro):
        return False
    check = subprocess.run([venv_python(venv), "-m", "pip", "--version"], env=dict(env), capture_output=True, check=False)
    return check.returncode == 0


def make_environment(venv: Path, python: Mapping[str, Any], distro: str | None, env: Mapping[str, str]) -> None:
    """Make the virtual environment anew.

    Raises:
        SetupError: ``python -m venv`` failed.
    """
    if venv.is_symlink():
        venv.unlink()
    elif venv.exists():
        say(f"{venv.name} is broken, or of another Python or ROS 2: making it anew")
        shutil.rmtree(venv)
    say(
        f"making {venv.name} with Python {'.'.join(map(str, python['version']))}"
        + (f" on top of ROS 2 {distro}" if distro else "")
    )
    command = [python["executable"], "-m", "venv", *(["--system-site-packages"] if distro else []), str(venv)]
    done = subprocess.run(command, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        shutil.rmtree(venv, ignore_errors=True)
        reason = (done.stdout.strip().splitlines() or ["no output"])[-1]
        package = f"python{'.'.join(map(str, python['version'][:2]))}-venv"
        raise SetupError(f"'{' '.join(command)}' failed ({reason}): 'sudo apt install {package}', and run make again.")


def forget_half_installed(site_packages: Path) -> list[str]:
    """Make pip install again what it had not finished when it was killed.

    pip takes a package for installed as soon as its metadata lies there. It writes ``INSTALLER`` and ``RECORD`` last, and all
    that ``RECORD`` names must exist.

    Returns:
        Names of the metadata folders that were removed.
    """
    removed = []
    for info in sorted(site_packages.glob("*.dist-info")):
        record = read_stamp(info / "RECORD")
        whole = record is not None and (info / "INSTALLER").exists()
        for line in (record or "").splitlines():
            name = line.rsplit(",", 2)[0].strip('"')
            if whole and name and not name.endswith(".pyc") and not os.path.exists(os.path.join(str(site_packages), name)):
                whole = False
        if not whole:
            shutil.rmtree(info)
            removed.append(info.name)
    for garbage in site_packages.glob("~*"):
        shutil.rmtree(garbage, ignore_errors=True)
    return removed


def repair_cmake(venv: Path, include: str, numpy_include: str) -> int:
    """Put this machine's paths into the wheels' CMake files, which name those of the container that built them.

    Returns:
        How many files were changed.
    """
    numpy_path = re.compile(r"/opt/python/cp3\d+-cp3\d+t?/lib/python3\.\d+t?/site-packages/numpy/_?core/include")
    python_path = re.compile(r"/opt/python/cp3\d+-cp3\d+t?/include/python3\.\d+t?")
    changed = 0
    for path in sorted((venv / "share").rglob("*.cmake")):
        text = path.read_text(encoding="utf-8")
        repaired = python_path.sub(lambda _: include, numpy_path.sub(lambda _: numpy_include, text))
        if repaired != text:
            write_stamp(path, repaired)
            changed += 1
    return changed


def ask(venv: Path, code: str, env: Mapping[str, str]) -> str:
    """One line of output from the environment's Python."""
    done = subprocess.run([venv_python(venv), "-c", code], env=dict(env), capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise SetupError(f"{venv.name} does not work ({reason}): remove it with 'make clean-all', and run make again.")
    return done.stdout.strip().splitlines()[-1]


def install_packages(root: Path, venv: Path, python: Mapping[str, Any], distro: str | None, env: Mapping[str, str]) -> None:
    """Install the requirements, repair the CMake files.

    Raises:
        SetupError: pip failed.
    """
    files = [*REQUIREMENTS, *([] if distro else [WHEELS])]
    log = venv / "setup" / "packages.log"
    begun = venv / "setup" / "packages.begun"
    site_packages = Path(ask(venv, "import sysconfig; print(sysconfig.get_path('purelib'))", env))
    if begun.exists():
        again = forget_half_installed(site_packages)
        say("taking up a set-up that was stopped" + (f"; installing again: {', '.join(again)}" if again else ""))
    write_stamp(begun, "")
    what = "the requirements" if distro else "the requirements and ROS 2 Jazzy"
    say(f"installing {what} (2.3 GB with torch's CPU build, 7 GB with that for CUDA; some minutes; output in {log})")
    command = [venv_python(venv), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    for name in files:
        command += ["-r", str(root / "requirements" / f"{name}.txt")]
    command += ["-c", str(root / "requirements" / "constraints.txt")]
    code, output = run(command, env, log, root)
    if code:
        raise SetupError(explain_pip(output, python, log))
    if not distro:
        include = ask(venv, "import sysconfig; print(sysconfig.get_path('include'))", env)
        repair_cmake(venv, include, ask(venv, "import numpy; print(numpy.get_include())", env))
    begun.unlink()


def install_project(root: Path, venv: Path, env: Mapping[str, str]) -> None:
    """Install the project as editable, and the hook that shows the environment what colcon built.

    Raises:
        SetupError: pip failed.
    """
    say("installing the project as editable")
    log = venv / "setup" / "project.log"
    pip = [venv_python(venv), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    code, _ = run([*pip, "--no-deps", "--no-build-isolation", "--use-pep517", "-e", str(root)], env, log, root)
    if code:
        raise SetupError(
            f"the project could not be installed into {venv.name}: read {log}, or start anew with 'make clean-all'."
        )
    site_packages = Path(ask(venv, "import sysconfig; print(sysconfig.get_path('purelib'))", env))
    write_stamp(site_packages / "_csl_tracker_overlay.py", (root / "tools" / "overlay_hook.py").read_text(encoding="utf-8"))
    # Its name sorts before the wheels' own bootstrapper, so that it comes first.
    line = f"import _csl_tracker_overlay; _csl_tracker_overlay.activate({str(root / 'install')!r})\n"
    write_stamp(site_packages / "csl_tracker_overlay.pth", line)


def colcon_environment(venv: Path, distro: str | None, env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which colcon finds the ROS 2 of the wheels, or the sourced one."""
    result = dict(env)
    result["PATH"] = os.pathsep.join([str(venv / "bin"), env.get("PATH", os.defpath)])
    if not distro:
        libraries = [str(venv / "lib"), *map(str, sorted(venv.glob("lib/python3*/site-packages/ros_*.libs")))]
        for name, first in (
            ("AMENT_PREFIX_PATH", [str(venv)]),
            ("CMAKE_PREFIX_PATH", [str(venv)]),
            ("LD_LIBRARY_PATH", libraries),
        ):
            result[name] = os.pathsep.join([*first, *(part for part in env.get(name, "").split(os.pathsep) if part)])
    return result


def build_workspace(root: Path, venv: Path, distro: str | None, env: Mapping[str, str]) -> None:
    """``colcon build`` of both packages into ``install/``.

    Raises:
        SetupError: The build failed.
    """
    say("building csl_tracker_msgs and csl_tracker with colcon")
    log = venv / "setup" / "workspace.log"
    # The nested package has to be named: colcon does not look for packages inside a package.
    command = [venv_python(venv), "-m", "colcon", "build", "--paths", ".", "csl_tracker_msgs", "--symlink-install"]
    python = venv_python(venv)
    command += ["--cmake-args", "-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Release", "-Wno-dev"]
    command += [f"-DPython3_EXECUTABLE={python}", "-DPython3_FIND_VIRTUALENV=ONLY"]
    code, output = run(command, colcon_environment(venv, distro, env), log, root)
    if code:
        error = next(
            (line.strip() for line in output.splitlines() if re.search(r"\berror\b", line, re.IGNORECASE)), "no error line"
        )
        raise SetupError(
            f"colcon could not build the ROS 2 packages ({error[:200]}): read {log}; 'make clean' makes it start anew."
        )


# ------------------------------------------------------------------------------------------------------------------ main


def workspace_inputs(root: Path) -> list[Path]:
    """Files whose contents the build depends on."""
    messages = [path for path in (root / "csl_tracker_msgs").rglob("*") if path.is_file()]
    hooks = [*root.glob("colcon.pkg"), *root.glob("resource/hook/*")]
    return [*messages, *hooks, root / "package.xml", root / "setup.py", root / "setup.cfg"]


def installed_names(root: Path) -> list[str]:
    """Names of the data files that colcon links into ``install/``; their contents are seen through the links."""
    return sorted(str(path.relative_to(root)) for folder in ("launch", "config") for path in (root / folder).rglob("*.*"))


def workspace_stands(root: Path) -> bool:
    """Whether both packages lie in ``install/``."""
    names = ("csl_tracker", "csl_tracker_msgs")
    return (root / "install" / "setup.bash").exists() and all(
        (root / "install" / name / "share" / name / "package.xml").exists() for name in names
    )


def stamp_place(root: Path, venv: Path, step: str) -> Path:
    """Where a step's stamp lies: beside what the step made, so that both are removed together."""
    return (root / "install" if step == "workspace" else venv / "setup") / f"{step}.stamp"


def stamp_keys(root: Path, venv: Path, distro: str | None) -> dict[str, str]:
    """What the stamps of the steps have to say, in the order of the steps."""
    config = read_stamp(venv / "pyvenv.cfg") or ""
    requirements = [root / "requirements" / f"{name}.txt" for name in (*REQUIREMENTS, CONSTRAINTS, WHEELS)]
    project = [root / "setup.py", root / "setup.cfg", root / "tools" / "overlay_hook.py"]
    return {
        "packages": digest(root, requirements, distro, config),
        "project": digest(root, project, config),
        "workspace": digest(root, workspace_inputs(root), distro, config, installed_names(root)),
    }


def stands(root: Path, venv: Path, wish: str | None, distro: str | None, env: Mapping[str, str]) -> bool:
    """Whether there is nothing to do."""
    keys = stamp_keys(root, venv, distro)
    if any(read_stamp(stamp_place(root, venv, name)) != key for name, key in keys.items()) or not workspace_stands(root):
        return False
    if wish is None:
        return os.path.exists(venv_python(venv))
    wished, present = probe(wish, env), probe(venv_python(venv), env)
    return bool(wished and present and wished["version"][:2] == present["version"][:2])


def set_up(root: Path, wish: str | None, environ: Mapping[str, str]) -> bool:
    """Do the steps whose stamps are missing or differ.

    Args:
        root: The project's folder.
        wish: Interpreter that the user asked for; None keeps the environment's, or takes the first that fits.
        environ: The user's environment variables.

    Returns:
        Whether there was anything to do.

    Raises:
        SetupError: Something is missing that the user can mend.
    """
    distro = environ.get("ROS_DISTRO") or None
    env = clean_environment(environ)
    venv = root / ".venv"
    if stands(root, venv, wish, distro, env):
        return False
    wished = choose_python(wish, distro, env) if wish else None
    fits = environment_fits(venv, wished, distro, env)
    python = (probe(venv_python(venv), env) if fits else wished) or choose_python(wish, distro, env)
    check_tools(python, env, distro)
    if not fits:
        make_environment(venv, python, distro, env)
    keys = stamp_keys(root, venv, distro)
    steps: dict[str, Callable[[], None]] = {
        "packages": lambda: install_packages(root, venv, python, distro, env),
        "project": lambda: install_project(root, venv, env),
        "workspace": lambda: build_workspace(root, venv, distro, env),
    }
    again = False
    for name, step in steps.items():
        place = stamp_place(root, venv, name)
        again = again or read_stamp(place) != keys[name] or (name == "workspace" and not workspace_stands(root))
        if again:
            place.unlink(missing_ok=True)
            step()
            write_stamp(place, keys[name])
    say("ready")
    return True


def _terminate(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Set up.

    Returns:
        0 when everything stands, 2 when something is missing (one sentence on stderr), 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", help="interpreter of the environment, a name or a path; default: the first that fits")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _terminate)
    lock = os.open(str(ROOT), os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work in this folder: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        set_up(ROOT, args.python or None, os.environ)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("\nsetup: stopped; the next call goes on from here.", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
