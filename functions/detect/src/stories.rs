//! The tests of correlations: stories of several events that must or must not complete one.
//!
//! In: the entries of a case in a tests file. An entry is a record, or `{"repeat": N, "seconds": S, "event": record}`,
//! which stands for N records, each S seconds after the one before; `{n}` in any text is the number of the
//! repetition from 1, and `eventID` gets it behind a hyphen. Out: whether a correlation of one file completes.

use std::sync::Arc;

use sentinel_json::Document;
use sentinel_model::{
    Action, Event, EventRef, Network, Outcome, Principal, RawRecord, SourceKind, Timestamp, hash,
    time::{parse_event_time, plus_seconds},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    correlations::{Completed, Correlator, Noted},
    rules::RuleSet,
};

/// Events that one case may stand for.
const MAX_EVENTS: u32 = 20_000;

/// An entry that stands for many events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeated {
    repeat: u32,
    #[serde(default)]
    seconds: i64,
    event: Value,
}

/// The records that an entry of a case stands for.
pub(crate) fn expand(entry: &RawValue) -> Result<Vec<String>, String> {
    let value: Value = serde_json::from_str(entry.get()).map_err(|e| e.to_string())?;
    if value.get("repeat").is_none() || value.get("event").is_none() {
        return Ok(vec![entry.get().to_owned()]);
    }
    let repeated: Repeated = serde_json::from_value(value).map_err(|e| e.to_string())?;
    if repeated.repeat > MAX_EVENTS {
        return Err(format!("repeats more than {MAX_EVENTS} times"));
    }
    let time = time_of(&repeated.event)?;
    let records = (0..repeated.repeat).map(|n| {
        let mut record = repeated.event.clone();
        number(&mut record, &(n + 1).to_string());
        if let Some(fields) = record.as_object_mut() {
            if let Some(Value::String(id)) = fields.get_mut("eventID") {
                *id = format!("{id}-{}", n + 1);
            }
            let at = plus_seconds(time, repeated.seconds.saturating_mul(i64::from(n)));
            fields.insert("eventTime".into(), at.to_string().into());
        }
        record.to_string()
    });
    Ok(records.collect())
}

fn number(value: &mut Value, n: &str) {
    match value {
        Value::String(text) if text.contains("{n}") => *text = text.replace("{n}", n),
        Value::Array(items) => items.iter_mut().for_each(|item| number(item, n)),
        Value::Object(fields) => fields.values_mut().for_each(|field| number(field, n)),
        _ => {}
    }
}

fn time_of(record: &Value) -> Result<Timestamp, String> {
    let time = record.get("eventTime").and_then(Value::as_str).and_then(parse_event_time);
    time.ok_or_else(|| String::from("an event has no eventTime"))
}

/// Whether a story completes a correlation of a file.
pub(crate) fn completes(set: &RuleSet, file: &str, entries: &[Box<RawValue>]) -> Result<bool, String> {
    let mut correlator = Correlator::default();
    let (mut hits, mut events, mut memory) = (Vec::new(), Vec::new(), set.memory());
    for entry in entries {
        for text in expand(entry)? {
            let record = Document::parse(&text).map_err(|e| e.to_string())?;
            set.matches(record.root(), &mut hits);
            let looked = set.look(record.root(), &mut memory);
            let event = event(&text)?;
            let at = events.len() as u64;
            let noted = Noted { account: &event.account, time: event.time, at, event: Some(&event) };
            correlator.add(set, &noted, &looked, &hits).map_err(|e| e.to_string())?;
            events.push(EventRef { time: event.time, id: event.id, content: event.content });
        }
    }
    let correlations = set.correlations();
    let in_file = |plan: &usize| correlations.metas[*plan].file == file;
    let mut own: Vec<usize> = (0..correlations.metas.len()).filter(in_file).collect();
    // What only serves another correlation of the file is judged by that one.
    if own.iter().any(|plan| !correlations.quiet_plans.contains(plan)) {
        own.retain(|plan| !correlations.quiet_plans.contains(plan));
    }
    let mut complete = false;
    let mut each = |completed: Completed| {
        complete |= own.contains(&completed.plan);
        Ok(())
    };
    for part in correlator.into_parts() {
        part.finish_all(set, &mut events, &mut each).map_err(|e| e.to_string())?;
    }
    Ok(complete)
}

/// As much of a record as correlations look at.
fn event(text: &str) -> Result<Event, String> {
    let record: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let at = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let account = at("/recipientAccountId").or_else(|| at("/userIdentity/accountId"));
    let account = account.ok_or("an event has neither recipientAccountId nor userIdentity.accountId")?;
    Ok(Event {
        id: at("/eventID").map_or_else(|| hash::record_id(&record), str::to_owned),
        content: hash::content_hash(&record),
        time: time_of(&record)?,
        time_text: None,
        source: SourceKind::CloudTrail,
        account: account.to_owned(),
        region: None,
        action: Action { service: String::new(), name: String::new(), read_only: None },
        principal: Principal::unknown(),
        access_key_id: None,
        invoked_by: None,
        targets: Vec::new(),
        network: Network::default(),
        outcome: Outcome::Success,
        lineage: Vec::new(),
        provenance: Vec::new(),
        raw: RawRecord(Arc::from(RawValue::NULL.to_owned())),
    })
}
