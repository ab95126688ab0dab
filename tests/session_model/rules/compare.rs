//! Compare and set.

use crate::session_model::stage::{
    Outcome, Stage, host, members, opening_by, remove, set, text, user,
};
use sessiond::session::{
    command::{Actor, Command, Write},
    error::Refusal,
    limits::Limits,
    revision::Revision,
    role::Role,
    settings::Kind,
};

fn at(write: Write, compared: &[(&str, Revision)]) -> Write {
    let if_revision = compared.iter().map(|(key, revision)| ((*key).into(), *revision)).collect();
    Write { if_revision, ..write }
}

fn write_at(stage: &mut Stage, name: &str, key: &str, revision: Revision) -> Outcome {
    stage.write(name, at(set(key, text("compared")), &[(key, revision)]), 0)
}

/// The fields that a comparison was lost for.
fn lost(outcome: Outcome) -> Vec<String> {
    let Err(Refusal::RevisionChanged(fields)) = outcome else { panic!("{outcome:?}") };
    fields.into_iter().map(|violation| violation.field).collect()
}

#[test]
fn a_key_that_has_not_changed_after_the_revision_is_written() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", text("1")).unwrap();
    let written = stage.tick();
    stage.set("ada", "y", text("1")).unwrap();
    let later = stage.tick();
    assert_eq!(
        lost(write_at(&mut stage, "ada", "x", written.previous())),
        [r#"write.if_revision["x"]"#]
    );
    write_at(&mut stage, "ada", "x", written).unwrap();
    stage.tick();
    lost(write_at(&mut stage, "ada", "x", later));
}

#[test]
fn a_change_that_is_pending_loses_and_one_that_was_taken_back_does_not() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", text("1")).unwrap();
    let written = stage.tick();
    stage.set("ada", "x", text("2")).unwrap();
    lost(write_at(&mut stage, "ada", "x", written));
    lost(write_at(&mut stage, "ada", "x", written.next()));
    stage.set("ada", "x", text("1")).unwrap();
    write_at(&mut stage, "ada", "x", written).unwrap();
    lost(write_at(&mut stage, "ada", "x", written));
}

#[test]
fn what_is_set_on_the_user_is_a_change_like_any_other() {
    let mut stage = Stage::room().with(&["ada"]);
    let before = stage.tick();
    stage.write_on_user("ada", set("x", text("of the user")));
    lost(write_at(&mut stage, "ada", "x", before));
    let shown = stage.tick();
    write_at(&mut stage, "ada", "x", shown).unwrap();
    let compared = stage.tick();
    stage.write_on_user("ada", set("x", text("of the user, later")));
    lost(write_at(&mut stage, "ada", "x", compared));
}

#[test]
fn one_lost_comparison_refuses_all_and_names_each() {
    let mut stage = Stage::room().with(&["ada"]);
    for key in ["a", "b", "c"] {
        stage.set("ada", key, text("1")).unwrap();
        stage.tick();
    }
    let before = stage.session.revision();
    let compared =
        [("a", before), ("b", Revision::FIRST), ("c", Revision::FIRST), ("elsewhere", before)];
    let outcome = stage.write("ada", at(set("new", text("1")), &compared), 0);
    assert_eq!(lost(outcome), [r#"write.if_revision["b"]"#, r#"write.if_revision["c"]"#]);
    assert_eq!(stage.tick(), before, "nothing was accepted");
}

#[test]
fn a_removal_is_a_change() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", text("1")).unwrap();
    let written = stage.tick();
    stage.remove("ada", "x").unwrap();
    lost(write_at(&mut stage, "ada", "x", written));
    let removed = stage.tick();
    lost(write_at(&mut stage, "ada", "x", written));
    write_at(&mut stage, "ada", "x", removed).unwrap();
}

#[test]
fn what_is_forgotten_loses_unless_the_key_only_has_to_be_absent() {
    let limits = Limits { removals: 0, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Room), limits);
    stage.set("ada", "x", text("1")).unwrap();
    let written = stage.tick();
    stage.remove("ada", "x").unwrap();
    let removed = stage.tick();
    stage.set("ada", "y", text("1")).unwrap();
    stage.tick();
    assert_eq!(stage.session.horizon(), removed);
    lost(write_at(&mut stage, "ada", "x", written));
    lost(write_at(&mut stage, "ada", "never there", written));
    stage.write("ada", at(remove("z"), &[("x", removed)]), 0).unwrap();
    write_at(&mut stage, "ada", "x", Revision::NONE).unwrap();
}

