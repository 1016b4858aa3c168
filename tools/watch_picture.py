"""Draw docs/watch.svg: a tracker node, a camera of synthetic frames, and what ``csl-tracker watch`` shows of them.

``python tools/watch_picture.py docs/watch.svg``
"""

from __future__ import annotations

import argparse
import fcntl
import html
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from csl_tracker.datasets.synthetic.scene import Scene
from csl_tracker.messages import topics
from csl_tracker.messages.images import fill_image
from csl_tracker.messages.poses import make_header
from csl_tracker.node.processes import NodeProcess, free_domain_id, private_environment, run_stoppable
from csl_tracker.node.ros_types import ROS_TYPES
from csl_tracker.output import write_text

ROWS, COLUMNS = 36, 104
SIZE = (576, 720)
RATE_HZ = 25.0
FRAMES = 250
LOOP = 50
_COLOURS = {"31": "#f38ba8", "32": "#a6e3a1", "33": "#f9e2af", "2": "#7f849c"}
_HOME = "\x1b[H"


def watch(environment: dict[str, str]) -> str:
    """Show frames, and let the watch draw in a terminal of its own.

    Returns:
        What it drew last, with its escape sequences.
    """
    import rclpy
    from sensor_msgs.msg import Image

    scene = Scene(7001, SIZE, tools=2, sides=("left", "right"), moving=True)
    pictures = [fill_image(Image(), scene.render(index / RATE_HZ, 7001, "synthetic", index).image) for index in range(LOOP)]
    order = [*range(LOOP), *range(LOOP - 1, -1, -1)]
    rclpy.init(args=[])
    node = rclpy.create_node("camera")
    camera = node.create_publisher(Image, topics.IMAGE, 1)
    terminal, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    command = [sys.executable, "-c", "import sys; from csl_tracker.cli.main import main; sys.exit(main())", "watch"]
    os.set_blocking(terminal, False)
    drawn = bytearray()
    process = subprocess.Popen(command, stdout=other, stdin=other, env=environment, start_new_session=True)
    try:
        began = time.monotonic()
        for index in range(FRAMES):
            time.sleep(max(0.0, began + index / RATE_HZ - time.monotonic()))
            picture = pictures[order[index % len(order)]]
            picture.header = make_header(ROS_TYPES, time.time_ns(), "endoscope")
            camera.publish(picture)
            try:
                drawn += os.read(terminal, 1 << 20)
            except BlockingIOError:
                continue
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        os.close(terminal)
        os.close(other)
        node.destroy_node()
        rclpy.try_shutdown()
    return drawn.decode(errors="replace").split(_HOME)[-2]


def svg(screen: str) -> str:
    """A terminal's lines as a picture; colours are those of the escape sequences."""
    lines = [line.rstrip("\r") for line in screen.replace("\x1b[K", "").replace("\x1b[J", "").split("\n")]
    width, height = 7.85 * COLUMNS + 32, 18 * len(lines) + 32
    rows = []
    for number, line in enumerate(lines):
        parts, colour = [], ""
        for piece in re.split(r"(\x1b\[[\d;]*m)", line):
            if match := re.fullmatch(r"\x1b\[([\d;]*)m", piece):
                colour = _COLOURS.get(match[1], "")
            elif piece:
                fill = f' fill="{colour}"' if colour else ""
                parts.append(f"<tspan{fill}>{html.escape(piece)}</tspan>")
        rows.append(f'<text x="16" y="{30 + 18 * number}" xml:space="preserve">{"".join(parts)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}"'
        ' font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13" fill="#cdd6f4">\n'
        '<rect width="100%" height="100%" rx="8" fill="#1e1e2e"/>\n' + "\n".join(rows) + "\n</svg>\n"
    )


def main() -> None:
    """Run the parts, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    environment = private_environment(free_domain_id())
    os.environ.update(environment)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "tracker.log"
        parameters = {"expected_rate": RATE_HZ}
        with NodeProcess("tracker_node", parameters, {"image": topics.IMAGE}, environment, log) as process:
            screen = watch(environment)
            process.stop()
    write_text(args.picture, svg(screen))


if __name__ == "__main__":
    sys.exit(run_stoppable("watch_picture", main))
