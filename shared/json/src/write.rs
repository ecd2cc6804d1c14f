//! Values as compact JSON.

use crate::value::{Kind, Value};

pub(crate) fn compact(value: Value<'_>, out: &mut String) {
    match value.kind() {
        Kind::Null => out.push_str("null"),
        Kind::Boolean => out.push_str(if value.as_bool() == Some(true) { "true" } else { "false" }),
        Kind::Number => number(value, out),
        Kind::String => string(value.as_str().unwrap_or_default(), out),
        Kind::Array => {
            out.push('[');
            for (n, item) in value.items().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                compact(item, out);
            }
            out.push(']');
        }
        Kind::Object => {
            out.push('{');
            for (n, (key, member)) in value.members().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                string(key, out);
                out.push(':');
                compact(member, out);
            }
            out.push('}');
        }
    }
}

fn number(value: Value<'_>, out: &mut String) {
    let written = value.written().unwrap_or_default();
    // Digits that fit are written so already.
    if value.as_i64().is_some() || value.as_u64().is_some() {
        return out.push_str(written);
    }
    // Numbers that are not finite are refused.
    let float = value.as_f64().and_then(serde_json::Number::from_f64);
    out.push_str(&float.map_or_else(|| written.to_owned(), |float| float.to_string()));
}

fn string(text: &str, out: &mut String) {
    if text.bytes().all(|byte| byte >= 0x20 && !matches!(byte, b'"' | b'\\')) {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return;
    }
    // A text has no way to fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}
