//! The walk against two other parsers: what it takes, and what it makes of it.

use proptest::prelude::*;
use serde_json::Value as Tree;

use crate::{Document, Error, Kind, Make, Memory, Value, likeness::key_hash};

fn tree(value: Value<'_>) -> Tree {
    match value.kind() {
        Kind::Null => Tree::Null,
        Kind::Boolean => value.as_bool().unwrap().into(),
        Kind::Number => match (value.as_i64(), value.as_u64()) {
            (Some(n), _) => n.into(),
            (_, Some(n)) => n.into(),
            _ => value.as_f64().unwrap().into(),
        },
        Kind::String => value.as_str().unwrap().into(),
        Kind::Array => value.items().map(tree).collect(),
        Kind::Object => Tree::Object(value.members().map(|(k, v)| (k.to_owned(), tree(v))).collect()),
    }
}

fn json() -> impl Strategy<Value = Tree> {
    let text = "[a\"\\\\{}\\[\\]é\u{1}\u{1f980}/ ]{0,40}";
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::from),
        any::<i64>().prop_map(Tree::from),
        any::<u64>().prop_map(Tree::from),
        any::<i32>().prop_map(|n| Tree::from(f64::from(n) / 8.0)),
        text.prop_map(Tree::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::from),
            prop::collection::btree_map(text, inner, 0..6).prop_map(|m| Tree::Object(m.into_iter().collect())),
        ]
    })
}

/// Pieces of which texts are made that are nearly JSON.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"",
        "\\",
        "\\u00e9",
        "\\ud83e\\udd80",
        "\\ud83e",
        "\\n",
        "true",
        "nul",
        "null",
        "0",
        "01",
        "-",
        "-0",
        "1.5",
        "1.",
        "1e5",
        "1e999",
        "E+2",
        " ",
        "\n",
        "\u{1}",
        "é",
        "12345678901234567890",
        "99999999999999999999999",
        "\"k\":",
        "x",
        "\\/",
        "{}",
        "[]",
        "\"a long text without anything in it\"",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_was_written_is_read(value in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let document = Document::parse(&text).unwrap();
        prop_assert_eq!(document.line_ends() as usize, text.matches('\n').count());
        prop_assert_eq!(tree(document.root()), value.clone());
        prop_assert_eq!(document.text(), &text);
        let sonic: sonic_rs::Value = sonic_rs::from_str(&text).unwrap();
        prop_assert_eq!(document.root().compact(), sonic_rs::to_string(&sonic).unwrap());
        let compact = document.root().compact();
        prop_assert_eq!(Document::parse(&compact).unwrap().root().likeness(), document.root().likeness());
        let hashed = Document::read(text.as_bytes(), 100, Memory::default(), Make::Likeness, |_, _| false).unwrap();
        prop_assert_eq!(hashed.root().likeness(), document.root().likeness());
        let inside = format!("[{compact}]");
        let inside = Document::parse(&inside).unwrap();
        prop_assert_eq!(inside.root().items().next().unwrap().likeness(), document.root().likeness());
    }

    /// What others take is taken, and what they refuse is refused.
    #[test]
    fn it_takes_what_is_json(text in pieces()) {
        let mine = Document::parse(&text);
        let others = serde_json::from_str::<Tree>(&text);
        prop_assert_eq!(mine.is_ok(), others.is_ok(), "{:?}: {:?}, {:?}", text, mine, others);
        let sonic = sonic_rs::from_str::<sonic_rs::Value>(&text);
        prop_assert_eq!(mine.is_ok(), sonic.is_ok(), "{:?}: {:?}", text, sonic);
        let Ok(document) = mine else { return Ok(()) };
        same(document.root(), sonic.unwrap().as_ref())?;
    }

    /// A value is read whole whatever follows it, and a piece of it says that it ends too early or is broken.
    #[test]
    fn values_end_where_they_end(members in prop::collection::btree_map("[a-z\"\\\\]{1,6}", json(), 0..6), behind in "[{}\"\\\\,a]{0,40}", cut in any::<prop::sample::Index>()) {
        let object = serde_json::to_string(&members).unwrap();
        let text = format!("{object}{behind}");
        let document = Document::read(text.as_bytes(), 100, Memory::default(), Make::Likeness, |_, _| false).unwrap();
        prop_assert_eq!(document.text(), &object);
        let cut = cut.index(object.len());
        let (error, _) = Document::read(&object.as_bytes()[..cut], 100, document.into_memory(), Make::Places, |_, _| false).unwrap_err();
        prop_assert_eq!(error, Error::Ends, "{}", &object[..]);
    }

    #[test]
    fn it_takes_any_bytes(bytes in prop::collection::vec(prop::sample::select(b"{}[]\"\\a:,0-.eE+tn\xc3\xa9\xff \n".to_vec()), 0..200)) {
        let mine = Document::read(&bytes, 100, Memory::default(), Make::Likeness, |_, _| false);
        if let Ok(document) = mine {
            prop_assert!(serde_json::from_str::<Tree>(document.text()).is_ok(), "{}", document.text());
        }
    }

    /// Values that differ in more than order and spelling are unlike.
    #[test]
    fn likenesses_tell_values_apart(one in json(), other in json(), keep in any::<bool>()) {
        let other = if keep { one.clone() } else { other };
        let (a, b) = (one.to_string(), other.to_string());
        let alike = Document::parse(&a).unwrap().root().likeness() == Document::parse(&b).unwrap().root().likeness();
        prop_assert_eq!(alike, one == other || equal(&one, &other), "{} {}", a, b);
    }
}

