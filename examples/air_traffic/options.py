"""Command line options that the programs share."""

from argparse import ArgumentParser

# Key of the session data that stops the clock; see replay.py.
CHECKPOINT = "checkpoint"

# Keys of the session data in which watchers answer begin with this.
VERDICT = "verdict/"


def add_shared(parser: ArgumentParser):
    parser.add_argument("--address", default="127.0.0.1:7000", help="the server (%(default)s)")
    parser.add_argument("--app", default="air_traffic", help="namespace (%(default)s)")
    parser.add_argument("--session", default="air-traffic", help="id of the room (%(default)s)")
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="only the first N minutes of the recording"
    )


def add_replay(parser: ArgumentParser):
    parser.add_argument(
        "--speed", type=float, default=60.0, metavar="X", help="recorded over real time (%(default)s)"
    )
    parser.add_argument(
        "--watchers",
        type=int,
        default=1,
        metavar="N",
        help="how many watchers to wait for at the start and at every checkpoint (%(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="S",
        help="give up if the server or a watcher does not answer for so many seconds (%(default)s)",
    )
