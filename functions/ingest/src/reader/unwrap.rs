//! Tells what a JSON object is: a record, one of the wrappings around records, or something else with a name.

use std::sync::Arc;

use base64::Engine as _;
use sentinel_json::{Document, Error, Value};
use sentinel_model::{Timestamp, time};

use super::{Envelope, Found, Limits, Position, Record};
use crate::Head;

/// What a step of reading gives out.
pub(super) struct Out<'o> {
    pub(super) sink: &'o mut dyn FnMut(Found<'_>),
    /// Texts found inside this one, to be read next.
    pub(super) wrapped: &'o mut Vec<Wrapped>,
    pub(super) limits: &'o Limits,
}

/// A text of its own that stood in a JSON string.
pub(super) struct Wrapped {
    pub(super) bytes: Vec<u8>,
    pub(super) envelope: Arc<Envelope>,
    pub(super) position: Position,
}

/// An object of a text.
pub(super) struct Object<'a> {
    pub(super) document: &'a Document<'a>,
    pub(super) envelope: &'a Arc<Envelope>,
    pub(super) position: Position,
    /// Whether it stands in a control message of CloudWatch Logs.
    pub(super) control: bool,
}

/// Longest name of a kind that is passed on.
const KIND_CHARS: usize = 120;
/// How base64 of gzip begins: its magic number and method.
pub(super) const GZIP_BASE64: &str = "H4sI";

/// Why an object cannot be read.
pub(super) fn reason(error: Error) -> String {
    match error {
        Error::NotUtf8 { at } => format!("not UTF-8 from its byte {at} on"),
        Error::Broken { what, .. } => format!("not JSON: {what}"),
        other => format!("not JSON: {other}"),
    }
}

fn measure(text: &str, deepest: usize, limits: &Limits) -> Result<(), String> {
    if text.len() > limits.record_bytes {
        return Err(format!("larger than {} bytes", limits.record_bytes));
    }
    if deepest > limits.nesting as usize {
        return Err(format!("nested deeper than {} levels", limits.nesting));
    }
    Ok(())
}

/// Looks at a parsed object and tells what is in it; an error says why it is malformed.
pub(super) fn examine(object: &Object<'_>, out: &mut Out<'_>) -> Result<(), String> {
    let (text, value) = (object.document.text(), object.document.root());
    let item = Item { text, value, head: Head::of(value), deepest: object.document.deepest(), object };
    item.look(object.envelope, 0, out)
}

struct Item<'a> {
    text: &'a str,
    value: Value<'a>,
    head: Head<'a>,
    deepest: usize,
    object: &'a Object<'a>,
}