/// Equal but for how numbers are spelled.
fn equal(a: &Tree, b: &Tree) -> bool {
    match (a, b) {
        (Tree::Number(a), Tree::Number(b)) => {
            a == b || (a.as_f64() == b.as_f64() && a.as_f64().is_some_and(|f| f.abs() < 9e15))
        }
        (Tree::Array(a), Tree::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Tree::Object(a), Tree::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && equal(a, b))
        }
        _ => a == b,
    }
}

/// Whether both parsers saw the same, double members included.
fn same(mine: Value<'_>, theirs: sonic_rs::ValueRef<'_>) -> Result<(), TestCaseError> {
    use sonic_rs::{JsonNumberTrait as _, ValueRef};
    match theirs {
        ValueRef::Null => prop_assert!(mine.is_null()),
        ValueRef::Bool(flag) => prop_assert_eq!(mine.as_bool(), Some(flag)),
        ValueRef::Number(n) => {
            prop_assert_eq!((mine.as_i64(), mine.as_u64()), (n.as_i64(), n.as_u64()));
            prop_assert_eq!(mine.as_f64(), n.as_f64());
        }
        ValueRef::String(text) => prop_assert_eq!(mine.as_str(), Some(text)),
        ValueRef::Array(items) => {
            prop_assert_eq!(mine.items().count(), items.len());
            for (a, b) in mine.items().zip(items.iter()) {
                same(a, b.as_ref())?;
            }
        }
        ValueRef::Object(members) => {
            prop_assert_eq!(mine.members().count(), members.len());
            for ((k, a), (l, b)) in mine.members().zip(members.iter()) {
                prop_assert_eq!(k, l);
                same(a, b.as_ref())?;
            }
        }
    }
    Ok(())
}

