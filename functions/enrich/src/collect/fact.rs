//! What alerts need to know of one matching event, and how it is held: one piece of bytes.
//!
//! The bytes of earlier events sort first, then those of smaller ids.

use sentinel_model::{PrincipalKind, Timestamp, alert::ActionClass};

/// What alerts need to know of one matching event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact<'a> {
    /// Its time.
    pub time: Timestamp,
    /// Its id.
    pub id: &'a str,
    /// Hash of its content.
    pub content: u64,
    /// The account in which it happened.
    pub account: &'a str,
    /// Who did it, as text.
    pub principal: &'a str,
    /// What sort of identity that is.
    pub kind: PrincipalKind,
    /// `awsRegion`.
    pub region: Option<&'a str>,
    /// Source address or host as text.
    pub source: Option<&'a str>,
    /// User agent.
    pub user_agent: Option<&'a str>,
    /// Access key that signed the call.
    pub access_key: Option<&'a str>,
    /// The kind of action, see [`crate::score::classify_action`].
    pub class: ActionClass,
    /// Operation.
    pub action: &'a str,
    /// A readable sentence on what was done.
    pub call: &'a str,
}

const KINDS: [PrincipalKind; 9] = [
    PrincipalKind::Root,
    PrincipalKind::IamUser,
    PrincipalKind::AssumedRole,
    PrincipalKind::FederatedUser,
    PrincipalKind::External,
    PrincipalKind::IdentityCenterUser,
    PrincipalKind::Service,
    PrincipalKind::Account,
    PrincipalKind::Unknown,
];
const CLASSES: [ActionClass; 8] = [
    ActionClass::FailedRead,
    ActionClass::FailedChange,
    ActionClass::Read,
    ActionClass::SignIn,
    ActionClass::ResourceChange,
    ActionClass::CredentialChange,
    ActionClass::DefenceEvasion,
    ActionClass::DataLoss,
];
/// Length of a text that is not there.
const NONE: u32 = u32::MAX;
/// Texts behind the content.
const TEXTS: usize = 8;
const TIME: usize = 12;
/// Kind, class, and the lengths of the id and the texts.
const TAIL: usize = 2 + 4 * (TEXTS + 1);

impl<'a> Fact<'a> {
    /// Appends its bytes.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let (mut second, mut nanosecond) = (self.time.as_second(), self.time.subsec_nanosecond());
        if nanosecond < 0 {
            (second, nanosecond) = (second - 1, nanosecond + 1_000_000_000);
        }
        // With its sign turned, the big-endian number sorts as bytes.
        into.extend_from_slice(&(second.cast_unsigned() ^ 1 << 63).to_be_bytes());
        into.extend_from_slice(&nanosecond.to_be_bytes());
        into.extend_from_slice(self.id.as_bytes());
        into.push(0);
        into.extend_from_slice(&self.content.to_be_bytes());
        let texts = [
            Some(self.account),
            Some(self.principal),
            self.region,
            self.source,
            self.user_agent,
            self.access_key,
            Some(self.action),
            Some(self.call),
        ];
        let mut tail = [0; TAIL];
        (tail[0], tail[1]) = (self.kind as u8, self.class as u8);
        let all = std::iter::once(Some(self.id)).chain(texts);
        for (text, place) in all.zip(tail[2..].chunks_exact_mut(4)) {
            // A record is at most a few megabytes.
            let len = text.map_or(NONE, |t| u32::try_from(t.len()).unwrap_or(NONE));
            place.copy_from_slice(&len.to_le_bytes());
        }
        for text in texts.into_iter().flatten() {
            into.extend_from_slice(text.as_bytes());
        }
        into.extend_from_slice(&tail);
    }

    /// Reads what [`Self::write`] wrote; `None` when it is something else.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (rest, tail) = bytes.split_at_checked(bytes.len().checked_sub(TAIL)?)?;
        let lengths =
            |n: usize| u32::from_le_bytes([tail[2 + 4 * n], tail[3 + 4 * n], tail[4 + 4 * n], tail[5 + 4 * n]]);
        let (id, rest_of) = rest.get(TIME..)?.split_at_checked(lengths(0) as usize)?;
        let (content, mut texts) = rest_of.get(1..)?.split_at_checked(8)?;
        let mut text = |n: usize| -> Option<Option<&'a str>> {
            if lengths(n) == NONE {
                return Some(None);
            }
            let (head, tail) = texts.split_at_checked(lengths(n) as usize)?;
            texts = tail;
            Some(Some(std::str::from_utf8(head).ok()?))
        };
        let (account, principal, region, source) = (text(1)??, text(2)??, text(3)?, text(4)?);
        let (user_agent, access_key, action, call) = (text(5)?, text(6)?, text(7)??, text(8)??);
        Some(Self {
            time: time_of(rest)?,
            id: std::str::from_utf8(id).ok()?,
            content: u64::from_be_bytes(content.try_into().ok()?),
            account,
            principal,
            kind: *KINDS.get(usize::from(tail[0]))?,
            region,
            source,
            user_agent,
            access_key,
            class: *CLASSES.get(usize::from(tail[1]))?,
            action,
            call,
        })
    }
}

fn time_of(bytes: &[u8]) -> Option<Timestamp> {
    let second = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?) ^ 1 << 63;
    let nanosecond = i32::from_be_bytes(bytes.get(8..TIME)?.try_into().ok()?);
    Timestamp::new(second.cast_signed(), nanosecond).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(fact: &Fact<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        fact.write(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn bytes_hold_all_and_sort_by_time_then_id(
            times in prop::array::uniform2((-9_000_000_000_i64..9_000_000_000, -999_999_999..999_999_999_i32)),
            ids in prop::array::uniform2("[a-c]{0,3}"),
            texts in prop::array::uniform8(prop::option::of(".{0,5}")),
            (kind, class, content) in (0..9_usize, 0..8_usize, any::<u64>()),
        ) {
            let text = |n: usize| texts[n].as_deref();
            let fact = |n: usize| Fact {
                time: Timestamp::new(times[n].0, times[n].1).unwrap(),
                id: &ids[n],
                content,
                account: text(0).unwrap_or_default(),
                principal: text(1).unwrap_or_default(),
                kind: KINDS[kind],
                region: text(2),
                source: text(3),
                user_agent: text(4),
                access_key: text(5),
                class: CLASSES[class],
                action: text(6).unwrap_or_default(),
                call: text(7).unwrap_or_default(),
            };
            let (a, b) = (fact(0), fact(1));
            let written = bytes(&a);
            prop_assert_eq!(Fact::read(&written), Some(a));
            if (a.time, a.id) != (b.time, b.id) {
                prop_assert_eq!(bytes(&a) < bytes(&b), (a.time, a.id) < (b.time, b.id));
            }
        }
    }

    #[test]
    fn kinds_and_classes_stand_at_their_number() {
        assert!(KINDS.iter().enumerate().all(|(n, kind)| *kind as usize == n));
        assert!(CLASSES.iter().enumerate().all(|(n, class)| *class as usize == n));
    }

    #[test]
    fn what_was_not_written_here_is_nothing() {
        for bytes in [&[][..], &[0; TAIL - 1], &[255; 100], &[0; 40]] {
            assert_eq!(Fact::read(bytes), None);
        }
    }
}
