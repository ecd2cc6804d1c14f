//! Hits and buckets as bytes: for files that a scan spills to, and for items of a store.
//!
//! Texts that come again and again (principals, agents, services) stand in a [`Table`] once and are numbers in the
//! rest. A text beyond the table's bounds stands where it is used. The form has a version; what was written by another
//! one is not read.

use std::{collections::HashMap, sync::Arc};

use sentinel_model::{EventRef, Member, Principal, PrincipalKind, Timestamp};

use crate::{Bucket, Evidence, Group, Hit, Onward, Source};

/// Version of the form.
const VERSION: u8 = 1;
/// Texts in a table, and their bytes together.
const MAX_TEXTS: usize = 16_384;
const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Nesting of correlations of correlations.
const MAX_DEPTH: usize = 16;

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
#[error("stored hits cannot be read: {0}")]
pub struct Malformed(&'static str);

/// Texts by number.
#[derive(Debug, Default)]
pub struct Table {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, usize>,
    bytes: usize,
}

impl Table {
    /// A table that takes no texts: all stand where they are used.
    pub fn closed() -> Self {
        Self { bytes: MAX_TEXT_BYTES + 1, ..Self::default() }
    }

    /// The number of a text; `None` when the table takes no more.
    fn number(&mut self, text: &str) -> Option<usize> {
        if let Some(known) = self.numbers.get(text) {
            return Some(*known);
        }
        if self.texts.len() >= MAX_TEXTS || self.bytes + text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let shared: Arc<str> = text.into();
        self.bytes += text.len();
        self.texts.push(Arc::clone(&shared));
        self.numbers.insert(shared, self.texts.len() - 1);
        Some(self.texts.len() - 1)
    }

    /// The table as bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_number(out, self.texts.len() as u64);
        for text in &self.texts {
            put_bytes(out, text.as_bytes());
        }
    }

    /// Reads a table, and takes its bytes off `from`.
    pub fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        let mut table = Self::default();
        for _ in 0..count(from)? {
            table.texts.push(Arc::from(text(from)?));
        }
        Ok(table)
    }
}

/// Writes a hit.
pub fn write_hit(hit: &Hit, table: &mut Table, out: &mut Vec<u8>) {
    put_number(out, u64::from(hit.base));
    let (member, who) = (&hit.evidence.member, &hit.evidence.principal);
    put_event(out, &member.event);
    for text in [&member.region, &member.source_ip, &member.user_agent, &member.access_key_id, &member.issuer] {
        put_optional(out, text.as_deref(), table);
    }
    put_text(out, &member.service, table);
    put_text(out, &member.action, table);
    let read_only = match member.read_only {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    };
    out.push(read_only | (u8::from(member.success) << 2) | (u8::from(who.inferred) << 3));
    // These are small and nearly always the same: their JSON is one text of the table.
    put_text(out, &serde_json::to_string(&member.provenance).unwrap_or_default(), table);
    put_text(out, &serde_json::to_string(&who.kind).unwrap_or_default(), table);
    put_text(out, &who.id, table);
    put_text(out, &who.actor, table);
    for text in [&who.account, &who.role, &who.name] {
        put_optional(out, text.as_deref(), table);
    }
    put_values(out, &hit.values, table);
    put_onward(out, &hit.onward, table);
    write_keys(&hit.elsewhere, out);
}

/// Reads a hit, and takes its bytes off `from`.
pub fn read_hit(from: &mut &[u8], table: &Table) -> Result<Hit, Malformed> {
    let base = u16::try_from(number(from)?).map_err(|_| Malformed("a position is too large"))?;
    let event = event(from)?;
    let mut optional = || take_optional(from, table);
    let [region, source_ip, user_agent, access_key_id, issuer] =
        [optional()?, optional()?, optional()?, optional()?, optional()?];
    let (service, action) = (take_text(from, table)?, take_text(from, table)?);
    let flags = byte(from)?;
    let json = |e: serde_json::Error| {
        let _ = e;
        Malformed("an embedded value is not of its form")
    };
    let provenance = serde_json::from_str(&take_text(from, table)?).map_err(json)?;
    let kind: PrincipalKind = serde_json::from_str(&take_text(from, table)?).map_err(json)?;
    let (id, actor) = (take_text(from, table)?, take_text(from, table)?);
    let mut optional = || take_optional(from, table);
    let [account, role, name] = [optional()?, optional()?, optional()?];
    let member = Member {
        event,
        region,
        source_ip,
        user_agent,
        access_key_id,
        service,
        action,
        read_only: [None, Some(false), Some(true), None][usize::from(flags & 3)],
        success: flags & 4 != 0,
        issuer,
        model_score: None,
        provenance,
    };
    let principal = Principal { id, kind, account, role, name, actor, inferred: flags & 8 != 0 };
    let values = take_values(from, table)?;
    let onward = take_onward(from, table, MAX_DEPTH)?;
    let elsewhere = read_keys(from)?;
    Ok(Hit { base, evidence: Arc::new(Evidence { member, principal }), values, onward, elsewhere })
}

