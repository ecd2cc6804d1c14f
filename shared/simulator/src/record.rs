//! One `CloudTrail` record from its parts.
//!
//! Source: AWS `CloudTrail` User Guide, "`CloudTrail` record contents for management, data, and network
//! activity events", event version 1.10. Success leaves `errorCode` and `errorMessage` out, as the service does.

use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use sentinel_model::Timestamp;
use serde_json::{Value, json};

use crate::identity::Caller;

/// What a call was, apart from who signed it and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Service host name.
    pub source: &'static str,
    /// Operation.
    pub name: &'static str,
    /// Whether it only reads.
    pub read_only: bool,
    /// `requestParameters`; null when the API takes none.
    pub request: Value,
    /// `responseElements`; null for reads and failures.
    pub response: Value,
    /// Error code and message of a call that failed.
    pub error: Option<(String, String)>,
}

/// Where a call came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `awsRegion`.
    pub region: String,
    /// `sourceIPAddress`.
    pub address: String,
    /// `userAgent`.
    pub agent: String,
}

/// A time as `CloudTrail` writes it: whole seconds, UTC.
pub fn stamp(t: Timestamp) -> String {
    t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Operations whose records are data events.
fn is_data_event(call: &Call) -> bool {
    call.source == "s3.amazonaws.com" && matches!(call.name, "GetObject" | "PutObject" | "DeleteObject" | "HeadObject")
}

/// Writes the record of one call.
pub fn render(
    rng: &mut ChaCha8Rng,
    account: &str,
    time: Timestamp,
    caller: &Caller,
    place: &Place,
    call: &Call,
) -> Value {
    let data = is_data_event(call);
    let console_sign_in = call.name == "ConsoleLogin";
    let mut record = json!({
        "eventVersion": "1.10",
        "userIdentity": caller.user_identity(account),
        "eventTime": stamp(time),
        "eventSource": call.source,
        "eventName": call.name,
        "awsRegion": place.region,
        "sourceIPAddress": place.address,
        "userAgent": place.agent,
        "requestParameters": call.request,
        "responseElements": if call.error.is_some() { Value::Null } else { call.response.clone() },
        "requestID": uuid(rng),
        "eventID": uuid(rng),
        "readOnly": call.read_only,
        "eventType": if console_sign_in { "AwsConsoleSignIn" } else { "AwsApiCall" },
        "managementEvent": !data,
        "recipientAccountId": account,
        "eventCategory": if data { "Data" } else { "Management" },
    });
    let Some(fields) = record.as_object_mut() else { return record };
    if let Some((code, message)) = &call.error {
        fields.insert("errorCode".into(), json!(code));
        fields.insert("errorMessage".into(), json!(message));
    }
    if !matches!(caller, Caller::Service { .. }) {
        fields.insert(
            "tlsDetails".into(),
            json!({
                "tlsVersion": "TLSv1.3",
                "cipherSuite": "TLS_AES_128_GCM_SHA256",
                "clientProvidedHostHeader": host_header(call.source, &place.region),
            }),
        );
    }
    record
}

fn host_header(source: &str, region: &str) -> String {
    let service = source.trim_end_matches(".amazonaws.com");
    match service {
        "iam" => "iam.amazonaws.com".into(),
        _ => format!("{service}.{region}.amazonaws.com"),
    }
}

/// A version 4 UUID from the seeded generator.
pub fn uuid(rng: &mut ChaCha8Rng) -> String {
    let mut bytes = [0_u8; 16];
    rng.fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// An IAM unique id: a four-letter prefix and capitals and digits up to `EXAMPLE`, 20 or 21 characters.
pub fn unique_id(rng: &mut ChaCha8Rng, prefix: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let middle: String = (0..9).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect();
    format!("{prefix}{middle}EXAMPLE")
}

/// Lower-case hexadecimal digits.
pub fn hex_digits(rng: &mut ChaCha8Rng, count: usize) -> String {
    (0..count).map(|_| char::from(b"0123456789abcdef"[rng.random_range(0..16)])).collect()
}
