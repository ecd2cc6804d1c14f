//! Reading members of records that may be absent, null, empty or of another type than usual.

use sentinel_json::Value;

/// The member at a path of keys.
pub(crate) fn path<'a>(value: Value<'a>, keys: &[&str]) -> Option<Value<'a>> {
    keys.iter().try_fold(value, |v, key| v.get(key))
}

/// A text that is there and not empty.
pub(crate) fn text<'a>(value: Value<'a>, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|s| !s.is_empty())
}

/// The same at a path of keys.
pub(crate) fn text_at<'a>(value: Value<'a>, keys: &[&str]) -> Option<&'a str> {
    path(value, keys)?.as_str().filter(|s| !s.is_empty())
}

/// A boolean, also written as text.
pub(super) fn boolean(member: Option<Value<'_>>) -> Option<bool> {
    let member = member?;
    member.as_bool().or_else(|| match member.as_str()? {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    })
}

/// A value as text: a string's content, else its JSON.
pub(super) fn as_text(value: Value<'_>) -> String {
    value.as_str().map_or_else(|| value.compact(), str::to_owned)
}

/// Whether a text can be an account id: digits only (12 in AWS; replays shorten them). Anything else must not
/// reach the keys of stores.
pub fn is_account(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// The partition of a Region (AWS General Reference, "Amazon Resource Names").
pub(crate) fn partition(region: Option<&str>) -> &'static str {
    const BY_PREFIX: [(&str, &str); 6] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-isob-", "aws-iso-b"),
        ("us-isof-", "aws-iso-f"),
        ("us-iso-", "aws-iso"),
        ("eu-isoe-", "aws-iso-e"),
    ];
    let region = region.unwrap_or_default();
    BY_PREFIX.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, partition)| partition)
}
