//! The members that nearly every record is asked for, found in one walk over it.
//!
//! In: a parsed object. Out: what stands under a few known keys. Looking a key up walks the members up to it, so asking
//! for many keys one by one costs many walks.

use sentinel_json::Value;

/// Makes a struct with a member each for some keys, and the walk that fills it.
macro_rules! members {
    ($(#[$about:meta])* $visible:vis $name:ident { $($field:ident: $key:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default)]
        $visible struct $name<'a> {
            $(pub(crate) $field: Option<Value<'a>>,)+
        }

        impl<'a> $name<'a> {
            /// Reads an object; of several members of one name the first counts. Anything else has none.
            $visible fn of(value: Value<'a>) -> Self {
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

members! {
    /// The head of a record: the members that say what happened, to whom, when and from where.
    pub Head {
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

impl<'a> Head<'a> {
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
        self.identity.map(Identity::of).unwrap_or_default()
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
        let head = Head::of(record.root());
        assert_eq!((head.name(), text(head.who().arn), text(head.error_code)), ("A", Some("a"), None));
        assert_eq!(Head::of(Document::parse("[1]").unwrap().root()).name(), "");
    }
}
