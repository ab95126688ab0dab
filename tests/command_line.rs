//! What an operator types and reads: help, settings and refusals, tried on the real program.

use sessiond::config::{Setting, settings};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/sessiond.toml");

#[test]
fn without_a_verb_the_help_is_printed() {
    let answer = answer(&mut sessiond());
    assert_eq!((answer.code, answer.out.as_str()), (2, ""));
    assert!(answer.err.contains("Usage: sessiond <COMMAND>"), "{}", answer.err);
}

#[test]
fn help_and_version_are_no_refusals() {
    for question in
        [&["--help"][..], &["serve", "--help"], &["health", "--help"], &["bench", "--help"]]
    {
        assert!(success(sessiond().args(question)).contains("Usage: sessiond"));
    }
    let version = success(sessiond().arg("--version"));
    assert_eq!(version, concat!("sessiond ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn the_help_tells_all_about_every_setting() {
    for help in ["--help", "-h"] {
        let help = words(&success(serve().arg(help)));
        for Setting { name, env, help: about, default, value_name, takes, range, .. } in settings()
        {
            let value = match *value_name {
                "SWITCH" => "[<SWITCH>]".to_owned(),
                name => format!("<{name}>"),
            };
            let flag = format!("--{name} {value} {about} [{takes}]");
            let part = words(&format!("{flag} [env: {env}] [default: {default}]"));
            assert!(help.contains(&part), "{part:?} is missing in {help}");
            assert!(takes.contains(range.unwrap_or_default()), "{takes:?} lacks {range:?}");
        }
    }
}

#[test]
fn a_switch_that_is_named_without_a_value_is_on() {
    let mut print_config = print_config();
    print_config.args(["--insecure", "--reflection", "false", "--tls-require-client"]);
    let printed = printed(&mut print_config);
    for (name, value) in
        [("insecure", "true"), ("reflection", "false"), ("tls-require-client", "true")]
    {
        assert_eq!(printed[name], value, "{name}");
    }
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let file = each(|setting| format!("{} = {:?}\n", setting.name, two_values(setting).0));
    let file = file_with("precedence.toml", &file.concat());
    let environment = each(|setting| (&setting.env, two_values(setting).1));
    let flags = each(|setting| format!("--{}={}", setting.name, setting.default));

    let mut print_config = print_config();
    assert_eq!(printed(&mut print_config), by_name(|setting| setting.default.clone()));
    print_config.args(["--config", &file]);
    assert_eq!(printed(&mut print_config), by_name(|setting| two_values(setting).0));
    print_config.envs(environment);
    assert_eq!(printed(&mut print_config), by_name(|setting| two_values(setting).1));
    print_config.args(flags);
    assert_eq!(printed(&mut print_config), by_name(|setting| setting.default.clone()));
}

#[test]
fn the_printed_settings_say_where_each_comes_from() {
    let file = file_with("places.toml", "\nmax-members = 5\n");
    let mut command = print_config();
    command.args(["--config", &file, "--tick-interval", "20ms"]).env("SESSIOND_THREADS", "3");
    let out = success(&mut command);
    for line in [
        "tick-interval = \"20ms\" # the flag --tick-interval",
        "threads = 3 # the environment variable SESSIOND_THREADS",
        &format!("max-members = 5 # {file}:2"),
        "user-ttl = \"60s\" # the default",
    ] {
        assert!(out.lines().any(|printed| printed == line), "{line:?} is missing in {out}");
    }
}

#[test]
fn what_is_printed_can_be_used_as_the_file() {
    let text = success(print_config().args(["--node", "007", "--max-members", "010"]));
    let file = file_with("printed.toml", &text);
    assert_eq!(printed(print_config().args(["--config", &file])), values_in(&text));
}

#[test]
fn no_password_in_a_url_is_printed() {
    for (given, shown) in [
        ("nats://ada:s3cret@one:4222", "nats://***@one:4222"),
        ("nats://ada:s3,c:r@et@one,tls://bob:s3cret@two", "nats://***@one,tls://***@two"),
        ("ada:s3cret@one,nats://two", "***@one,nats://two"),
        ("nats://s3cret@one", "nats://***@one"),
    ] {
        let file = file_with("url.toml", &format!("cluster = {given:?}\n"));
        for command in [
            print_config().args(["--cluster", given]),
            print_config().env("SESSIOND_CLUSTER", given),
            print_config().args(["--config", &file]),
        ] {
            let out = success(command);
            let line = out.lines().find(|line| line.starts_with("cluster = ")).expect("a line");
            assert!(line.starts_with(&format!("cluster = {shown:?} # ")), "{line}");
            assert!(line.ends_with(", whose password is not shown"), "{line}");
            assert!(!out.contains("s3"), "{out}");
        }
        let line = refusal(serve().args(["--cluster", &format!("{given} ")]));
        assert!(
            line.starts_with(&format!("cluster cannot be {:?}", format!("{shown} "))),
            "{line}"
        );
        assert!(!line.contains("s3"), "{line}");
    }
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let weak = file_with("weak.toml", "node = \"weak\"");
    let strong = file_with("strong.toml", "node = \"strong\"");
    let mut print_config = print_config();
    assert_eq!(printed(print_config.env("SESSIOND_CONFIG", weak))["node"], "weak");
    assert_eq!(printed(print_config.args(["--config", &strong]))["node"], "strong");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let empty = each(|setting| (setting.env.as_str(), ""));
    let mut with_empty = print_config();
    with_empty.envs(empty).env("SESSIOND_CONFIG", "");
    assert_eq!(printed(&mut with_empty), printed(&mut print_config()));
}

#[test]
fn both_ends_of_every_range_are_allowed() {
    for Setting { name, range, .. } in settings() {
        for end in range.map(ends).into_iter().flatten() {
            assert_eq!(printed(print_config().arg(format!("--{name}={end}")))[name], end);
        }
    }
}

#[test]
fn one_step_outside_of_every_range_is_refused() {
    for Setting { name, range, takes, .. } in settings() {
        for outside in range.map(outside).into_iter().flatten() {
            let line = refusal(serve().arg(format!("--{name}={outside}")));
            let value = format!("{name} cannot be {outside:?} (from the flag --{name})");
            assert_eq!(line, format!("{value}: expected {takes}"));
        }
    }
}

#[test]
fn every_setting_refuses_nonsense_from_every_place() {
    // Neither ASCII, nor a number, nor a single line: wrong for a setting of any kind.
    const NONSENSE: &str = "\u{e9}\n";
    for Setting { name, env, takes, .. } in settings() {
        let file = file_with(&format!("{name}.toml"), &format!("{name} = {NONSENSE:?}"));
        for (place, line) in [
            (format!("the flag --{name}"), refusal(serve().args([&format!("--{name}"), NONSENSE]))),
            (format!("the environment variable {env}"), refusal(serve().env(env, NONSENSE))),
            (format!("{file}:1"), refusal(serve().args(["--config", &file]))),
        ] {
            let value = format!("{name} cannot be {NONSENSE:?} (from {place})");
            assert_eq!(line, format!("{value}: expected {takes}"));
        }
    }
}

#[test]
fn a_setting_in_the_file_is_a_string_or_an_integer() {
    for wrong in ["true", "1.5", "[1]", "{ a = 1 }", "2026-01-31"] {
        let file = file_with("type.toml", &format!("# a comment\nnode = {wrong}"));
        let line = refusal(serve().args(["--config", &file]));
        assert!(line.contains(&format!("(from {file}:2)")), "{line}");
        assert!(line.ends_with("as a string or an integer"), "{line}");
    }
}

#[test]
fn a_mistake_in_the_file_is_refused_even_under_a_flag() {
    let file = file_with("hidden.toml", "threads = 0");
    let line = refusal(serve().args(["--config", &file, "--threads", "1"]));
    assert!(line.contains(&format!("(from {file}:1)")), "{line}");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    let file = file_with("unknown.toml", "threads = 1\n\ntick_interval = \"5ms\"");
    let line = refusal(serve().args(["--config", &file]));
    let reason = "there is no setting \"tick_interval\"; the nearest is \"tick-interval\"";
    assert_eq!(line, format!("{file}:3: {reason}"));
}

#[test]
fn every_fault_of_every_place_is_named_at_once() {
    let file = "threads = 0\nno-such = 1\nnode = true\nmax-members = 5\nlog-format = \"xml\"";
    let file = file_with("faults.toml", file);
    let mut serve = serve();
    serve.args(["--config", &file, "--tick-interval=fast", "--user-ttl=0s", "--max-users=9"]);
    serve.envs([("SESSIOND_MAX_KEYS", "1"), ("SESSIOND_LISTEN", "here")]);
    // Hidden by a flag, and a fault all the same.
    serve.env("SESSIOND_MAX_USERS", "none");
    let told: Vec<_> = refusals(&mut serve).iter().map(|line| cut_at_reason(line)).collect();
    let expected = [
        format!("{file}:2: there is no setting \"no-such\""),
        format!("node cannot be \"true\" (from {file}:3)"),
        "the environment: there is no setting \"SESSIOND_MAX_KEYS\"".to_owned(),
        format!("threads cannot be \"0\" (from {file}:1)"),
        format!("log-format cannot be \"xml\" (from {file}:5)"),
        "listen cannot be \"here\" (from the environment variable SESSIOND_LISTEN)".to_owned(),
        "max-users cannot be \"none\" (from the environment variable SESSIOND_MAX_USERS)"
            .to_owned(),
        "tick-interval cannot be \"fast\" (from the flag --tick-interval)".to_owned(),
        "user-ttl cannot be \"0s\" (from the flag --user-ttl)".to_owned(),
    ];
    assert_eq!(told, expected);
    // Whoever asks for the health goes by the same settings.
    let mut health = sessiond();
    let lines = refusals(health.arg("health").env("SESSIOND_LISTN", "1").env("SESSIOND_NODE", " "));
    assert_eq!(lines.len(), 2, "{lines:?}");
}

/// What is wrong, without what would be right.
fn cut_at_reason(line: &str) -> String {
    let (wrong, _) = line.split_once(": expected ").or(line.split_once("; ")).unwrap();
    wrong.to_owned()
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_name() {
    for (unknown, nearest) in [
        ("SESSIOND_LISTN", "SESSIOND_LISTEN"),
        ("SESSIOND_TICKINTERVAL", "SESSIOND_TICK_INTERVAL"),
        ("SESSIOND_CONFIGURATION", "SESSIOND_CONFIG"),
        ("SESSIOND_LISTEN_PORT", "SESSIOND_LISTEN"),
    ] {
        let line = refusal(serve().env(unknown, "1"));
        let reason = format!("there is no setting {unknown:?}; the nearest is {nearest:?}");
        assert_eq!(line, format!("the environment: {reason}"));
    }
    for unknown in ["SESSIOND_", "SESSIOND_XYZZY"] {
        let line = refusal(serve().env(unknown, "1"));
        let reason = format!("there is no setting {unknown:?}; sessiond serve --help lists all");
        assert_eq!(line, format!("the environment: {reason}"), "nothing is like it");
    }
}

#[test]
fn every_line_of_the_file_that_is_no_toml_is_named_beside_the_wrong_values() {
    let file =
        file_with("broken.toml", "threads = = 1\nnode = \"a\"\ntick-interval = \"fast\"\nx y\n");
    let lines = refusals(serve().args(["--config", &file]));
    let is_of = |line: &str, at: usize| line.contains(&format!("{file}:{at}"));
    let of: Vec<usize> =
        [1, 2, 3, 4].map(|at| lines.iter().filter(|it| is_of(it, at)).count()).into();
    assert_eq!(of, [2, 0, 1, 1], "{lines:?}");
}

#[test]
fn variables_that_kubernetes_sets_are_ignored() {
    let mut beside_services = print_config();
    for name in [
        "PORT",
        "PORT_7000_TCP",
        "PORT_7000_TCP_ADDR",
        "SERVICE_HOST",
        "SERVICE_PORT_GRPC",
        "BLUE_SERVICE_HOST",
        "BLUE_SERVICE_PORT",
        "BLUE_PORT_7000_TCP_PROTO",
    ] {
        beside_services.env(format!("SESSIOND_{name}"), "10.0.0.1");
    }
    beside_services.env("SESSIOND_BLUE_PORT", "tcp://10.0.0.1:7000");
    assert_eq!(printed(&mut beside_services), printed(&mut print_config()));
}

#[test]
fn a_place_to_listen_is_written_in_many_ways() {
    for listen in ["7000", ":7000", "localhost:7000", "0.0.0.0:7000", "[::]:7000", "node-1.a:0"] {
        assert_eq!(printed(print_config().args(["--listen", listen]))["listen"], listen);
    }
    for wrong in ["localhost", "127.0.0.1", "::1", "http://localhost:7000", "7000:", "1.2.3:7000"] {
        let line = refusal(serve().args(["--listen", wrong]));
        assert!(line.starts_with(&format!("listen cannot be {wrong:?}")), "{line}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_the_line() {
    for wrong in ["threads = 1\nthreads = 2", "threads = 1\nnode = \"x", "threads = 1\nnode"] {
        let file = file_with("broken.toml", wrong);
        let line = refusal(serve().args(["--config", &file]));
        assert!(line.starts_with(&format!("{file}:2: ")), "{line}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    for unreadable in ["/nowhere/sessiond.toml", env!("CARGO_TARGET_TMPDIR"), ""] {
        let line = refusal(serve().args(["--config", unreadable]));
        let start = format!("cannot read the configuration file {unreadable:?}: ");
        assert!(line.starts_with(&start), "{line}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for (arguments, reason) in [
        (
            &["serv"][..],
            "unrecognized subcommand 'serv', tip: a similar subcommand exists: 'serve'",
        ),
        (
            &["serve", "--thread", "2"],
            "unexpected argument '--thread' found, tip: a similar argument exists: '--threads'",
        ),
        (&["serve", "here"], "unexpected argument 'here' found"),
        (&["serve", "--node"], "a value is required for '--node <NAME>' but none was supplied"),
        (
            &["serve", "--node", "a", "--node", "b"],
            "the argument '--node <NAME>' cannot be used multiple times",
        ),
    ] {
        assert_eq!(refusal(sessiond().args(arguments)), reason);
    }
}

#[test]
fn every_fault_of_the_limits_of_apps_is_named_at_once() {
    let text = "[limits]\nsessions = 0\nuser = 1\n[apps.games.limits]\nstreams = \"many\"\n";
    let file = file_with("apps-faults.toml", text);
    let mut lines = refusals(serve().args(["--listen", "127.0.0.1:0", "--apps", &file]));
    lines.sort();
    let expected = [
        format!("{file}:3: there is no setting \"user\"; the nearest is \"users\""),
        format!(
            "streams cannot be \"many\" (from {file}:5): expected none or a count in 1..100000000"
        ),
    ];
    assert_eq!(lines, expected);
    let missing =
        refusal(serve().args(["--listen", "127.0.0.1:0", "--apps", "/nowhere/apps.toml"]));
    assert!(missing.contains("/nowhere/apps.toml"), "{missing}");
}

#[test]
fn the_sample_file_describes_every_setting() {
    let sample = fs::read_to_string(SAMPLE).unwrap();
    let described: Vec<_> = sample.split("\n\n").filter_map(description).collect();
    let declared = each(|setting| {
        let Setting { name, help, takes, .. } = setting;
        (name.clone(), format!("{help} [{takes}]"))
    });
    assert_eq!(described, declared);
}

#[test]
fn the_sample_file_with_every_setting_uncommented_equals_the_defaults() {
    let sample = fs::read_to_string(SAMPLE).unwrap();
    let uncommented: Vec<_> = sample.lines().map(uncomment).collect();
    let file = file_with("sample.toml", &uncommented.join("\n"));
    let mut sample = printed(print_config().args(["--config", &file]));
    let mut defaults = printed(&mut print_config());
    for of_the_machine in ["node", "threads"] {
        assert!(sample.remove(of_the_machine).is_some());
        defaults.remove(of_the_machine);
    }
    assert_eq!(sample, defaults);
}

/// The program, in an empty environment.
fn sessiond() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessiond"));
    command.env_clear();
    command
}

#[test]
fn everything_that_is_wrong_with_webhooks_is_told_and_nothing_starts() {
    let text = r#"
[[webhooks]]
name = "lobby"
url = "http://example.com/"
apps = []
kinds = ["USER_JOINED", "NOTHING"]
secret-files = ["no such file"]
timeout = "2m"
concurrency = 0
secrets = "open sesame"

[[webhooks]]
name = "lobby"
url = "https://example.com/"
apps = "*"
retry-for = "3y"

[[webhook]]
"#;
    let file = file_with("webhooks-wrong.toml", text);
    let started =
        |file: &str| refusals(serve().args(["--listen", "127.0.0.1:0", "--webhooks", file]));
    let told = started(&file);
    let expected = [
        "webhooks[0].url: expected an https URL",
        "webhooks[0].apps: expected \"*\" for all, or a list of apps",
        "webhooks[0].kinds: expected a list of kinds of events, as USER_JOINED",
        "webhooks[0].secret-files: cannot read",
        "webhooks[0].timeout: expected a duration",
        "webhooks[0].concurrency: expected a count in 1..32",
        "webhooks[0].secrets: there is no such key; the nearest is \"secret-files\"",
        "webhooks[1].secret-files: must be given",
        "webhooks[1].retry-for: expected a duration",
        "webhook: there is no such key; the nearest is \"webhooks\"",
    ];
    for part in expected {
        assert!(told.iter().any(|line| line.contains(part)), "{part:?} is not among {told:#?}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    assert!(!told.concat().contains("sesame"), "{told:?}");
    let [line] = &started("no-such-file.toml")[..] else { panic!("one fault") };
    assert!(line.starts_with("webhooks: cannot read no-such-file.toml"), "{line}");
}

fn serve() -> Command {
    let mut command = sessiond();
    command.arg("serve");
    command
}

fn print_config() -> Command {
    let mut command = serve();
    command.arg("--print-config");
    command
}

struct Answer {
    code: i32,
    out: String,
    err: String,
}

fn answer(command: &mut Command) -> Answer {
    let output = command.output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn success(command: &mut Command) -> String {
    let Answer { code, out, err } = answer(command);
    assert_eq!((code, err.as_str()), (0, ""), "{command:?}");
    out
}

/// The one line with which the program refuses to start.
fn refusal(command: &mut Command) -> String {
    let lines = refusals(command);
    let [line] = &lines[..] else { panic!("{command:?} says {lines:?}, not one line") };
    line.clone()
}

/// The lines with which it does.
fn refusals(command: &mut Command) -> Vec<String> {
    let Answer { code, out, err } = answer(command);
    assert_eq!((code, out.as_str()), (2, ""), "{command:?} says {err}");
    let line = |line: &str| line.strip_prefix("sessiond: ").map(str::to_owned);
    err.lines().map(|it| line(it).unwrap_or_else(|| panic!("{command:?} says {it:?}"))).collect()
}

/// The settings that a command prints, by name.
fn printed(command: &mut Command) -> BTreeMap<String, String> {
    values_in(&success(command))
}

fn values_in(text: &str) -> BTreeMap<String, String> {
    let table: toml::Table = text.parse().unwrap();
    let text_of = |value| match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    table.into_iter().map(|(name, value)| (name, text_of(value))).collect()
}

fn each<T>(of: impl Fn(&'static Setting) -> T) -> Vec<T> {
    settings().iter().map(of).collect()
}

fn by_name(value: impl Fn(&Setting) -> String) -> BTreeMap<String, String> {
    each(|setting| (setting.name.clone(), value(setting))).into_iter().collect()
}

/// Two values a setting may have: the ends of its range if it has one.
fn two_values(setting: &Setting) -> (String, String) {
    let values = match (setting.range, setting.name.as_str()) {
        (Some(range), _) => ends(range),
        (None, "listen") => ["0.0.0.0:0", "[::1]:7001"],
        (None, "node") => ["one", "another"],
        (None, "identity") => ["identity.toml", "/etc/sessiond/identity.toml"],
        (None, "webhooks") => ["webhooks.toml", "/etc/sessiond/webhooks.toml"],
        (None, "trusted-proxies" | "forwarding-proxies") => {
            ["10.0.0.0/8", "192.0.2.7,2001:db8::/32"]
        }
        (None, "tls-certificate" | "tls-key" | "tls-client-ca") => ["a.pem", "/etc/tls/b.pem"],
        (None, "node-listen") => ["127.0.0.1:7001", ":7001"],
        (None, "node-certificate" | "node-key" | "node-ca") => ["a.pem", "/etc/node/b.pem"],
        (None, "node-secret") => ["node.secret", "/run/secrets/node"],
        (None, "cluster") => ["nats://one", "nats://one:4222,tls://two:4222"],
        (None, "cluster-name") => ["blue", "green_2"],
        (None, "cluster-credentials" | "cluster-ca") => ["nats.creds", "/etc/nats/nats.creds"],
        (None, "node-address") => ["node-1:7100", "10.0.0.1:7100"],
        (None, "policy") => ["policy.toml", "/etc/sessiond/policy.toml"],
        (None, "apps") => ["apps.toml", "/etc/sessiond/apps.toml"],
        (None, "store") => ["data", "/var/lib/sessiond"],
        (None, "durability") => ["none", "sync"],
        (None, "log-format") => ["json", "text"],
        (None, "insecure" | "reflection" | "tls-require-client") => ["false", "true"],
        (None, "open-subscriptions") => ["false", "true"],
        (None, "log-filter") => ["debug", "warn,sessiond=trace"],
        (None, name) => panic!("{name} needs two values here"),
    };
    values.map(str::to_owned).into()
}

fn ends(range: &str) -> [&str; 2] {
    range.split_once("..").unwrap().into()
}

/// The nearest values below and above a range.
fn outside(range: &str) -> [String; 2] {
    let [(least, unit), (most, _)] = ends(range).map(in_smallest_unit);
    [format!("{}{unit}", least - 1), format!("{}{unit}", most + 1)]
}

fn in_smallest_unit(text: &str) -> (i64, &'static str) {
    const SECOND: i64 = 1_000_000_000;
    let (number, unit) = text.split_at(text.find(char::is_alphabetic).unwrap_or(text.len()));
    let (size, smallest) = match unit {
        "" => (1, ""),
        "KiB" => (1 << 10, ""),
        "MiB" => (1 << 20, ""),
        "ms" => (1_000_000, "ns"),
        "s" => (SECOND, "ns"),
        "m" => (60 * SECOND, "ns"),
        "h" => (3_600 * SECOND, "ns"),
        "d" => (86_400 * SECOND, "ns"),
        unit => panic!("{unit} is unknown here"),
    };
    (number.parse::<i64>().unwrap() * size, smallest)
}

/// The name of the setting that a paragraph of the sample file is about, and what it says.
fn description(paragraph: &str) -> Option<(String, String)> {
    let (comment, setting) = paragraph.trim_end().rsplit_once('\n')?;
    let (name, _) = setting.strip_prefix('#')?.split_once(" = ")?;
    let lines = comment.lines().map(|line| line.strip_prefix("# ").expect("a comment"));
    Some((name.to_owned(), lines.collect::<Vec<_>>().join(" ")))
}

/// The sample has a blank after the # of a comment, none before a setting.
fn uncomment(line: &str) -> &str {
    line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)
}

/// Where the terminal breaks a line is of no interest.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A file of this test run with `text` in it; `name` tells the tests apart.
fn file_with(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path.into_os_string().into_string().unwrap()
}