/// Writes a group's values.
pub fn write_group(group: &Group, table: &mut Table, out: &mut Vec<u8>) {
    put_number(out, group.0.len() as u64);
    for value in &group.0 {
        put_optional(out, value.as_deref(), table);
    }
}

/// Reads a group's values, and takes their bytes off `from`.
pub fn read_group(from: &mut &[u8], table: &Table) -> Result<Group, Malformed> {
    Ok(Group((0..count(from)?).map(|_| take_optional(from, table)).collect::<Result<_, _>>()?))
}

/// A group and one of its buckets as bytes.
pub fn write_bucket(group: &Group, bucket: &Bucket) -> Vec<u8> {
    let (mut table, mut body) = (Table::default(), Vec::new());
    write_group(group, &mut table, &mut body);
    let flags = [bucket.is_thinned(), bucket.is_raised(), bucket.is_full()];
    body.push(flags.iter().rev().fold(0, |all, flag| (all << 1) | u8::from(*flag)));
    let own: Vec<&Hit> = bucket.own_hits().collect();
    put_number(&mut body, own.len() as u64);
    for hit in own {
        write_hit(hit, &mut table, &mut body);
    }
    put_number(&mut body, bucket.sources().count() as u64);
    for ((base, other, start), source) in bucket.sources() {
        put_number(&mut body, u64::from(*base));
        body.extend(other.to_le_bytes());
        body.extend(start.to_le_bytes());
        put_number(&mut body, source.revision);
        put_number(&mut body, source.hits.len() as u64);
        for hit in &source.hits {
            write_hit(hit, &mut table, &mut body);
        }
    }
    let mut out = vec![VERSION];
    table.write(&mut out);
    out.extend(body);
    out
}

/// Reads what [`write_bucket`] wrote.
pub fn read_bucket(mut from: &[u8]) -> Result<(Group, Bucket), Malformed> {
    let from = &mut from;
    if byte(from)? != VERSION {
        return Err(Malformed("another version wrote them"));
    }
    let table = Table::read(from)?;
    let group = read_group(from, &table)?;
    let flags = byte(from)?;
    let hits = (0..count(from)?).map(|_| read_hit(from, &table)).collect::<Result<Vec<_>, _>>()?;
    let mut sources = Vec::new();
    for _ in 0..count(from)? {
        let base = u16::try_from(number(from)?).map_err(|_| Malformed("a position is too large"))?;
        let (other, start) = (sixteen(from)?, i64::from_le_bytes(array(from)?));
        let revision = number(from)?;
        let hits = (0..count(from)?).map(|_| read_hit(from, &table)).collect::<Result<Vec<_>, _>>()?;
        sources.push(((base, other, start), Source { revision, hits }));
    }
    Ok((group, Bucket::restore(hits, sources, [1, 2, 4].map(|flag| flags & flag != 0))))
}

/// One of several things that lie in one item: what it is called, how often it was written, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: u128,
    /// Counts its writes.
    pub version: u64,
    /// What [`write_bucket`] gave.
    pub bytes: Vec<u8>,
}

/// Entries as bytes, in their order.
pub fn write_entries<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u8> {
    let mut out = vec![VERSION];
    for entry in entries {
        out.extend(entry.name.to_le_bytes());
        put_number(&mut out, entry.version);
        put_bytes(&mut out, &entry.bytes);
    }
    out
}

/// Reads what [`write_entries`] wrote.
pub fn read_entries(mut from: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let from = &mut from;
    if byte(from)? != VERSION {
        return Err(Malformed("another version wrote them"));
    }
    let mut entries = Vec::new();
    while !from.is_empty() {
        let (name, version) = (sixteen(from)?, number(from)?);
        let length = count(from)?;
        let (bytes, rest) = from.split_at(length);
        *from = rest;
        entries.push(Entry { name, version, bytes: bytes.to_vec() });
    }
    Ok(entries)
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(0x80 | u8::try_from(number & 0x7f).unwrap_or(0));
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend(bytes);
}

/// A text of the table is its number and one; else nought and the text itself.
fn put_text(out: &mut Vec<u8>, text: &str, table: &mut Table) {
    if let Some(number) = table.number(text) {
        put_number(out, number as u64 + 1);
    } else {
        put_number(out, 0);
        put_bytes(out, text.as_bytes());
    }
}

fn put_optional(out: &mut Vec<u8>, text: Option<&str>, table: &mut Table) {
    match text {
        Some(text) => {
            out.push(1);
            put_text(out, text, table);
        }
        None => out.push(0),
    }
}

