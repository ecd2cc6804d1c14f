//! The rules in force of a deployment whose operators' rules are stored in versions.
//!
//! In: the record that detect keeps of what it took over, and the store of rule files. Out: exactly those versions. What an
//! operator has just put there is not in force until detect took it over; what detect refused to forget still is.

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_detect::{
    LoadOptions,
    keeper::{RuleSource, record::Records, texts},
};
use sentinel_replay::{InForce, InForceError, RulesInForce};
use sentinel_state::{Table, backtests::RuleText};

/// Knows the rules that detect has in force.
pub struct StoredRules {
    records: Records,
    source: Option<Arc<dyn RuleSource>>,
    default_rules: bool,
}

impl StoredRules {
    /// The shipped rules or not, and with a source those that operators have in it.
    pub fn new(table: Arc<dyn Table>, source: Option<Arc<dyn RuleSource>>, default_rules: bool) -> Self {
        Self { records: Records::new(table), source, default_rules }
    }
}

#[async_trait]
impl InForce for StoredRules {
    async fn rules(&self) -> Result<RulesInForce, InForceError> {
        let options = LoadOptions { default_rules: self.default_rules, ..LoadOptions::default() };
        let none = RulesInForce { options: options.clone(), texts: Vec::new() };
        let Some(source) = &self.source else { return Ok(none) };
        let Some(last) = self.records.last().await? else { return Ok(none) };
        let files = texts(source, last).await?;
        let text = |(name, text): (String, Arc<str>)| RuleText { name, text: text.as_ref().to_owned() };
        Ok(RulesInForce { options, texts: files.into_iter().map(text).collect() })
    }
}
