"""Do two commits find the same poses, bit for bit? ``python tools/same_poses.py BEFORE [AFTER]``.

Three generated sequences, or those of ``--root``, are tracked with each commit's own code in this environment, in processes of
their own. A commit is checked out into a temporary folder; without AFTER the working tree is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Runs with the code of either commit: it uses nothing but the three lines that the package promises.
_TRACK = """
import json, sys
from pathlib import Path
import cv2
from csl_tracker.tracker import Tracker
from csl_tracker.weights import find_weights
tracker = Tracker.from_weights(find_weights(sys.argv[1]), device="cpu", engine=sys.argv[2])
answer = {}
for folder in sorted(Path(sys.argv[3]).iterdir()):
    tracker.reset()
    answer[folder.name] = poses = []
    for index, file in enumerate(sorted(folder.glob("*.png"))):
        result = tracker.track(cv2.imread(str(file))[..., ::-1].copy(), index * 0.04)
        poses.append([[i.track_id, i.slot, i.confidence.hex(), i.shaft_angle.hex(), *map(int, i.roi), *(
            [m.name, float(m.x).hex(), float(m.y).hex(), float(m.confidence).hex(), m.visible,
             *(float(v).hex() for v in m.covariance.ravel())] for m in i.landmarks)] for i in result.instruments])
        poses.append(hash(result.label_map.tobytes()))
print(json.dumps(answer))
"""


def write_frames(folder: Path, frames: int) -> None:
    """Render three sequences as PNG files."""
    import cv2

    from csl_tracker.datasets.synthetic import render_frame

    for seed in range(3):
        (folder / f"sequence{seed}").mkdir()
        for index in range(frames):
            image = render_frame(1000 * seed + index, (240, 320)).image
            cv2.imwrite(str(folder / f"sequence{seed}" / f"{index:04d}.png"), image[..., ::-1])


def copy_frames(layout: str, root: Path, folder: Path, frames: int) -> None:
    """Write the first frames of every sequence of a dataset as PNG files."""
    import cv2

    from csl_tracker.datasets.registry import open_dataset

    for sequence in open_dataset(layout, root):
        (folder / sequence.name).mkdir()
        for index, sample in zip(range(frames), sequence, strict=False):
            cv2.imwrite(str(folder / sequence.name / f"{index:04d}.png"), sample.image[..., ::-1])


def poses(tree: Path, weights: str, engine: str, frames: Path) -> dict[str, list[object]]:
    """What the code of a tree finds.

    Raises:
        subprocess.CalledProcessError: It fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", _TRACK, weights, engine, str(frames)]
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, list[object]] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> int:
    """Compare, and print a line for each sequence.

    Returns:
        0 where all poses and label maps are equal, 1 otherwise.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", default="", help="another one (default: the working tree)")
    parser.add_argument("--root", type=Path, help="a dataset instead of generated sequences")
    parser.add_argument("--layout", default="endovis2015", help="of that dataset")
    parser.add_argument("--frames", type=int, default=40, help="of each sequence")
    parser.add_argument("--weights", default="csl_lite0")
    parser.add_argument("--engine", default="torch")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        frames = Path(temporary) / "frames"
        frames.mkdir()
        if args.root is None:
            write_frames(frames, args.frames)
        else:
            copy_frames(args.layout, args.root, frames, args.frames)
        found = []
        for name, commit in (("before", args.before), ("after", args.after)):
            tree = ROOT
            if commit:
                tree = Path(temporary) / name
                subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=ROOT, check=True)
            try:
                found.append(poses(tree, args.weights, args.engine, frames))
            finally:
                if commit:
                    subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)
    before, after = found
    for name in before:
        count = len(before[name]) // 2
        seen = sum(len(instruments) for instruments in before[name][::2] if isinstance(instruments, list))
        print(f"{name}: {'equal' if before[name] == after[name] else 'DIFFERENT'}, {count} frames, {seen} instruments")
    return 0 if before == after else 1


if __name__ == "__main__":
    sys.exit(main())