fn put_event(out: &mut Vec<u8>, event: &EventRef) {
    out.extend(event.time.as_second().to_le_bytes());
    out.extend(event.time.subsec_nanosecond().to_le_bytes());
    out.extend(event.content.to_le_bytes());
    put_bytes(out, event.id.as_bytes());
}

fn put_values(out: &mut Vec<u8>, values: &[String], table: &mut Table) {
    put_number(out, values.len() as u64);
    for value in values {
        put_text(out, value, table);
    }
}

/// Writes what a hit would be to those that refer to its correlation.
pub fn write_onward(onward: &[Option<Onward>], out: &mut Vec<u8>) {
    put_onward(out, onward, &mut Table::closed());
}

/// Reads what [`write_onward`] wrote, and takes its bytes off `from`.
pub fn read_onward(from: &mut &[u8]) -> Result<Vec<Option<Onward>>, Malformed> {
    take_onward(from, &Table::default(), MAX_DEPTH)
}

/// Writes keys of groups.
pub fn write_keys(keys: &[u128], out: &mut Vec<u8>) {
    put_number(out, keys.len() as u64);
    for key in keys {
        out.extend(key.to_le_bytes());
    }
}

/// Reads what [`write_keys`] wrote, and takes its bytes off `from`.
pub fn read_keys(from: &mut &[u8]) -> Result<Vec<u128>, Malformed> {
    (0..count(from)?).map(|_| sixteen(from)).collect()
}

fn put_onward(out: &mut Vec<u8>, onward: &[Option<Onward>], table: &mut Table) {
    put_number(out, onward.len() as u64);
    for next in onward {
        out.push(u8::from(next.is_some()));
        if let Some(next) = next {
            write_group(&next.group, table, out);
            put_values(out, &next.values, table);
            put_onward(out, &next.onward, table);
        }
    }
}

fn byte(from: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, rest) = from.split_first().ok_or(Malformed("they end too early"))?;
    *from = rest;
    Ok(*first)
}

fn array<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, rest) = from.split_first_chunk::<N>().ok_or(Malformed("they end too early"))?;
    *from = rest;
    Ok(*head)
}

fn sixteen(from: &mut &[u8]) -> Result<u128, Malformed> {
    Ok(u128::from_le_bytes(array(from)?))
}

fn number(from: &mut &[u8]) -> Result<u64, Malformed> {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let next = byte(from)?;
        if shift >= 64 {
            return Err(Malformed("a number is too long"));
        }
        value |= u64::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
        shift += 7;
    }
}

/// A number of things that follow; each takes at least a byte.
fn count(from: &mut &[u8]) -> Result<usize, Malformed> {
    let count = usize::try_from(number(from)?).map_err(|_| Malformed("a count is too large"))?;
    if count > from.len() { Err(Malformed("a count is too large")) } else { Ok(count) }
}

fn text<'a>(from: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    let length = count(from)?;
    let (head, rest) = from.split_at(length);
    *from = rest;
    std::str::from_utf8(head).map_err(|_| Malformed("a text is not UTF-8"))
}

fn take_text(from: &mut &[u8], table: &Table) -> Result<String, Malformed> {
    match number(from)? {
        0 => Ok(text(from)?.to_owned()),
        place => {
            let place = usize::try_from(place - 1).map_err(|_| Malformed("a text is not in the table"))?;
            Ok(table.texts.get(place).ok_or(Malformed("a text is not in the table"))?.to_string())
        }
    }
}

fn take_optional(from: &mut &[u8], table: &Table) -> Result<Option<String>, Malformed> {
    if byte(from)? == 0 { Ok(None) } else { take_text(from, table).map(Some) }
}

fn event(from: &mut &[u8]) -> Result<EventRef, Malformed> {
    let (seconds, nanos) = (i64::from_le_bytes(array(from)?), i32::from_le_bytes(array(from)?));
    let time = Timestamp::new(seconds, nanos).map_err(|_| Malformed("a time is out of range"))?;
    let content = u64::from_le_bytes(array(from)?);
    Ok(EventRef { time, id: text(from)?.to_owned(), content })
}

fn take_values(from: &mut &[u8], table: &Table) -> Result<Vec<String>, Malformed> {
    (0..count(from)?).map(|_| take_text(from, table)).collect()
}

fn take_onward(from: &mut &[u8], table: &Table, depth: usize) -> Result<Vec<Option<Onward>>, Malformed> {
    if depth == 0 {
        return Err(Malformed("they nest too deep"));
    }
    let mut all = Vec::new();
    for _ in 0..count(from)? {
        all.push(match byte(from)? {
            0 => None,
            _ => Some(Onward {
                group: read_group(from, table)?,
                values: take_values(from, table)?,
                onward: take_onward(from, table, depth - 1)?,
            }),
        });
    }
    Ok(all)
}
