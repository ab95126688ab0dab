//! Functions of readers: expressions over `value` and `last`.

use crate::{
    expression::{Expression, VALUE_BYTES, Vocabulary},
    session::{size, value::Value},
};

/// Bytes of `value` and of `last`, each, and of what comes out.
pub const INPUT_BYTES: usize = VALUE_BYTES;

/// What all mentions of `value` and `last` in one run may weigh.
const BUDGET: usize = 24 * 1024;

/// What a function may speak of.
static VOCABULARY: Vocabulary =
    Vocabulary { names: &["value", "last"], maps: &[], timestamps: false };

/// A function, checked and ready to run.
#[derive(Debug)]
pub struct Function(Expression);

impl Function {
    /// Parses and checks an expression; says what is wrong with it.
    pub fn new(source: &str) -> Result<Self, String> {
        Expression::new(source, &VOCABULARY).map(Self)
    }

    /// The expression as it was added.
    pub fn source(&self) -> &str {
        self.0.source()
    }

    /// Runs it. Null comes out where it has nothing to say; an error is said in words.
    pub fn call(&self, value: &Value, last: &Value) -> Result<Value, String> {
        for (name, value) in [("value", value), ("last", last)] {
            let bytes = size::of(value);
            if bytes > INPUT_BYTES {
                return Err(format!("{name} has {bytes} bytes, more than {INPUT_BYTES}"));
            }
        }
        let look = |name: &str| if name == "value" { value } else { last }.clone();
        self.0.run(|mention| Some(look(mention.name)), BUDGET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{DEPTH, NODES, SOURCE_BYTES};
    use proptest::prelude::*;

    fn run(source: &str, value: Value, last: Value) -> Result<Value, String> {
        Function::new(source).expect("it is fine").call(&value, &last)
    }

    fn refused(source: &str) -> String {
        Function::new(source).expect_err("it is refused")
    }

    fn integers(items: impl IntoIterator<Item = i64>) -> Value {
        Value::Integers(items.into_iter().collect())
    }

    fn list(items: impl IntoIterator<Item = i64>) -> Value {
        Value::List(items.into_iter().map(Value::Integer).collect())
    }

    #[test]
    fn expressions_see_what_the_key_holds_and_held() {
        assert_eq!(
            run("value - last", Value::Integer(7), Value::Integer(5)),
            Ok(Value::Integer(2))
        );
        assert_eq!(
            run("last == null ? value : null", Value::Number(0.5), Value::Null),
            Ok(Value::Number(0.5))
        );
        assert_eq!(
            run("value.filter(x, x > last)", integers(1..5), Value::Integer(2)),
            Ok(list(3..5))
        );
        assert_eq!(run("value.map(x, x * 2)", integers(1..3), Value::Null), Ok(list([2, 4])));
        assert_eq!(run("size(value)", integers(1..3), Value::Null), Ok(Value::Integer(2)));
        assert_eq!(
            run("value.exists(x, x == 2) && !value.all(x, x == 2)", integers(1..3), Value::Null),
            Ok(Value::Flag(true))
        );
        let map = Value::Map([("hp".into(), Value::Integer(3))].into());
        assert_eq!(
            run("has(value.hp) ? value.hp : 0", map.clone(), Value::Null),
            Ok(Value::Integer(3))
        );
        assert_eq!(run("{'n': value.hp}.n", map, Value::Null), Ok(Value::Integer(3)));
        assert_eq!(
            run("value + '!'", Value::Text("go".into()), Value::Null),
            Ok(Value::Text("go!".into()))
        );
    }

    #[test]
    fn errors_are_told_and_never_crash() {
        for source in [
            "value + 'a'",
            "value / 0",
            "value % 0",
            "-(value - 1)",
            "value * 2",
            "value.a",
            "value[0]",
            "int('x')",
            "{1: 2}",
            "uint(18446744073709551615u)",
            "value < 'a'",
            "value()",
            "[1][9]",
            "int(1e300)",
        ] {
            if let Ok(function) = Function::new(source) {
                assert!(
                    function.call(&Value::Integer(i64::MIN), &Value::Null).is_err(),
                    "{source}"
                );
            }
        }
    }

    #[test]
    fn what_could_grow_is_refused() {
        assert!(refused("value.matches('a+')").contains("regular expressions"));
        assert!(refused("matches(value, 'a+')").contains("regular expressions"));
        assert!(refused("value.map(x, value.map(y, x + y))").contains("nest"));
        assert!(refused("[value].map(x, x + x).map(x, x + x)").contains("nest"));
        assert!(refused("value.filter(x, last.exists(y, x == y))").contains("nest"));
        assert!(refused("(value + value).map(x, x)").contains("sum"));
        assert!(refused("unknown + 1").contains("`unknown`"));
        assert!(refused("value.explode()").contains("`explode`"));
        assert!(refused("value.optMap(x, x)").contains("`optMap`"));
        assert!(refused("Thing{a: 1}").contains("struct"));
        assert!(refused("value +").contains("not CEL"));
        assert!(refused("").contains("not CEL"));
        assert!(refused("@result").contains("not CEL"));
    }

    #[test]
    fn length_nodes_and_depth_are_bounded() {
        let spaced = |bytes: usize| format!("value{}", " ".repeat(bytes - 5));
        assert!(Function::new(&spaced(SOURCE_BYTES)).is_ok());
        assert!(refused(&spaced(SOURCE_BYTES + 1)).contains("1025 bytes"));

        let listed = |nodes: usize| format!("[{}]", vec!["1"; nodes - 1].join(","));
        assert!(Function::new(&listed(NODES)).is_ok());
        assert!(refused(&listed(NODES + 1)).contains("nodes"));

        let selected = |depth: usize| format!("value{}", ".a".repeat(depth - 1));
        assert!(Function::new(&selected(DEPTH)).is_ok());
        assert!(refused(&selected(DEPTH + 1)).contains("deeper"));
        for nested in [
            format!("{}1{}", "[".repeat(400), "]".repeat(400)),
            format!("{}1{}", "(".repeat(400), ")".repeat(400)),
            "[".repeat(SOURCE_BYTES),
            "(".repeat(SOURCE_BYTES),
            "!-".repeat(SOURCE_BYTES / 2),
            "{1:".repeat(300),
            "value?".repeat(150),
            "true?1:".repeat(140) + "1",
            "value.a(".repeat(100),
            "value[".repeat(170),
            "1+".repeat(500) + "1",
            "has(".repeat(250),
            "value.map(x,".repeat(80),
        ] {
            let deep = Function::new(&nested);
            assert!(deep.is_err() || nested.starts_with("(((("), "{nested}");
        }
    }

    #[test]
    fn the_largest_inputs_take_little() {
        let most = integers(std::iter::repeat_n(1, 16_384));
        let text = Value::Text("a".repeat(INPUT_BYTES - 16).into());
        for source in [
            "value.map(x, [x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x])",
            "value.filter(x, x in value)",
            "value.map(x, value)",
            "value.filter(x, x in last)",
            "value.exists(x, value == last && x == 2)",
            "value.map(x, value + value)",
            "[value,value,value,value,value,value].map(x, x + x + x + x + x + x + x + x)",
            "value + value + value + value + value + value + value + value",
            "value.exists_one(x, value.contains(last))",
            "value.all(x, x == 1 || value == last)",
        ] {
            let function = Function::new(source).expect(source);
            for (value, last) in [(&most, &most), (&text, &text), (&most, &text)] {
                let _ = function.call(value, last);
            }
        }
        let quadratic = run("value.filter(x, x in value)", most, Value::Null);
        assert_eq!(quadratic, Err("the expression looks at too much".to_owned()));
        let small = run("value.filter(x, x in value)", integers(0..150), Value::Null);
        assert_eq!(small, Ok(list(0..150)));
    }

    #[test]
    fn inputs_and_results_are_bounded() {
        let text = |bytes: usize| Value::Text("a".repeat(bytes).into());
        let fits = INPUT_BYTES - size::of(&text(INPUT_BYTES - 100)) + INPUT_BYTES - 100;
        assert!(run("size(value)", text(fits), Value::Null).is_ok());
        assert!(run("size(value)", text(fits + 1), Value::Null).is_err());
        assert!(run("1", Value::Null, text(fits + 1)).is_err());
        assert!(run("value + value", text(fits / 2 + 8), Value::Null).is_err());
    }

    const WORDS: [&str; 48] = [
        "value",
        "last",
        "x",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        ":",
        "?",
        "+",
        "-",
        "*",
        "/",
        "%",
        "==",
        "<",
        "&&",
        "||",
        "!",
        "in",
        "value.map(x, ",
        "value.filter(x, ",
        "last.all(x, ",
        "has(value.a)",
        "size(",
        "int(",
        "string(",
        "bytes(",
        "'a'",
        "b'a'",
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "1u",
        "1.5",
        "1e308",
        "null",
        "true",
        "value[0]",
        ".a",
        ".?a",
        "value.a",
        "\u{0}",
    ];

    fn inputs() -> impl Strategy<Value = Value> {
        let map = Value::Map([("a".into(), Value::Integer(1)), ("b".into(), Value::Null)].into());
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            any::<f64>().prop_map(Value::Number),
            ".{0,8}".prop_map(|text| Value::Text(text.as_str().into())),
            prop::collection::vec(any::<i64>(), 0..40).prop_map(integers),
            Just(Value::List([map.clone(), Value::Flag(true), integers(0..3)].into())),
            Just(map),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_written_comes_to_a_bounded_end(
            words in prop::collection::vec(prop::sample::select(&WORDS), 1..14),
            value in inputs(),
            last in inputs(),
        ) {
            // Half of them with their brackets closed, so that more of them are expressions.
            let open = words.join(" ");
            let closed = |bracket: char| match bracket {
                '(' => Some(')'),
                '[' => Some(']'),
                '{' => Some('}'),
                _ => None,
            };
            let ends: String = open.chars().rev().filter_map(closed).collect();
            for source in [format!("{open}{ends}"), open] {
                if let Ok(function) = Function::new(&source)
                    && let Ok(result) = function.call(&value, &last)
                {
                    prop_assert!(size::of(&result) <= INPUT_BYTES);
                }
            }
        }
    }
}
