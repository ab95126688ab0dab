import unittest

from recording import PROPS, Recording, Report, differences, read

START = 1_000_000_000_000


def report(second: int, aircraft: str = "a", **props) -> Report:
    moment = START + second * 1000
    props = {"timestamp": moment, "callsign": "CALL", **props}
    return Report(moment, aircraft, tuple(props.get(key) for key in PROPS))


def at(second: float) -> int:
    return START + int(second * 1000)


class Flights(unittest.TestCase):
    def test_a_gap_of_60_s_is_the_same_flight(self):
        recorded = Recording([report(0), report(60)])
        self.assertEqual(len(recorded.flights), 1)
        self.assertEqual(recorded.joins_until(at(60)), 1)
        self.assertEqual(recorded.leaves_until(at(60)), 0)

    def test_a_longer_gap_is_a_leave_and_the_next_report_a_join(self):
        recorded = Recording([report(0), report(100)])
        self.assertEqual(list(recorded.state_at(at(60))), ["a"])
        self.assertEqual(recorded.state_at(at(60) + 1), {})
        self.assertEqual((recorded.joins_until(at(99)), recorded.leaves_until(at(99))), (1, 1))
        self.assertEqual(list(recorded.state_at(at(100))), ["a"])
        self.assertEqual((recorded.joins_until(at(100)), recorded.leaves_until(at(100))), (2, 1))

    def test_the_last_report_is_a_leave(self):
        recorded = Recording([report(0), report(5, "b")])
        self.assertEqual(recorded.ends_at, at(65) + 1)
        self.assertEqual(recorded.state_at(recorded.ends_at), {})
        self.assertEqual(recorded.leaves_until(recorded.ends_at), 2)

    def test_reports_out_of_order_are_sorted(self):
        recorded = Recording([report(5, squawk="2"), report(0, squawk="1")])
        self.assertEqual(recorded.state_at(at(1))["a"]["squawk"], "1")
        self.assertEqual(recorded.state_at(at(6))["a"]["squawk"], "2")


class States(unittest.TestCase):
    def test_what_a_report_does_not_know_is_gone(self):
        recorded = Recording([report(0, altitude=100.0), report(1)])
        self.assertEqual(recorded.state_at(at(0))["a"]["altitude"], 100.0)
        self.assertNotIn("altitude", recorded.state_at(at(1))["a"])
        self.assertIn("altitude", recorded.last_report("a", at(1)).unknown)

    def test_false_and_zero_are_known(self):
        known = report(0, onground=False, altitude=0.0).known
        self.assertEqual((known["onground"], known["altitude"]), (False, 0.0))

    def test_before_its_first_report_an_aircraft_said_nothing(self):
        recorded = Recording([report(1)])
        self.assertIsNone(recorded.last_report("a", at(0)))
        self.assertIsNone(recorded.last_report("b", at(1)))
        self.assertEqual(recorded.state_at(at(0)), {})

    def test_playing_the_events_gives_the_state_of_every_second(self):
        recorded = Recording(
            [report(s, a, track=float(s)) for a, first in (("a", 0), ("b", 7)) for s in range(first, 20)]
            + [report(s, "a") for s in range(90, 95)]
        )
        events = recorded.events()
        for second in range(recorded.ends_at // 1000 - START // 1000 + 2):
            state = {}
            for event in events:
                if event.moment > at(second):
                    break
                state[event.flight.aircraft] = event.report and event.report.known
            state = {aircraft: props for aircraft, props in state.items() if props is not None}
            self.assertEqual(state, recorded.state_at(at(second)))


class Differences(unittest.TestCase):
    def test_equal_states_have_none(self):
        self.assertEqual(differences({"a": {"x": 1.0}}, {"a": {"x": 1.0}}), [])

    def test_each_is_named(self):
        expected = {"a": {"x": 1.0, "y": "s", "z": True}, "gone": {}}
        actual = {"a": {"x": 1.5, "z": 1, "new": 7}, "ghost": {}}
        self.assertEqual(
            differences(expected, actual),
            [
                "a new: 7 instead of None",
                "a x: 1.5 instead of 1.0",
                "a y: None instead of 's'",
                "a z: 1 instead of True",
                "ghost should not be there",
                "gone is missing",
            ],
        )


class TheSample(unittest.TestCase):
    """The facts that the README tells."""

    @classmethod
    def setUpClass(cls):
        cls.recorded = read()

    def test_size(self):
        self.assertEqual(self.recorded.reports, 284_505)
        self.assertEqual(self.recorded.aircraft, 213)
        self.assertEqual(len(self.recorded.flights), 245)
        self.assertEqual(self.recorded.last_report_at - self.recorded.begins_at, 10_798_000)

    def test_23_aircraft_have_two_callsigns(self):
        callsigns = {}
        for flight in self.recorded.flights:
            for reported in flight.reports:
                callsigns.setdefault(flight.aircraft, set()).add(reported.known["callsign"])
        self.assertEqual(sum(len(names) == 2 for names in callsigns.values()), 23)

    def test_56_gaps_are_short(self):
        short = [
            after.moment - before.moment
            for flight in self.recorded.flights
            for before, after in zip(flight.reports, flight.reports[1:])
            if after.moment - before.moment > 1000
        ]
        self.assertEqual((len(short), min(short), max(short)), (56, 2000, 50000))

    def test_types(self):
        types = {key: set() for key in PROPS}
        for flight in self.recorded.flights:
            for reported in flight.reports:
                for key, value in zip(PROPS, reported.values):
                    types[key].add(type(value).__name__)
        self.assertEqual(
            types,
            {
                "timestamp": {"int"},
                "callsign": {"str"},
                "latitude": {"float"},
                "longitude": {"float"},
                "altitude": {"float", "NoneType"},
                "groundspeed": {"float", "NoneType"},
                "track": {"float", "NoneType"},
                "vertical_rate": {"float", "NoneType"},
                "onground": {"bool"},
                "squawk": {"str", "NoneType"},
            },
        )

    def test_known_props_do_become_unknown(self):
        lost = sum(
            bool(before.known.keys() - after.known.keys())
            for flight in self.recorded.flights
            for before, after in zip(flight.reports, flight.reports[1:])
        )
        self.assertGreater(lost, 100)

    def test_the_first_minutes_end_with_everybody_gone(self):
        part = self.recorded.first(10)
        self.assertEqual(part.last_report_at - part.begins_at, 600_000)
        self.assertEqual(part.state_at(part.last_report_at), self.recorded.state_at(part.last_report_at))
        self.assertEqual(part.joins_until(part.ends_at), part.leaves_until(part.ends_at))


if __name__ == "__main__":
    unittest.main()
