//! Every wrapping, every cap, every way to break, and that chunk boundaries do not matter.

use std::io::Write as _;

use base64::Engine as _;
use proptest::prelude::*;

use super::*;

mod broken;
mod shared_corpus;
mod wrappings;

/// What was found, in order, as text.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Seen {
    records: Vec<String>,
    malformed: Vec<String>,
    unknown: Vec<String>,
    error: Option<String>,
}

fn seen_with(input: impl Read + Send, name: &str, limits: &Limits) -> Seen {
    let mut seen = Seen::default();
    let end = read(input, name, None, limits, &mut |found| match found {
        Found::Record(r) => {
            let parsed: serde_json::Value = serde_json::from_str(r.text).unwrap();
            assert_eq!(serde_json::from_str::<serde_json::Value>(&r.value.compact()).unwrap(), parsed);
            let id = r.value.get("eventID").and_then(sentinel_json::Value::as_str).unwrap_or("-").to_owned();
            let e = r.envelope;
            let more = [&e.account, &e.owner, &e.region, &e.time.map(|t| t.to_string())];
            let more: Vec<&str> = more.iter().filter_map(|m| m.as_deref()).collect();
            seen.records.push(std::iter::once(id.as_str()).chain(more).collect::<Vec<_>>().join(" "));
        }
        Found::Malformed { position, reason } => seen.malformed.push(format!("{position}: {reason}")),
        Found::Unknown { kind } => seen.unknown.push(kind),
    });
    seen.error = end.err().map(|e| e.to_string());
    seen
}

fn seen(text: impl AsRef<[u8]>) -> Seen {
    seen_with(text.as_ref(), "x.json", &Limits::default())
}

/// A record of CloudTrail's shape.
fn record(id: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.08","eventID":"{id}","eventName":"GetUser","eventSource":"iam.amazonaws.com","requestParameters":{{"userName":"a \"b\" [c] {{d}}, é"}},"resources":[{{"ARN":"x"}},[]],"n":-1.5e3,"ok":true,"responseElements":null}}"#
    )
}

fn string(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_ref()).unwrap();
    gz.finish().unwrap()
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Gives at most `n` bytes at a time.
struct Slowly<'a>(&'a [u8], usize);

impl Read for Slowly<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.min(buf.len()).min(self.0.len());
        buf[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

fn ids(seen: &Seen) -> Vec<&str> {
    seen.records.iter().map(String::as_str).collect()
}

/// Pieces that files are put together from, well formed and not.
fn piece() -> impl Strategy<Value = String> {
    let r = record("p");
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&r).unwrap()).unwrap();
    prop_oneof![
        Just(r.clone()),
        Just(pretty),
        Just(format!("{{\"Records\":[{r},{r}]}}")),
        Just(format!("[{r},\n{r}]")),
        Just(format!("{{\"detail-type\":\"AWS API Call via CloudTrail\",\"detail\":{r}}}")),
        Just(format!("{{\"Message\":{}}}", string(&r))),
        Just(r[..r.len() / 2].to_owned()),
        Just(format!("[{r},{{\"a\":")),
        Just("\n".to_owned()),
        Just("{broken".to_owned()),
        Just("[1, 2]".to_owned()),
        Just(",".to_owned()),
        Just("]".to_owned()),
        Just("\"".to_owned()),
        Just("é text\n".to_owned()),
        Just("{\"hits\":{\"hits\":[".to_owned()),
        "[\\[\\]{}\",: \\\\a1\n]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn chunk_boundaries_do_not_matter(pieces in prop::collection::vec(piece(), 0..8), chunk in 1..70_usize) {
        let text = pieces.concat();
        let whole = seen(&text);
        let slowly = seen_with(Slowly(text.as_bytes(), chunk), "x.json", &Limits::default());
        prop_assert_eq!(&whole, &slowly);
        let zipped = gzip(&text);
        prop_assert_eq!(&whole, &seen_with(Slowly(&zipped, chunk), "x.json", &Limits::default()));
    }

    #[test]
    fn good_lines_survive_broken_ones(bad in "[^\n\r{\\[\"]{1,20}", cut in 1..200_usize) {
        // A line cut short anywhere, and a line of anything that cannot start a value, between good lines.
        let r = record("cut");
        let cut = (1..=cut.min(r.len() - 1)).rev().find(|c| r.is_char_boundary(*c)).unwrap();
        let found = seen(format!("{}\n{}\n{}\nx{bad}\n{}\n", record("1"), &r[..cut], record("2"), record("3")));
        prop_assert_eq!(ids(&found), ["1", "2", "3"]);
        prop_assert_eq!(found.malformed.len(), 2, "{:?}", found.malformed);
        prop_assert!(found.malformed[0].starts_with("line 2,"), "{:?}", found.malformed);
        prop_assert!(found.malformed[1].starts_with("line 4,"), "{:?}", found.malformed);
    }

    #[test]
    fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let found = seen(&bytes);
        prop_assert!(found.records.is_empty());
    }
}