#[test]
fn likenesses_ignore_order_and_spelling_and_nothing_else() {
    let of = |text: &str| Document::parse(text).unwrap().root().likeness();
    let same = [r#"{"a":{"x":1,"y":[1,2]},"b":"t"}"#, r#"{ "b":"\u0074", "a":{"y":[1.0,2],"x":1} }"#];
    assert_eq!(of(same[0]), of(same[1]));
    let others = [
        r#"{"a":{"x":1,"y":[2,1]},"b":"t"}"#,
        r#"{"a":{"x":"1","y":[1,2]},"b":"t"}"#,
        r#"{"b":{"x":1,"y":[1,2]},"a":"t"}"#,
        r#"{"a":{"x":1,"y":[1,2]},"b":"t","c":null}"#,
        r#"{"a":{"x":1},"y":[1,2],"b":"t"}"#,
        r#"{"a":{"x":true,"y":[1,2]},"b":"t"}"#,
        r#"{"a":[],"b":{}}"#,
        r#"{"a":{},"b":[]}"#,
        r#"{"a":null,"b":false}"#,
        r#"{"a":false,"b":null}"#,
    ];
    let all: std::collections::HashSet<u64> = others.iter().map(|text| of(text)).chain([of(same[0])]).collect();
    assert_eq!(all.len(), others.len() + 1);
}

#[test]
fn errors_say_what_and_where() {
    let of = |text: &str| Document::parse(text).unwrap_err().to_string();
    for (text, says) in [
        ("{\"a\" 1}", "a colon is missing at byte 5"),
        ("{a:1}", "a key is missing at byte 1"),
        ("  {a:1}", "a key is missing at byte 3"),
        ("[1 2]", "a comma or closing bracket is missing at byte 3"),
        ("[01]", "a number begins with 0 at byte 2"),
        ("[1e999]", "a number is too large at byte 1"),
        ("\"\\x\"", "no such escape at byte 2"),
        ("\"\\ud800x\"", "half a surrogate pair at byte 3"),
        ("\"\\u00g0\"", "no hexadecimal digit at byte 5"),
        ("\"a\nb\"", "a control character in a string at byte 2"),
        ("nil", "no such name at byte 0"),
        ("{} x", "something follows the value at byte 2"),
        ("[", "the text ends inside a value"),
        ("", "the text ends inside a value"),
    ] {
        assert_eq!(of(text), says, "{text}");
    }
    let deep = "[".repeat(200);
    assert_eq!(Document::parse(&deep).unwrap_err(), Error::TooDeep { limit: Document::DEEPEST });
    let (error, _) = Document::read(b"\"\xff\"", 9, Memory::default(), Make::Likeness, |_, _| false).unwrap_err();
    assert_eq!(error, Error::NotUtf8 { at: 1 });
}

#[test]
fn reading_stops_where_it_is_told_to() {
    let stops = |text: &str| {
        let stop = |key: &[u8], object: bool| key == b"Records" && !object;
        let read = Document::read(text.as_bytes(), 9, Memory::default(), Make::Places, stop);
        matches!(read, Err((Error::Stopped, _)))
    };
    assert!(stops(r#"{"a":[],"Records":["#) && stops(r#"{"\u0052ecords":[]}"#));
    assert!(
        !stops(r#"{"Records":{}}"#) && !stops(r#"{"a":{"Records":[]},"b":"Records"}"#) && !stops(r#"["Records",[]]"#)
    );
}

#[test]
fn members_are_found_and_counted_with_their_depth() {
    let document = Document::parse(r#" {"a":{"b":[1,{"c":"\"x\""}]},"a":2,"d":-0} "#).unwrap();
    let root = document.root();
    assert_eq!(document.deepest(), 4);
    assert_eq!(root.members().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "a", "d"]);
    let inner = root.get("a").and_then(|a| a.get("b")).unwrap();
    assert_eq!(inner.written(), Some(r#"[1,{"c":"\"x\""}]"#));
    assert_eq!(inner.items().nth(1).and_then(|i| i.get("c")).and_then(Value::as_str), Some("\"x\""));
    let keys: Vec<_> = root.keys().map(|key| (key.name(), root.at(key.place()))).collect();
    assert_eq!(keys, root.members().collect::<Vec<_>>());
    assert!(root.keys().all(|key| key.hash() == key_hash(key.name())));
    assert_eq!(root.at(inner.place()), inner);
    assert!(root.get("x").is_none() && inner.get("a").is_none() && root.items().next().is_none());
}
