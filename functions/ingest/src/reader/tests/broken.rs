//! Broken, cut, too large, too deep: what it costs, and where it is told.

use super::*;

#[test]
fn a_broken_line_and_an_array_without_objects_cost_one_entry_each() {
    let found = seen(format!("{}\n{{broken\n[1, 2]\n{}\n", record("1"), record("2")));
    assert_eq!(ids(&found), ["1", "2"]);
    let at = record("1").len() + 1;
    assert_eq!(
        found.malformed,
        [
            format!("line 2, byte {at}: a key is missing (at line 2, byte {})", at + 1),
            format!("line 3, byte {}: an array without any object", at + 8)
        ]
    );
}

#[test]
fn text_that_is_no_json_is_one_entry() {
    for text in [
        "hello",
        "hello\nworld\n\nagain",
        "[2024-01-01 10:00] INFO start\n[2024-01-01 10:01] INFO end\n",
        "\0\u{1}\u{2}",
        "a,b\n1,2\n",
    ] {
        let found = seen(text);
        assert_eq!(found.malformed.len(), 1, "{text}: {:?}", found.malformed);
        assert!(found.malformed[0].starts_with("line 1, byte "), "{:?}", found.malformed);
    }
    assert_eq!(seen(""), Seen::default());
    assert_eq!(seen(" \n\t\r\n"), Seen::default());
}

#[test]
fn broken_lines_before_the_first_json_are_told_one_by_one() {
    let found = seen(format!("one\ntwo\n{}\nthree\n", record("1")));
    assert_eq!(ids(&found), ["1"]);
    let lines: Vec<_> = found.malformed.iter().map(|m| m.split(',').next().unwrap()).collect();
    assert_eq!(lines, ["line 1", "line 2", "line 4"]);
}

#[test]
fn many_broken_lines_are_remembered_within_bounds() {
    let found = seen(format!("{}{}", "x\n".repeat(5_000), record("1")));
    assert_eq!(ids(&found), ["1"]);
    assert_eq!(found.malformed.len(), 1_001);
    assert_eq!(found.malformed[1_000], "line 1000, byte 1998: 4000 more broken lines follow");
}

