"""The replayer and a watcher at once: the example as a check.

The last line is the summary; the exit code is 0 only if both found everything in order.
"""

import argparse
import subprocess
import sys
import threading
from pathlib import Path

import options
import recording
import replay
from display import ReplayDisplay

# The watcher is done when the room is closed.
WATCHER_ENDS_S = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_shared(parser)
    options.add_replay(parser)
    parser.add_argument(
        "--cut-every",
        type=float,
        default=7.0,
        metavar="S",
        help="break the watcher's stream every so many seconds and resume (%(default)s, 0 = never)",
    )
    chosen = parser.parse_args()
    watcher = start_watcher(chosen)
    try:
        recorded = recording.load(chosen.minutes)
        display = ReplayDisplay(recorded)
        forwarding = forward(watcher.stdout, display)
        outcome = replay.play(chosen, display, recorded)
        watched = watcher.wait(WATCHER_ENDS_S if outcome else 1)
    except subprocess.TimeoutExpired:
        watched = "it did not end"
    finally:
        watcher.kill()
    # The summary is the last line.
    forwarding.join()
    if outcome is None or watched != 0:
        print(f"air traffic: FAILED (replay {'ok' if outcome else 'failed'}, watcher {watched})")
        return 1
    seen = outcome.verdicts["watcher"]
    print(
        f"air traffic: ok: {outcome.reports:,} reports of {recorded.aircraft} aircraft in"
        f" {outcome.sent:,} writes, {outcome.checks} of {outcome.checks} checks equal,"
        f" {seen['joins']} joins, {seen['leaves']} leaves, {seen['resumes']} resumes,"
        f" {seen['states']:,} states found in the recording,"
        f" {seen['messages']:,} messages, {seen['bytes'] / 1e6:.1f} MB,"
        f" {outcome.seconds:.1f} s at {outcome.speed:.1f} x"
    )
    return 0


def start_watcher(chosen) -> subprocess.Popen:
    command = [sys.executable, str(Path(__file__).with_name("watch.py")), "--plain"]
    command += ["--address", chosen.address, "--app", chosen.app, "--session", chosen.session]
    command += ["--cut-every", str(chosen.cut_every), "--patience", str(chosen.patience)]
    if chosen.minutes is not None:
        command += ["--minutes", str(chosen.minutes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def forward(lines, display: ReplayDisplay) -> threading.Thread:
    """Shows the watcher's lines among the replayer's."""

    def run():
        for line in lines:
            display.line(f"  watcher: {line.rstrip()}")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


if __name__ == "__main__":
    sys.exit(main())