#[test]
fn revision_0_holds_whenever_nothing_is_shown_or_pending_under_the_key() {
    let mut stage = Stage::room().with(&["ada"]);
    let absent = |stage: &mut Stage| {
        stage.write("ada", at(set("probe", text("1")), &[("x", Revision::NONE)]), 0).map(|_| ())
    };
    absent(&mut stage).unwrap();
    stage.set("ada", "x", text("1")).unwrap();
    assert!(absent(&mut stage).is_err(), "it is pending");
    stage.remove("ada", "x").unwrap();
    absent(&mut stage).unwrap();
    stage.set("ada", "x", text("1")).unwrap();
    stage.tick();
    assert!(absent(&mut stage).is_err(), "it is shown");
    stage.remove("ada", "x").unwrap();
    assert!(absent(&mut stage).is_err(), "it is shown until the frame");
    stage.tick();
    absent(&mut stage).expect("that it was there before does not matter");
    write_at(&mut stage, "ada", "x", Revision::NONE).unwrap();
    assert!(absent(&mut stage).is_err());
}

#[test]
fn what_an_earlier_membership_had_is_not_unchanged() {
    let mut stage = Stage::room().with(&["ada", "ben"]);
    stage.set("ada", "x", text("1")).unwrap();
    let written = stage.tick();
    stage.leave("ada");
    let left = stage.tick();
    stage.join("ada").unwrap();
    for _ in 0..2 {
        lost(write_at(&mut stage, "ada", "x", written));
        stage.tick();
    }
    write_at(&mut stage, "ada", "x", left).unwrap();
}

#[test]
fn each_part_of_the_data_is_compared_on_its_own() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    let write = |stage: &mut Stage, name, shared, private| {
        stage.try_to(Actor::of(&user(name)), Command::SetData { shared, private, term: 0 })
    };
    write(&mut stage, "ada", set("x", text("1")), Write::default()).unwrap();
    let shared_at = stage.tick();
    write(&mut stage, "ada", Write::default(), set("x", text("1"))).unwrap();
    let private_at = stage.tick();
    let shared = |revision| at(set("x", text("2")), &[("x", revision)]);
    let both = write(&mut stage, "ada", shared(shared_at), shared(shared_at));
    assert_eq!(lost(both), [r#"private_if_revision["x"]"#]);
    let both = write(&mut stage, "ada", shared(Revision::FIRST), shared(private_at));
    assert_eq!(lost(both), [r#"if_revision["x"]"#]);
    write(&mut stage, "ada", shared(shared_at), shared(private_at)).unwrap();
    stage.tick();
    assert_eq!(stage.picture(&members()).data["x"], text("2"));
    assert_eq!(stage.picture(&host()).private_data["x"], text("2"));
}

#[test]
fn nobody_learns_of_private_data_by_comparing() {
    for (kind, refusal) in [
        (Kind::Room, Refusal::RoleTooLow { needs: Role::Owner }),
        (Kind::Hosted, Refusal::NeedsHost),
    ] {
        let mut stage = Stage::open(opening_by("ada", kind)).with(&["ben"]);
        let private = set("x", text("1"));
        let data = Command::SetData { shared: Write::default(), private, term: 0 };
        stage.try_to(Actor::App, data).unwrap();
        let last = stage.tick();
        for revision in [Revision::FIRST, last] {
            let private = at(Write::default(), &[("x", revision)]);
            let probe = Command::SetData { shared: set("y", text("1")), private, term: 0 };
            assert_eq!(stage.try_to(Actor::of(&user("ben")), probe), Err(refusal.clone()));
        }
    }
}

#[test]
fn a_revision_that_the_session_has_not_reached_is_refused() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", text("a")).unwrap();
    let next = stage.session.pending_revision();
    for revision in [next.next(), Revision::MAX] {
        for key in ["x", "not there"] {
            let mut write = set("y", text("b"));
            write.if_revision = vec![(key.into(), revision)];
            assert_eq!(stage.write("ada", write, 0), Err(Refusal::UnknownPosition), "{key}");
        }
    }
    let mut write = set("y", text("b"));
    write.if_revision = vec![("y".into(), next)];
    stage.write("ada", write, 0).unwrap();
}