impl Item<'_> {
    fn look(self, envelope: &Arc<Envelope>, depth: u32, out: &mut Out<'_>) -> Result<(), String> {
        if self.head.is_record() {
            return self.record(envelope, out);
        }
        if depth < 3 {
            if self.value.get("detail").is_some() && has_any(self.value, &["detail-type", "source", "account"]) {
                return self.event_bridge(envelope, depth, out);
            }
            if self.value.get("_source").is_some_and(Value::is_object) {
                return self.inner("_source", envelope, depth, out);
            }
            if self.value.get("Sns").is_some_and(Value::is_object) {
                return self.inner("Sns", envelope, depth, out);
            }
            // A line of our own archive: the normalised event, with the record it was made from.
            if self.value.get("raw").is_some_and(is_record) && self.value.get("provenance").is_some() {
                return self.inner("raw", envelope, depth, out);
            }
        }
        if let Some(data) = self.value.get("awslogs").and_then(|l| l.get("data")).and_then(Value::as_str) {
            return self.base64("awslogs.data", data, envelope, out);
        }
        if let Some(data) = self.packed_data() {
            return self.base64("data", data, envelope, out);
        }
        if let Some(text) = self.wrapped_text() {
            return self.text_of(text, envelope, out);
        }
        (out.sink)(Found::Unknown { kind: kind_of(self.value) });
        Ok(())
    }

    fn record(self, envelope: &Arc<Envelope>, out: &mut Out<'_>) -> Result<(), String> {
        measure(self.text, self.deepest, out.limits)?;
        if let Some(source) = self.head.event_source.and_then(Value::as_str)
            && source.starts_with("aws:")
        {
            if let Some(data) = self.packed_data() {
                return self.base64("kinesis.data", data, envelope, out);
            }
            // Bucket notifications and stream records have the same members, but are no CloudTrail.
            (out.sink)(Found::Unknown { kind: kind_name("notification", source) });
            return Ok(());
        }
        (out.sink)(Found::Record(Record {
            text: self.text,
            value: self.value,
            head: self.head,
            envelope,
            position: self.object.position,
        }));
        Ok(())
    }

    /// A subscription's payload in a record of a Kinesis stream, or of Firehose.
    fn packed_data(&self) -> Option<&str> {
        let inner = self.value.get("kinesis").unwrap_or(self.value);
        inner.get("data")?.as_str().filter(|data| data.starts_with(GZIP_BASE64))
    }

    fn base64(&self, member: &str, data: &str, envelope: &Arc<Envelope>, out: &mut Out<'_>) -> Result<(), String> {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(data.trim())
            .map_err(|e| format!("{member} is no base64: {e}"))?;
        out.wrapped.push(Wrapped { bytes, envelope: envelope.clone(), position: self.object.position });
        Ok(())
    }

    /// An EventBridge envelope (Amazon EventBridge User Guide, "AWS service event metadata").
    fn event_bridge(self, envelope: &Arc<Envelope>, depth: u32, out: &mut Out<'_>) -> Result<(), String> {
        let detail_type = self.value.get("detail-type").and_then(Value::as_str).unwrap_or_default();
        let record = self.value.get("detail").is_some_and(is_record);
        let by_trail = detail_type.ends_with(" via CloudTrail");
        if record && (by_trail || detail_type.is_empty()) {
            let of_envelope = Envelope {
                account: text_of(self.value, "account").or_else(|| envelope.account.clone()),
                region: text_of(self.value, "region").or_else(|| envelope.region.clone()),
                time: time_of(self.value.get("time")).or(envelope.time),
                ..Envelope::clone(envelope)
            };
            return self.inner("detail", &Arc::new(of_envelope), depth, out);
        }
        let kind = match self.value.get("detail") {
            Some(detail) if by_trail && is_insight(detail) => "cloudtrail-insight".to_owned(),
            _ if detail_type.is_empty() => kind_of(self.value),
            _ => kind_name("eventbridge", detail_type),
        };
        (out.sink)(Found::Unknown { kind });
        Ok(())
    }

    /// An object that stands as a member in this one.
    fn inner(&self, member: &str, envelope: &Arc<Envelope>, depth: u32, out: &mut Out<'_>) -> Result<(), String> {
        let Some((value, text)) = self.value.get(member).and_then(|value| Some((value, value.written()?))) else {
            return Err(format!("its {member} is no object"));
        };
        let head = Head::of(value);
        // What nests deepest may stand beside the member; then this is a level too strict for no real record.
        let item = Item { text, value, head, deepest: self.deepest.saturating_sub(1), object: self.object };
        item.look(envelope, depth + 1, out)
    }

    /// JSON in a string: SNS `Message`, SQS `body`, CloudWatch Logs `message`, `CloudTrailEvent` of `LookupEvents`,
    /// the original that log shippers keep.
    fn wrapped_text(&self) -> Option<&str> {
        ["CloudTrailEvent", "Message", "message", "body", "Body"]
            .iter()
            .find_map(|k| self.value.get(k).and_then(Value::as_str))
            .or_else(|| self.value.get("event")?.get("original")?.as_str())
    }

    fn text_of(&self, text: &str, envelope: &Arc<Envelope>, out: &mut Out<'_>) -> Result<(), String> {
        if self.object.control {
            (out.sink)(Found::Unknown { kind: "cloudwatch-logs:CONTROL_MESSAGE".to_owned() });
            return Ok(());
        }
        if let Some(kind) = self.value.get("Type").and_then(Value::as_str)
            && kind != "Notification"
            && self.value.get("Message").is_some()
        {
            (out.sink)(Found::Unknown { kind: kind_name("sns", kind) });
            return Ok(());
        }
        if !looks_like_json(text) {
            if self.value.get("CloudTrailEvent").is_some() {
                return Err("its CloudTrailEvent is not JSON".to_owned());
            }
            // Any program's log lines have a message.
            (out.sink)(Found::Unknown { kind: kind_of(self.value) });
            return Ok(());
        }
        let time = ["timestamp", "EventTime", "Timestamp"].iter().find_map(|k| time_of(self.value.get(k)));
        let mut envelope = envelope.clone();
        if time.is_some() && time != envelope.time {
            Arc::make_mut(&mut envelope).time = time;
        }
        out.wrapped.push(Wrapped { bytes: text.as_bytes().to_vec(), envelope, position: self.object.position });
        Ok(())
    }
}