#[test]
fn members_of_an_array_that_are_no_objects_are_told_once() {
    let found = seen(format!(r#"{{"Records":[1,"x",{},null,true]}}"#, record("1")));
    assert_eq!(ids(&found), ["1"]);
    assert_eq!(found.malformed, ["line 1, byte 12: 4 members of an array are no objects, this is the first"]);
    assert_eq!(seen("[]").malformed, ["line 1, byte 0: an array without any object"]);
    assert_eq!(seen("[[1],[2]]").malformed.len(), 2);
}

#[test]
fn a_broken_record_costs_itself_alone() {
    for broken in [
        r#"{"eventName":"X",,"eventID":"b"}"#,
        r#"{"eventName":"X" "eventID":"b"}"#,
        r#"{"eventName":"X","eventID":tru}"#,
        r#"{"eventName":"X","eventID":"\ud800"}"#,
        r#"{"eventName":"X","eventID":"\q"}"#,
        r#"{"eventName":"X","a":[1,2}"#,
        r#"{"eventName":"X","n":01}"#,
        r#"{"eventName":"X","n":1e999}"#,
    ] {
        let found = seen(format!(r#"{{"Records":[{},{broken},{}]}}"#, record("1"), record("2")));
        assert_eq!(ids(&found), ["1", "2"], "{broken}");
        assert_eq!(found.malformed.len(), 1, "{broken}: {:?}", found.malformed);
        let at = 12 + record("1").len() + 1;
        assert!(found.malformed[0].starts_with(&format!("line 1, byte {at}: ")), "{:?}", found.malformed);
    }
}

#[test]
fn text_that_is_not_utf_8_costs_its_record() {
    let mut text = format!("{}\n", record("1")).into_bytes();
    text.extend_from_slice(b"{\"eventName\":\"\xff\xfe\",\"eventID\":\"b\"}\n");
    text.extend_from_slice(record("2").as_bytes());
    let found = seen(&text);
    assert_eq!(ids(&found), ["1", "2"]);
    assert_eq!(found.malformed.len(), 1);
    assert!(found.malformed[0].ends_with("not UTF-8 from its byte 14 on"), "{:?}", found.malformed);
}

#[test]
fn a_broken_record_of_a_pretty_printed_file_costs_itself_alone() {
    let pretty =
        |id| serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&record(id)).unwrap()).unwrap();
    let broken = pretty("b").replace("\"GetUser\",", "\"GetUser\n");
    let found = seen(format!("{{\n  \"Records\": [\n{},\n{broken},\n{}\n]}}", pretty("1"), pretty("2")));
    assert_eq!(ids(&found), ["1", "2"]);
    assert_eq!(found.malformed.len(), 1, "{:?}", found.malformed);
    let alone = seen(format!("{broken}\n{}", pretty("2")));
    assert_eq!(ids(&alone), ["2"]);
    assert_eq!(alone.malformed.len(), 1, "{:?}", alone.malformed);
}

#[test]
fn a_line_cut_inside_an_array_does_not_swallow_the_next_ones() {
    let found = seen(format!("[{},{{\"eventName\":\"x\",\n{}\n{}\n", record("1"), record("2"), record("3")));
    assert_eq!(ids(&found), ["1", "2", "3"]);
    assert_eq!(found.malformed.len(), 1, "{:?}", found.malformed);
    let cut = format!("{{\"Records\":[{},{}", record("1"), record("2"));
    let found = seen(format!("{cut}\n{cut}]}}\n{}", record("3")));
    assert_eq!(ids(&found), ["1", "2", "1", "2", "3"]);
    assert_eq!(found.malformed.len(), 1, "{:?}", found.malformed);
}

#[test]
fn text_that_ends_early_is_told_with_what_it_cut() {
    let found = seen(format!(r#"{{"Records":[{},{{"eventName":"x""#, record("1")));
    assert_eq!(ids(&found), ["1"]);
    assert_eq!(found.malformed.len(), 1, "{:?}", found.malformed);
    assert!(found.malformed[0].contains("the text ends inside an object"), "{:?}", found.malformed);
    let found = seen(format!("[{}", record("1")));
    assert_eq!(ids(&found), ["1"]);
    assert_eq!(found.malformed, ["line 1, byte 0: the text ends inside an array"]);
    let found = seen(format!(r#"{{"Records":[{}]"#, record("1")));
    assert_eq!(found.malformed, ["line 1, byte 0: the text ends inside an object"]);
}

#[test]
fn cut_gzip_is_an_error_and_what_came_before_counts() {
    let mut text = String::new();
    for i in 0..2_000 {
        text += &record(&format!("{i}-{}", i * 7_919 % 1_000));
        text.push('\n');
    }
    let zipped = gzip(&text);
    let found = seen(&zipped[..zipped.len() * 2 / 3]);
    assert!(found.records.len() > 100);
    assert!(found.error.unwrap().starts_with("could not be decompressed: "));
    assert!(found.malformed.is_empty(), "the cut record is the error's");
    let found = seen([&gzip(record("1"))[..], b"garbage"].concat());
    assert_eq!(ids(&found), ["1"]);
    assert!(found.error.is_some(), "what is behind the last member is damage");
}

#[test]
fn damaged_gzip_inside_a_message_costs_that_message() {
    let packed = gzip(format!(r#"{{"logEvents":[{{"message":{}}}]}}"#, string(&record("1"))));
    let cut = format!(r#"{{"awslogs":{{"data":"{}"}}}}"#, base64(&packed[..packed.len() - 20]));
    let found = seen(format!("{cut}\n{{\"awslogs\":{{\"data\":\"%\"}}}}\n{}", record("2")));
    assert_eq!(ids(&found).last(), Some(&"2"));
    assert_eq!(found.error, None);
    assert_eq!(found.malformed.len(), 2, "{:?}", found.malformed);
    assert!(found.malformed[0].starts_with("line 1, byte 0: could not be decompressed"));
    assert!(found.malformed[1].contains("awslogs.data is no base64"));
}

#[test]
fn an_input_that_fails_is_an_error_of_its_own() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("disk on fire"))
        }
    }
    let text = format!("{}\n", record("1"));
    let found = seen_with(text.as_bytes().chain(Fails), "x", &Limits::default());
    assert_eq!(ids(&found), ["1"]);
    assert_eq!(found.error.as_deref(), Some("could not be read: disk on fire"));
    let zipped = gzip(text);
    let found = seen_with((&zipped[..20]).chain(Fails), "x", &Limits::default());
    assert_eq!(found.error.as_deref(), Some("could not be read: disk on fire"), "not blamed on gzip");
}

#[test]
fn a_bomb_ends_its_input_with_a_clear_error() {
    let limits = Limits { input_bytes: 1 << 20, ..Limits::default() };
    let bomb = gzip(vec![b' '; 8 << 20]);
    let wanted = Some("is larger than 1048576 bytes when decompressed; the rest of it was not read".to_owned());
    assert_eq!(seen_with(&bomb[..], "x", &limits).error, wanted);
    assert_eq!(seen_with(&gzip(&bomb)[..], "x", &limits).error, wanted, "in two layers");
    let packed = format!("{}\n{{\"awslogs\":{{\"data\":\"{}\"}}}}", record("1"), base64(&bomb));
    let found = seen_with(packed.as_bytes(), "x", &limits);
    assert_eq!(ids(&found), ["1"]);
    assert_eq!(found.error, wanted, "in a message");
    let members: Vec<u8> = gzip(vec![b' '; 1 << 19]).repeat(16);
    assert_eq!(seen_with(&members[..], "x", &limits).error, wanted, "in members");
}

#[test]
fn a_record_too_large_costs_itself_and_is_not_held() {
    let limits = Limits { record_bytes: 10_000, ..Limits::default() };
    let large = format!(r#"{{"eventName":"X","eventID":"b","a":"{}"}}"#, "x\\\"{[".repeat(1 << 20));
    for text in [
        format!(r#"{{"Records":[{},{large},{}]}}"#, record("1"), record("2")),
        format!("{}\n{large}\n{}", record("1"), record("2")),
    ] {
        let mut reader = Reader::new(text.as_bytes(), "x", None, limits.clone());
        let (mut found, mut malformed) = (0, Vec::new());
        while reader
            .step(&mut |f| match f {
                Found::Record(_) => found += 1,
                Found::Malformed { position, reason } => malformed.push((position.line, reason)),
                Found::Unknown { kind } => panic!("{kind}"),
            })
            .unwrap()
        {}
        assert_eq!(found, 2);
        assert_eq!(malformed.len(), 1, "{malformed:?}");
        assert_eq!(malformed[0].1, "larger than 10000 bytes");
        assert!(reader.peak_bytes() < 1 << 20, "{}", reader.peak_bytes());
    }
}

#[test]
fn the_size_cap_is_the_record_alone() {
    let size = record("1").len();
    let limits = Limits { record_bytes: size, ..Limits::default() };
    let wrapped = format!(r#"{{"detail-type":"AWS API Call via CloudTrail","detail":{}}}"#, record("1"));
    assert_eq!(seen_with(wrapped.as_bytes(), "x", &limits).records, ["1"], "its envelope does not count");
    let limits = Limits { record_bytes: size - 1, ..Limits::default() };
    assert_eq!(seen_with(wrapped.as_bytes(), "x", &limits).malformed.len(), 1);
    assert_eq!(seen_with(record("1").as_bytes(), "x", &limits).malformed.len(), 1);
}

fn nested(id: &str, levels: usize) -> String {
    let inside = levels - 1;
    format!(r#"{{"eventName":"X","eventID":"{id}","a":{}{}}}"#, "[".repeat(inside), "]".repeat(inside))
}

#[test]
fn a_record_nested_too_deep_costs_itself() {
    let at_limit = seen(nested("ok", 64));
    assert_eq!(ids(&at_limit), ["ok"]);
    for levels in [65, 70, 100, 10_000] {
        let deep = nested("b", levels);
        for text in [
            format!(r#"{{"Records":[{},{deep},{}]}}"#, record("1"), record("2")),
            format!("{}\n{deep}\n{}", record("1"), record("2")),
        ] {
            let found = seen(text);
            assert_eq!(ids(&found), ["1", "2"], "{levels}");
            assert_eq!(found.malformed.len(), 1, "{levels}: {:?}", found.malformed);
            assert!(found.malformed[0].ends_with("nested deeper than 64 levels"), "{:?}", found.malformed);
        }
    }
}

#[test]
fn arrays_nested_without_end_are_told() {
    let found = seen(format!("{}\n{}", "[".repeat(100_000), record("1")));
    assert_eq!(ids(&found), ["1"]);
    assert!(!found.malformed.is_empty() && found.malformed.len() < 2_000);
}

/// Gives a log file of one line, some 50 MB, piece by piece.
struct OneLine {
    head: &'static [u8],
    record: Vec<u8>,
    left: usize,
    at: usize,
}

impl Read for OneLine {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let from: &[u8] = if self.left == 0 {
            return Ok(0);
        } else if self.head.is_empty() {
            &self.record
        } else {
            self.head
        };
        let n = buf.len().min(from.len() - self.at);
        buf[..n].copy_from_slice(&from[self.at..self.at + n]);
        self.at += n;
        if self.at == from.len() {
            self.at = 0;
            if self.head.is_empty() {
                self.left -= 1;
            }
            self.head = b"";
        }
        Ok(n)
    }
}

#[test]
fn one_line_of_any_length_is_streamed() {
    let record = format!("{},", record("1")).into_bytes();
    let wanted = 50_000_000 / record.len();
    let input = OneLine { head: b"{\"Records\":[", record, left: wanted, at: 0 };
    let mut reader = Reader::new(input, "x", None, Limits::default());
    let mut records = 0;
    while reader.step(&mut |f| records += usize::from(matches!(f, Found::Record(_)))).unwrap() {}
    assert_eq!(records, wanted);
    assert!(reader.peak_bytes() < 1 << 20, "held {} bytes", reader.peak_bytes());
}
