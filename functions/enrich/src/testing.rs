//! Builders for tests, and a table that can be cut off.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use async_trait::async_trait;
use sentinel_model::{
    Attack, Channel, Detection, EventRef, Level, Member, Principal, PrincipalKind, Provenance, RuleRef, Timestamp,
    Window, alert,
};
use sentinel_state::{Item, Key, Page, Query, Table, TableError, Write};

/// A time.
pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A plain member: a successful read by no key.
pub(crate) fn member(id: &str, time: &str) -> Member {
    Member {
        event: EventRef { time: at(time), id: id.into(), content: 1 },
        region: Some("us-east-1".into()),
        source_ip: Some("198.51.100.1".into()),
        user_agent: Some("aws-cli/2".into()),
        access_key_id: None,
        service: "iam.amazonaws.com".into(),
        action: "ListUsers".into(),
        read_only: Some(true),
        success: true,
        issuer: None,
        model_score: None,
        provenance: vec![Provenance {
            channel: Channel::Bus { bus: "default".into(), account: "111122223333".into() },
            received_at: at(time),
        }],
    }
}

/// An IAM user of account 111122223333.
pub(crate) fn user(name: &str) -> Principal {
    let id = format!("arn:aws:iam::111122223333:user/{name}");
    Principal {
        id: id.clone(),
        kind: PrincipalKind::IamUser,
        account: Some("111122223333".into()),
        role: None,
        name: Some(name.into()),
        actor: id,
        inferred: false,
    }
}

/// A detection of rule `rule` by user `who`, with the window of its first member.
pub(crate) fn detection(rule: &str, level: Level, who: &str, members: Vec<Member>) -> Detection {
    let principal = user(who);
    let window = Window::around(members.first().map_or(Timestamp::UNIX_EPOCH, |m| m.event.time), 60);
    let account = "111122223333".to_owned();
    Detection {
        alert_id: alert::alert_id(rule, &principal.id, &account, window),
        rule: RuleRef { id: rule.into(), title: format!("Rule {rule}"), level, author: None },
        attack: Attack { tactics: vec!["persistence".into()], techniques: vec!["T1098.001".into()] },
        window,
        principal,
        account,
        members,
        reasons: vec![format!("Matched {rule}.")],
        correlated: None,
    }
}

/// A table that fails from its n-th write on, before or after carrying it out.
pub(crate) struct Failing {
    pub(crate) inner: Arc<dyn Table>,
    pub(crate) left: AtomicI64,
    pub(crate) after_write: AtomicBool,
}

impl Failing {
    fn broken() -> TableError {
        TableError::store(std::io::Error::other("cut"))
    }
}

#[async_trait]
impl Table for Failing {
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, TableError> {
        self.inner.get_many(keys).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left > 0 {
            return self.inner.write(writes).await;
        }
        if left == 0 && self.after_write.load(Ordering::SeqCst) {
            self.inner.write(writes).await?;
        }
        Err(Self::broken())
    }

    async fn query(&self, query: Query) -> Result<Page, TableError> {
        self.inner.query(query).await
    }
}
