//! The members that nearly every record is asked for, found in one walk over it.
//!
//! In: a parsed object. Out: what stands under a few known keys. Looking a key up walks the members up to it, so asking
//! for many keys one by one costs many walks; and where they stand is remembered for the objects of the same shape that
//! a thread meets next.

use std::{cell::RefCell, ops::Deref};

use sentinel_json::{Shapes, Value};

/// Shapes whose places are remembered: 100 bytes each.
const SHAPES: usize = 1024;

thread_local! {
    static KNOWN: RefCell<Shapes<Places>> = RefCell::new(Shapes::new(SHAPES));
}

/// Where the members stand, 0 for those that are not there: the object itself stands before them.
#[derive(Debug, Clone, Copy)]
struct Places {
    top: [u32; Top::COUNT],
    who: [u32; Identity::COUNT],
}

/// Makes a struct with a member each for some keys, and the walk that fills it.
macro_rules! members {
    ($(#[$about:meta])* $visible:vis $name:ident { $($field:ident: $key:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default)]
        $visible struct $name<'a> {
            $(pub(crate) $field: Option<Value<'a>>,)+
        }

        impl<'a> $name<'a> {
            const COUNT: usize = [$($key),+].len();

            /// The members that stand at these places in the same document.
            #[inline]
            fn at(value: Value<'a>, places: &[u32; $name::COUNT]) -> Self {
                let [$($field),+] = *places;
                let at = |place| (place != 0).then(|| value.at(place));
                Self { $($field: at($field)),+ }
            }

            /// Where they stand.
            fn places(&self) -> [u32; $name::COUNT] {
                [$(self.$field.map_or(0, Value::place)),+]
            }

            /// Reads an object; of several members of one name the first counts. Anything else has none.
            fn of(value: Value<'a>) -> Self {
                let mut found = Self::default();
                for (key, value) in value.members() {
                    let slot = match key {
                        $($key => &mut found.$field,)+
                        _ => continue,
                    };
                    slot.get_or_insert(value);
                }
                found
            }
        }
    };
}

/// The head of a record: the members that say what happened, to whom, when and from where.
#[derive(Debug, Clone, Copy, Default)]
pub struct Head<'a> {
    top: Top<'a>,
    who: [u32; Identity::COUNT],
}

members! {
    /// Members of a record.
    pub Top {
        event_id: "eventID",
        event_name: "eventName",
        event_source: "eventSource",
        event_time: "eventTime",
        event_type: "eventType",
        account: "recipientAccountId",
        region: "awsRegion",
        identity: "userIdentity",
        source: "sourceIPAddress",
        user_agent: "userAgent",
        vpc_endpoint: "vpcEndpointId",
        read_only: "readOnly",
        error_code: "errorCode",
        error_message: "errorMessage",
        response: "responseElements",
    }
}

members! {
    /// The members of a `userIdentity`.
    pub(crate) Identity {
        kind: "type",
        arn: "arn",
        account: "accountId",
        user_name: "userName",
        principal_id: "principalId",
        access_key: "accessKeyId",
        invoked_by: "invokedBy",
        session: "sessionContext",
    }
}

impl<'a> Deref for Head<'a> {
    type Target = Top<'a>;

    fn deref(&self) -> &Top<'a> {
        &self.top
    }
}

impl Places {
    fn find(value: Value<'_>) -> Self {
        let top = Top::of(value);
        Self { who: top.identity.map(Identity::of).unwrap_or_default().places(), top: top.places() }
    }
}

impl<'a> Head<'a> {
    /// Reads an object; of several members of one name the first counts. Anything else has none.
    pub fn of(value: Value<'a>) -> Self {
        let places = KNOWN.with_borrow_mut(|known| *known.of(value, || Places::find(value)));
        Self { top: Top::at(value, &places.top), who: places.who }
    }

    /// `eventName`, empty when it is not there.
    pub fn name(&self) -> &'a str {
        text(self.event_name).unwrap_or_default()
    }

    /// Whether these are the members of a CloudTrail record: `eventName` and one of `eventSource`, `eventID`, all texts.
    pub(crate) fn is_record(&self) -> bool {
        let is_text = |value: Option<Value<'_>>| value.is_some_and(Value::is_str);
        is_text(self.event_name) && (is_text(self.event_source) || is_text(self.event_id))
    }

    /// The members of its `userIdentity`.
    pub(crate) fn who(&self) -> Identity<'a> {
        self.identity.map(|identity| Identity::at(identity, &self.who)).unwrap_or_default()
    }
}

/// A text that is there and not empty.
pub(crate) fn text(value: Option<Value<'_>>) -> Option<&str> {
    value?.as_str().filter(|s| !s.is_empty())
}

#[cfg(test)]
mod tests {
    use sentinel_json::Document;

    use super::*;

    #[test]
    fn the_first_of_a_name_counts_and_other_values_have_no_members() {
        let json = r#"{"eventName":"A","x":1,"eventName":"B","userIdentity":{"arn":"a"}}"#;
        let record = Document::parse(json).unwrap();
        for _ in 0..2 {
            let head = Head::of(record.root());
            assert_eq!((head.name(), text(head.who().arn), text(head.error_code)), ("A", Some("a"), None));
        }
        let json = r#"{"eventName":"C","x":2,"eventName":"D","userIdentity":{"arn":"b"}}"#;
        let same_shape = Document::parse(json).unwrap();
        let head = Head::of(same_shape.root());
        assert_eq!((head.name(), text(head.who().arn)), ("C", Some("b")));
        assert_eq!(Head::of(Document::parse("[1]").unwrap().root()).name(), "");
    }

    #[test]
    fn no_record_hides_the_name_of_another() {
        // A long key that walks like two short ones, were a part of a key no other than a key.
        let long = |a: &str, b: &str| format!(r"{a}{}\u00{:02x}{b}", r"\u0000".repeat(15 - a.len()), a.len() + 1);
        let (abc, name) = (long("abc", "def"), long("eventName", "jkl"));
        let one = format!(r#"{{"z":0,"abc":"1","def":"2","{name}":"3"}}"#);
        let other = format!(r#"{{"z":0,"{abc}":"1","eventName":"2","jkl":"3"}}"#);
        assert_eq!(Head::of(Document::parse(&one).unwrap().root()).name(), "");
        assert_eq!(Head::of(Document::parse(&other).unwrap().root()).name(), "2");
    }
}
