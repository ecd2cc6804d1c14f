//! An alert as a document of the search index: its words, and its shown form.

use sentinel_model::Alert;
use sentinel_search::{Document, DocumentKind};

use crate::attack;

/// The document of an alert.
pub(crate) fn of(alert: &Alert) -> Result<Document, serde_json::Error> {
    let mut words: Vec<&str> = vec![
        &alert.alert_id,
        &alert.title,
        &alert.rule.id,
        &alert.category,
        alert.level.as_str(),
        &alert.principal.id,
        &alert.account,
    ];
    words.extend(alert.region.as_deref());
    let seen = &alert.indicators;
    words.extend(seen.addresses.iter().chain(&seen.keys).chain(&seen.agents).map(String::as_str));
    words.extend(alert.first_events.iter().map(|e| e.id.as_str()));
    for label in alert.attack.tactics.iter().chain(&alert.attack.techniques) {
        words.push(label);
        words.extend(attack::name_of(label));
    }
    words.extend(alert.reasons.iter().map(String::as_str));
    Ok(Document {
        kind: DocumentKind::Alert,
        id: alert.alert_id.clone(),
        time: alert.time,
        account: alert.account.clone(),
        principal: alert.principal.id.clone(),
        text: words.join(" "),
        body: serde_json::to_string(&alert.to_view())?,
    })
}
