"""sessiond's generated API, and Python values as its typed values.

A Python type stands for one kind of value each way: bool = flag, int = integer, float = number,
str = text, dict = map. So two values are the same on the wire exactly if they are equal here and of
the same type.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "gen"))

try:
    from sessiond.v1 import (  # noqa: F401
        delivery_service_pb2 as delivery,
        delivery_service_pb2_grpc as delivery_grpc,
        error_pb2 as error,
        session_pb2 as session,
        session_service_pb2 as service,
        session_service_pb2_grpc as service_grpc,
        update_pb2 as update,
        value_pb2 as value,
        write_pb2 as write,
    )
except ImportError as missing:
    raise SystemExit(f"the API's code is not there ({missing}): run setup.sh first") from None

KINDS = {bool: "flag", int: "integer", float: "number", str: "text"}

# The metadata of a call that acts as the app itself, above every role; its user_id stays empty.
AS_APP = (("sessiond-as", "app"),)


def fill(entries, values: dict):
    """Sets a map<string, Value> of a message."""
    for key, item in values.items():
        if isinstance(item, dict):
            fill(entries[key].map.entries, item)
        else:
            setattr(entries[key], KINDS[type(item)], item)


def plain(item):
    """A Value or NamedValue as a Python value."""
    kind = item.WhichOneof("kind")
    if kind == "null":
        return None
    if kind == "map":
        return {key: plain(entry) for key, entry in item.map.entries.items()}
    if kind == "list":
        return [plain(entry) for entry in item.list.items]
    if kind in ("numbers", "floats", "integers"):
        return list(getattr(item, kind).items)
    return getattr(item, kind)


def column(column):
    """The values of a Column as Python values, of whose arrays one is filled."""
    for kind in ("numbers", "integers", "flags", "texts"):
        if getattr(column, kind):
            return list(getattr(column, kind))
    return [[item] for item in column.floats] or [plain(item) for item in column.values]
