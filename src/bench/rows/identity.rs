//! Servers that ask for credentials, beside servers that believe everybody.

use super::{Bench, calls, turns};
use crate::bench::{Result, credentials::Credentials, figures::Figures, server::Server};
use std::sync::Arc;

/// Rooms of 50 at a server that asks for no credentials, in turns with the same at one where each user
/// has a token.
pub async fn rooms(bench: &Bench, rooms: usize) -> Result<Figures> {
    let plan = bench.plan(bench.args.scaled(rooms, 1), bench.args.scaled(50, 2));
    let without = Server::start_with(&bench.args, bench.args.threads).await?;
    let apps = (0..plan.rooms).map(|room| plan.place(room).0).collect();
    let credentials = Arc::new(Credentials::new(apps)?);
    let with = Server::start_with_identity(&bench.args, credentials).await?;
    bench.progress.step("nobody needs a credential, and in turns each user has a token".to_owned());
    let mut pair = turns::Pair::start(&plan, without, with).await?;
    let (mut figures, _) = pair.measure(&bench.args).await?;
    pair.stop(&mut figures).await?;
    Ok(figures)
}

/// The end of the name of a figure of [`calls::all_kinds`] that is compared.
const OF_CPU: &str = "_per_second_of_cpu";

/// How many calls were made again, because the server refused them.
const REPEATED: &str = "repeated_calls";

/// Unary calls at a server that asks for no credentials, and then at one that does, with a token and with
/// an API key.
pub async fn unary(bench: &Bench) -> Result<Figures> {
    let server = Server::start_with(&bench.args, bench.args.threads).await?;
    bench.progress.step("nobody needs a credential".to_owned());
    let connection = calls::connect(&server).await?;
    let without = calls::all_kinds(bench, &server, &connection).await?;
    server.stop().await?;

    let credentials = Arc::new(Credentials::new(calls::apps().collect())?);
    let (token, key) = (credentials.token()?, credentials.key());
    let token_bytes = token.len();
    let server = Server::start_with_identity(&bench.args, credentials).await?;
    let connection = calls::connect(&server).await?;
    bench.progress.step("the same with a token".to_owned());
    let connection = connection.presenting(token);
    let with_token = calls::all_kinds(bench, &server, &connection).await?;
    bench.progress.step("the same with an API key".to_owned());
    let connection = connection.presenting(key);
    let with_key = calls::all_kinds(bench, &server, &connection).await?;
    server.stop().await?;

    let mut figures = Figures::from_iter([("token_bytes", token_bytes as f64)]);
    add_kinds(&mut figures, "without", &without);
    for (name, with) in [("token", &with_token), ("key", &with_key)] {
        add_kinds(&mut figures, &format!("with_{name}"), with);
        add_ratios(&mut figures, name, with, &without);
    }
    Ok(figures)
}

/// How often each kind of call was made.
fn add_kinds(figures: &mut Figures, how: &str, measured: &Figures) {
    for (name, value) in measured.iter() {
        if let Some(kind) = name.strip_suffix(OF_CPU) {
            figures.set(format!("{kind}_{how}{OF_CPU}"), *value);
        }
    }
    figures.set_some(format!("{REPEATED}_{how}"), measured.get(REPEATED));
}

/// How often each kind of call was made with a credential, as a share of how often without, and the
/// lowest of these.
fn add_ratios(figures: &mut Figures, credential: &str, with: &Figures, without: &Figures) {
    let mut lowest: Option<f64> = None;
    for (name, without) in without.iter() {
        let Some((kind, with)) = name.strip_suffix(OF_CPU).zip(with.get(name)) else { continue };
        let ratio = with / without;
        lowest = Some(lowest.map_or(ratio, |lowest| lowest.min(ratio)));
        figures.set(format!("{kind}_{credential}_ratio"), ratio);
    }
    figures.set_some(format!("{credential}_ratio"), lowest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_of_a_credential_is_that_of_the_kind_of_call_that_suffers_most() {
        let of = |set: f64, get: f64| {
            let names = ["set_per_second_of_cpu", "get_per_second_of_cpu", "set_per_second"];
            Figures::from_iter(names.into_iter().zip([set, get, 7.0]))
        };
        let mut figures = Figures::default();
        add_ratios(&mut figures, "token", &of(90.0, 20.0), &of(100.0, 40.0));
        let expected = [("set_token_ratio", 0.9), ("get_token_ratio", 0.5), ("token_ratio", 0.5)];
        assert_eq!(figures, Figures::from_iter(expected));
    }
}
