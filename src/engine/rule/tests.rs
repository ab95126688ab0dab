use super::*;
use crate::{
    engine::{
        asked::{Bearer, Request},
        testing::{engine, opening, room, settings},
    },
    session::{
        command::{Join, Write},
        ids::UserId,
        role::Role,
    },
};
use std::time::Instant;

fn written(expression: &str, on: &[Operation]) -> judging::Rule {
    judging::Rule {
        name: "the-rule".into(),
        on: on.iter().copied().collect(),
        expression: expression.into(),
        message: "not here".into(),
    }
}

fn rule(expression: &str, on: &[Operation]) -> Rule {
    Rule::new(&written(expression, on)).unwrap_or_else(|fault| panic!("{expression}: {fault:?}"))
}

fn ada() -> UserId {
    UserId::new("ada").expect("an id")
}

fn bearer() -> Bearer {
    Bearer { scope: "user", most: Role::Owner, subject: Some("ada".into()) }
}

fn set(entries: &[(&str, Value)]) -> Vec<(Key, Value)> {
    entries.iter().map(|(key, value)| (Key::from(*key), value.clone())).collect()
}

/// What ada, a member of the room `arena`, asks for there.
fn asked(request: Request) -> Asked {
    let engine = engine(settings());
    let live = room(&engine, "arena", |settings| {
        settings.capacity = 8;
        settings.metadata = [("level".into(), Value::Integer(3))].into();
    });
    engine.join(&live, &ada(), Join::default()).expect("she joins");
    Asked::of(&live, &ada(), &bearer(), request).0
}

fn write(entries: &[(&str, Value)]) -> Asked {
    asked(Request::Props { set: set(entries), remove: vec!["old".into()] })
}

