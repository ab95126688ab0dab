use super::*;

static VOCABULARY: Vocabulary =
    Vocabulary { names: &["map", "plain"], maps: &["map"], timestamps: true };

fn map(entries: &[(&str, i64)]) -> Value {
    let entries = entries.iter().map(|(key, value)| (Key::from(*key), Value::Integer(*value)));
    Value::Map(entries.collect())
}

fn run(source: &str, of: &Value) -> (Result<Value, String>, usize) {
    let expression = Expression::new(source, &VOCABULARY).expect(source);
    let look = |mention: &Mention| match (&mention.key, of) {
        (Some(key), Value::Map(entries)) => {
            entries.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
        }
        _ => Some(of.clone()),
    };
    expression.run_counted(look, 1000)
}

#[test]
fn an_entry_of_a_map_is_looked_up_without_the_map() {
    let large: Vec<_> = (0..900).map(|at| format!("k{at:03}")).collect();
    let large: Vec<_> = large.iter().map(|key| (&**key, 7)).collect();
    let large = map(&large);
    let (result, steps) = run("map.k001 == 7 && map.k899 == 7", &large);
    assert_eq!(result, Ok(Value::Flag(true)));
    assert!(steps < 30, "{steps}");
    for entry in ["map['k001'] == 7", "has(map.k001)", "!has(map.other) && map['k899'] == 7"] {
        let (result, steps) = run(entry, &large);
        assert_eq!(result, Ok(Value::Flag(true)), "{entry}");
        assert!(steps < 30, "{entry}: {steps}");
    }
    let (result, steps) = run("'k001' in map", &large);
    assert_eq!(result, Err("the expression looks at too much".to_owned()));
    assert!(steps >= 1000, "what it was about to look at is counted: {steps}");
    assert_eq!(run("has(map.a) && !has(map.b)", &map(&[("a", 1)])).0, Ok(Value::Flag(true)));
    assert!(run("map.b == 1", &map(&[("a", 1)])).0.is_err(), "it is not there");
    assert_eq!(run("map.b == 1 || map.a == 1", &map(&[("a", 1)])).0, Ok(Value::Flag(true)));
    assert!(run("map['b'] == 1", &map(&[("a", 1)])).0.is_err(), "it is not there");
    let dotted = map(&[("a.b", 2)]);
    assert_eq!(run("map['a.b'] == 2", &dotted).0, Ok(Value::Flag(true)));
    assert!(run("map.a.b == 2 && map['a.b'] == 2", &dotted).0.is_err(), "it is another entry");
    let nested = Value::Map([("a".into(), map(&[("b", 3)]))].into());
    assert_eq!(run("map.a.b == 3 && map['a']['b'] == 3", &nested).0, Ok(Value::Flag(true)));
    assert_eq!(run("has(map.a.b) && !has(map.a.c)", &nested).0, Ok(Value::Flag(true)));
}

#[test]
fn a_variable_of_a_comprehension_is_no_name_of_the_vocabulary() {
    let inner = "[{'a': 2}].exists(map, map.a == 2)";
    assert_eq!(run(inner, &map(&[("a", 1)])).0, Ok(Value::Flag(true)));
    let after = "[1].all(map, map == 1) && map.a == 1";
    assert_eq!(run(after, &map(&[("a", 1)])).0, Ok(Value::Flag(true)));
}

#[test]
fn a_comprehension_counts_its_nodes_for_all_that_it_looks_at() {
    let of = map(&[("a", 1), ("b", 2)]);
    let (_, once) = run("size(map) > 1", &of);
    let (_, repeated) = run("map.all(k, map[k] > 0)", &of);
    assert!(once < 20 && repeated > 5 * once, "{once} {repeated}");
}

#[test]
fn moments_are_told_as_microseconds_since_1970() {
    let moment = Value::Integer(1_767_225_600_000_000);
    assert_eq!(run("plain == timestamp('2026-01-01T00:00:00Z')", &moment).0, Ok(Value::Flag(true)));
    assert_eq!(
        run("plain < timestamp('2026-01-01T00:00:00.5Z')", &moment).0,
        Ok(Value::Flag(true))
    );
    for wrong in ["timestamp('yesterday')", "timestamp('1969-12-31T00:00:00Z')", "timestamp(7)"] {
        assert!(run(wrong, &moment).0.is_err(), "{wrong}");
    }
    static TIMELESS: Vocabulary = Vocabulary { names: &["plain"], maps: &[], timestamps: false };
    assert!(Expression::new("timestamp('2026-01-01T00:00:00Z')", &TIMELESS).is_err());
}

#[test]
fn what_an_expression_does_not_know_is_named_with_what_it_knows() {
    let fault = Expression::new("other == 1", &VOCABULARY).expect_err("it is not known");
    assert_eq!(fault, "knows only `map` and `plain`, not `other`");
}

#[test]
fn a_name_with_a_dot_is_written_as_a_field() {
    static FIELDS: Vocabulary = Vocabulary {
        names: &["request.props", "request.user_id", "member.role"],
        maps: &["request.props"],
        timestamps: false,
    };
    let run = |source: &str| {
        let expression = Expression::new(source, &FIELDS).expect(source);
        let look = |mention: &Mention| match (mention.name, &mention.key) {
            ("request.props", Some(key)) => (&**key == "x").then_some(Value::Integer(7)),
            ("request.props", None) => Some(map(&[("x", 7)])),
            ("request.user_id", _) => Some(Value::Text("ada".into())),
            _ => None,
        };
        expression.run(look, 1000)
    };
    for holds in [
        "request.props.x < 8 && request.user_id == 'ada'",
        "request.props['x'] == 7 && has(request.props.x) && !has(request.props.y)",
        "!has(member.role) && has(request.user_id)",
        "request.props.all(key, key == 'x' && request.props[key] == 7)",
        "[{'props': 3}].all(request, request.props == 3)",
    ] {
        assert_eq!(run(holds), Ok(Value::Flag(true)), "{holds}");
    }
    for fails in ["request.props.y == 1", "member.role == 1"] {
        assert!(run(fails).is_err(), "{fails}");
    }
    for (wrong, fault) in [
        (
            "request.user == 'ada'",
            "knows only `request.props` and `request.user_id`, not `request.user`",
        ),
        ("request == 1", "not `request`"),
        ("props.x == 1", "not `props`"),
    ] {
        let told = Expression::new(wrong, &FIELDS).expect_err(wrong);
        assert!(told.contains(fault), "{told}");
    }
}
