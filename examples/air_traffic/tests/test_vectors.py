import base64
import json
import unittest
from pathlib import Path

from google.protobuf import json_format

import wire
from client_state import ClientState

VECTORS = Path(__file__).parents[3] / "proto" / "testdata"


def plain(values: dict) -> dict:
    """Values in JSON as Python values; NaN is equal to itself here."""
    return {key: repr(wire.plain(json_format.ParseDict(value, wire.value.Value()))) for key, value in values.items()}


def told(values: dict) -> dict:
    return {key: repr(value) for key, value in values.items()}


class Vectors(unittest.TestCase):
    def test_every_step_leads_to_the_state_that_the_core_has(self):
        files = sorted(VECTORS.glob("*.json"))
        self.assertGreater(len(files), 10)
        for file in files:
            state = ClientState()
            for step in json.loads(file.read_text())["steps"]:
                with self.subTest(file.name, about=step["about"]):
                    self.replay(state, step)

    def replay(self, state: ClientState, step: dict):
        if step["resumed"]:
            state.resume()
        for update in step["updates"]:
            binary = wire.update.SessionUpdate.FromString(base64.b64decode(update["binary"]))
            self.assertEqual(binary, json_format.ParseDict(update["json"], wire.update.SessionUpdate()))
            state.apply(binary)
        expected = step["state"]
        self.assertEqual(state.revision, int(expected["revision"]))
        self.assertEqual(told(state.data), plain(expected["data"]))
        self.assertEqual(told(state.private_data), plain(expected["privateData"]))
        session = json_format.ParseDict(expected["session"], wire.session.SessionInfo())
        self.assertEqual(state.session, session)
        members = [
            (
                member["userId"],
                wire.session.Role.Value(member["role"]),
                member["disconnected"],
                int(member["joinOrder"]),
                plain(member["props"]),
            )
            for member in expected["members"]
        ]
        mine = [
            (user_id, member.role, member.disconnected, member.join_order, told(member.props))
            for user_id, member in state.members.items()
        ]
        self.assertEqual(mine, members)


if __name__ == "__main__":
    unittest.main()