fn why(rule: Rule, asked: &Asked) -> Option<Option<String>> {
    match judge([&rule], asked) {
        Ok(()) => None,
        Err(Verdict::Rule { name, message, why }) => {
            assert_eq!((&*name, &*message), ("the-rule", "not here"));
            Some(why)
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_rule_on_writes_knows_the_request_the_member_the_session_and_the_caller() {
    let asked = write(&[("x", Value::Integer(99)), ("y", Value::Number(0.5))]);
    for holds in [
        "request.props.x < 100 && member.role >= MEMBER",
        "request.props.y < 1 && request.props.y > 0.25",
        "request.user_id == 'ada' && request.session_id == 'arena' && request.target == 'PROPS'",
        "'old' in request.removed && size(request.data) == 0 && size(request.private_data) == 0",
        "SPECTATOR < MEMBER && MEMBER < MODERATOR && MODERATOR < ADMIN && ADMIN < OWNER",
        "!member.is_host && session.kind == 'ROOM' && session.member_count == 1",
        "session.metadata.level == 3 && session.capacity == 8 && !session.locked",
        "caller.scope == 'user' && caller.subject == 'ada'",
        "request.props.all(key, key in ['x', 'y'])",
    ] {
        assert_eq!(why(rule(holds, &[Operation::Write]), &asked), None, "{holds}");
    }
    for fails in ["request.props.x < 99", "member.role >= MODERATOR", "false"] {
        assert_eq!(why(rule(fails, &[Operation::Write]), &asked), Some(None), "{fails}");
    }
}

#[test]
fn a_rule_tells_what_is_removed_of_shared_data_from_what_is_of_private_data() {
    let removes = |key: &str| Box::new(Write { remove: vec![key.into()], ..Write::of(Vec::new()) });
    let asked = asked(Request::Data { shared: removes("map"), private: removes("seed") });
    let holds = "request.removed == ['map'] && request.private_removed == ['seed']";
    assert_eq!(why(rule(holds, &[Operation::Write]), &asked), None);
    let fails = "!('seed' in request.private_removed)";
    assert_eq!(why(rule(fails, &[Operation::Write]), &asked), Some(None));
}

#[test]
fn a_rule_that_cannot_be_evaluated_refuses_and_says_why() {
    let asked = write(&[("x", Value::Text("a".into()))]);
    for broken in ["request.props.z == 1", "request.props.x < 100", "request.props.x"] {
        let why = why(rule(broken, &[Operation::Write]), &asked).expect("it refuses");
        assert!(why.is_some_and(|why| !why.is_empty()), "{broken}");
    }
    assert_eq!(why(rule("has(request.props.z) || true", &[Operation::Write]), &asked), None);
}

#[test]
fn a_rule_on_something_else_does_not_judge() {
    let asked = write(&[]);
    assert_eq!(why(rule("false", &[Operation::Join, Operation::Subscribe]), &asked), None);
    assert_eq!(why(rule("false", &[Operation::Join, Operation::Write]), &asked), Some(None));
}

#[test]
fn a_rule_on_openings_and_joins_knows_what_is_to_be() {
    let engine = engine(settings());
    let opening = crate::session::Opening {
        opener: Some((ada(), Join { props: set(&[("x", Value::Integer(1))]), ..Join::default() })),
        ..opening(&engine, "new", |settings| settings.capacity = 3)
    };
    let open = Asked::opening(&opening, &ada(), &bearer());
    let of_open = "request.kind == 'ROOM' && request.capacity == 3 && request.props.x == 1 && \
                   request.session_id == 'new' && request.name == '' && !request.unlisted";
    assert_eq!(why(rule(of_open, &[Operation::Open]), &open), None);
    let join = asked(Request::Join { spectator: true, props: set(&[("x", Value::Integer(1))]) });
    let of_join = "request.spectator && request.props.x == 1 && session.member_count < 8";
    assert_eq!(why(rule(of_join, &[Operation::Join]), &join), None);
    let (user, join) = opening.opener.clone().expect("ada");
    let first = Asked::first_props(&opening, (&user, &join), Role::Owner, 7, &bearer());
    let of_first = "request.props.x == 1 && member.role == OWNER && session.owner_id == 'ada'";
    assert_eq!(why(rule(of_first, &[Operation::Write]), &first), None);
}

#[test]
fn what_is_no_rule_is_refused_with_the_field_and_what_is_wrong() {
    use Operation::{Join, Open, Subscribe, Write};
    for (expression, on, fault) in [
        ("", &[Write][..], "not CEL"),
        ("request.prop.x == 1", &[Write], "not `request.prop`"),
        ("colour == 1", &[Write], "not `colour`"),
        ("1 + 1", &[Write], "true or false"),
        ("request.props.x.matches('a+')", &[Write], "regular expressions"),
        ("member.role >= MEMBER", &[Write, Join], "is about join, where there is no `member.role`"),
        ("session.locked", &[Open], "is about open, where there is no `session.locked`"),
        ("request.kind == 'ROOM'", &[Subscribe], "no `request.kind`"),
    ] {
        let told = Rule::new(&written(expression, on)).expect_err(expression);
        let [(field, told)] = &*told else { panic!("{expression}: {told:?}") };
        assert!(*field == "expression" && told.contains(fault), "{expression}: {told}");
    }
    let bad = |change: fn(&mut judging::Rule)| {
        let mut rule = written("true", &[Write]);
        change(&mut rule);
        let faults = Rule::new(&rule).expect_err("it is at fault");
        faults.into_iter().map(|(field, _)| field).collect::<Vec<_>>()
    };
    assert_eq!(bad(|rule| rule.name = "".into()), ["name"]);
    assert_eq!(bad(|rule| rule.name = "n".repeat(65).as_str().into()), ["name"]);
    assert_eq!(bad(|rule| rule.message = "two\nlines".into()), ["message"]);
    assert_eq!(bad(|rule| rule.message = "m".repeat(257).as_str().into()), ["message"]);
    assert_eq!(bad(|rule| rule.on = Operations::default()), ["on"]);
    let nothing = |rule: &mut judging::Rule| {
        let none = || "".into();
        *rule = judging::Rule { name: none(), message: none(), expression: none(), ..rule.clone() };
    };
    assert_eq!(bad(nothing), ["name", "message", "expression"]);
}

#[test]
fn a_rule_of_another_version_refuses_and_says_that_it_is_not_known() {
    let known = Rule::known(&written("request.weather == 'fine'", &[Operation::Write]));
    let why = why(known, &write(&[])).expect("it refuses").expect("with a reason");
    assert!(why.contains("request.weather"), "{why}");
}

#[test]
fn rules_judge_in_their_order_and_the_first_that_does_not_hold_refuses() {
    let named = |name: &str, expression: &str| {
        let rule = judging::Rule { name: name.into(), ..written(expression, &[Operation::Write]) };
        Rule::new(&rule).expect("it is fine")
    };
    let rules = [named("a", "true"), named("b", "false"), named("c", "false")];
    let refused = judge(&rules, &write(&[])).expect_err("the second does not hold");
    assert!(matches!(refused, Verdict::Rule { name, .. } if &*name == "b"));
}

#[test]
fn costly_rules_end_soon_and_refuse() {
    let entries: Vec<_> =
        (0..256).map(|at| (Key::from(&*format!("k{at:03}")), Value::Null)).collect();
    let asked = asked(Request::Props { set: entries, remove: Vec::new() });
    let costly = "request.props.all(key, key in request.props)";
    let refused = why(rule(costly, &[Operation::Write]), &asked).expect("it refuses");
    assert_eq!(refused.as_deref(), Some("the expression looks at too much"));
    let all = "request.props.all(key, key != 'x' && key != 'y' && key != 'z')";
    let rules: Vec<_> = (0..64).map(|_| rule(all, &[Operation::Write])).collect();
    let begin = Instant::now();
    let refused = judge(&rules, &asked).expect_err("together they look at too much");
    let took = begin.elapsed();
    let Verdict::Rule { why, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(why.as_deref(), Some("all rules together look at too much"));
    assert!(took.as_millis() < 500, "{took:?}");
    println!("rules that spend all they may took {took:?}");
    let usual = rule("request.props.k001 == null && member.role >= MEMBER", &[Operation::Write]);
    let begin = Instant::now();
    (0..1000).for_each(|_| assert!(judge([&usual], &asked).is_ok()));
    println!("a usual rule took {:?}", begin.elapsed() / 1000);
}

#[test]
fn what_is_judged_everywhere_is_judged_in_each_app() {
    let app = |name: &str| AppId::new(name).expect("an id");
    let of = |operation: Operation| Operations::from_iter([operation]);
    let judged = JudgedApps {
        everywhere: of(Operation::Open),
        apps: [(app("games"), of(Operation::Write))].into(),
    };
    assert!(judged.of(&app("games")).has(Operation::Open));
    assert!(judged.of(&app("games")).has(Operation::Write));
    assert!(!judged.of(&app("chat")).has(Operation::Write));
    assert!(judged.of(&app("chat")).has(Operation::Open));
}