/// Whether text may hold objects: one, or an array that begins with one, an array or a string (`[INFO]` does not).
pub(super) fn looks_like_json(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with('{') || text.strip_prefix('[').is_some_and(|t| t.trim_start().starts_with(['{', '[', '"']))
}

/// Reads the head of a wrapping, up to the member that holds the records: what it adds to the envelope, and
/// whether it is a control message of CloudWatch Logs.
pub(super) fn wrapping(head: &[u8], outer: &Arc<Envelope>) -> (Arc<Envelope>, bool) {
    let mut text = head.to_vec();
    text.extend_from_slice(b"0}");
    let parsed = std::str::from_utf8(&text).ok().and_then(|text| Document::parse(text).ok());
    let Some(document) = parsed else { return (outer.clone(), false) };
    let value = document.root();
    let control = value.get("messageType").and_then(Value::as_str) == Some("CONTROL_MESSAGE");
    let mut envelope = outer.clone();
    if let Some(owner) = text_of(value, "owner") {
        Arc::make_mut(&mut envelope).owner = Some(owner);
    }
    (envelope, control)
}

fn is_record(value: Value<'_>) -> bool {
    Head::of(value).is_record()
}

/// AWS CloudTrail User Guide, "CloudTrail record contents for Insights events".
fn is_insight(value: Value<'_>) -> bool {
    value.get("insightDetails").is_some()
        || value.get("eventType").and_then(Value::as_str) == Some("AwsCloudTrailInsight")
}

fn has_any(value: Value<'_>, keys: &[&str]) -> bool {
    keys.iter().any(|k| value.get(k).is_some())
}

fn kind_of(value: Value<'_>) -> String {
    if is_insight(value) {
        return "cloudtrail-insight".to_owned();
    }
    // AWS CloudTrail User Guide, "CloudTrail digest file structure".
    if value.get("awsAccountId").is_some() && has_any(value, &["digestStartTime", "digestS3Object"]) {
        return "cloudtrail-digest".to_owned();
    }
    if has_any(value, &["s3ObjectKey"]) && has_any(value, &["s3Bucket"]) {
        return "cloudtrail-delivery-notification".to_owned();
    }
    if has_any(value, &["configRuleName"]) && has_any(value, &["invokingEvent"]) {
        return "config-rule-invocation".to_owned();
    }
    "unrecognised".to_owned()
}

fn kind_name(family: &str, name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).take(KIND_CHARS).collect();
    format!("{family}:{name}")
}

fn text_of(value: Value<'_>, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned)
}

/// A time as text, epoch seconds or epoch milliseconds.
fn time_of(value: Option<Value<'_>>) -> Option<Timestamp> {
    let value = value?;
    if let Some(text) = value.as_str() {
        return time::parse_event_time(text);
    }
    #[allow(clippy::cast_possible_truncation, reason = "a float of epoch seconds; the fraction does not matter")]
    value.as_i64().or_else(|| value.as_f64().map(|f| f as i64)).and_then(time::epoch)
}
