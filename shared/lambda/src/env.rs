//! Settings from the environment, read once and checked as a whole: whoever deploys learns of every mistake at
//! the first start, not of one at each.
//!
//! In: a way to look a variable up. Out: values by type, or one error that lists all mistakes. A variable that
//! is empty counts as absent, since templates pass optional parameters as empty text.

use std::{
    fmt::Display,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

/// All mistakes of an environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} of the settings {}: {}", .0.len(), if .0.len() == 1 { "is wrong" } else { "are wrong" }, .0.join("; "))]
pub struct EnvError(pub Vec<String>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Where variables are looked up.
#[derive(Clone)]
pub struct Env {
    lookup: Arc<Lookup>,
    noted: Vec<String>,
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Env")
    }
}

impl Env {
    /// The process environment.
    pub fn process() -> Self {
        Self::from_fn(|name| std::env::var(name).ok())
    }

    /// Whatever `lookup` says.
    pub fn from_fn(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { lookup: Arc::new(lookup), noted: Vec::new() }
    }

    /// These variables alone.
    pub fn of(variables: &[(&str, &str)]) -> Self {
        let held: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::from_fn(move |name| held.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
    }

    /// A mistake found elsewhere, to be told with the others.
    pub(crate) fn note(&mut self, mistake: String) {
        self.noted.push(mistake);
    }

    /// Reads settings: `what` asks for all of them, and its result counts only when no mistake was found.
    pub fn read<T>(&self, what: impl FnOnce(&Reader<'_>) -> T) -> Result<T, EnvError> {
        let reader = Reader { lookup: self.lookup.as_ref(), mistakes: Mutex::new(self.noted.clone()) };
        let value = what(&reader);
        let mistakes = reader.mistakes.into_inner().unwrap_or_else(PoisonError::into_inner);
        if mistakes.is_empty() { Ok(value) } else { Err(EnvError(mistakes)) }
    }
}

/// Gives settings by type. After a mistake it gives a placeholder, which [`Env::read`] never lets out.
pub struct Reader<'a> {
    lookup: &'a Lookup,
    mistakes: Mutex<Vec<String>>,
}

impl Reader<'_> {
    /// Tells a mistake that only the caller can see, e.g. of two settings that exclude each other.
    pub fn mistake(&self, mistake: impl Into<String>) {
        self.mistakes.lock().unwrap_or_else(PoisonError::into_inner).push(mistake.into());
    }

    /// The text of a variable, if it is there and not blank.
    pub fn optional(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The text of a variable that must be there.
    pub fn text(&self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.mistake(format!("{name} is missing"));
            String::new()
        })
    }

    /// The text of a variable, or this.
    pub fn text_or(&self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    /// A number, or this.
    pub fn number<N: FromStr + Display>(&self, name: &str, default: N) -> N {
        let Some(text) = self.optional(name) else { return default };
        text.parse().unwrap_or_else(|_| {
            self.mistake(format!("{name} is not a number that fits: {text:?}"));
            default
        })
    }

    /// A switch: `true` or `false`, or this.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.one_of(name, &[("true", true), ("false", false)], default)
    }

    /// One of these words, or this.
    pub fn one_of<T: Clone>(&self, name: &str, words: &[(&str, T)], default: T) -> T {
        let Some(text) = self.optional(name) else { return default };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return value.clone();
        }
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.mistake(format!("{name} is not one of {}: {text:?}", words.join(", ")));
        default
    }

    /// One of these words, which must be there.
    pub fn required_one_of<T: Clone>(&self, name: &str, words: &[(&str, T)], placeholder: T) -> T {
        if self.optional(name).is_none() {
            self.mistake(format!("{name} is missing"));
        }
        self.one_of(name, words, placeholder)
    }

    /// A list with commas between its parts; blank parts don't count.
    pub fn list(&self, name: &str) -> Vec<String> {
        let text = self.optional(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// An ARN (AWS General Reference, "Amazon Resource Names") that must be there.
    pub fn arn(&self, name: &str) -> String {
        self.required(name, Self::optional_arn)
    }

    /// An ARN, if there is one.
    pub fn optional_arn(&self, name: &str) -> Option<String> {
        self.optional(name).inspect(|text| {
            if !is_arn(text) {
                self.mistake(format!("{name} is not an ARN: {text:?}"));
            }
        })
    }

    /// An http or https address that must be there.
    pub fn url(&self, name: &str) -> String {
        self.required(name, Self::optional_url)
    }

    /// An http or https address, if there is one. It may hold a token, so a wrong one is not repeated.
    pub fn optional_url(&self, name: &str) -> Option<String> {
        self.optional(name).inspect(|text| {
            if !is_url(text) {
                self.mistake(format!("{name} is not an http or https URL"));
            }
        })
    }

    /// An account id of 12 digits that must be there.
    pub fn account(&self, name: &str) -> String {
        let text = self.text(name);
        if !text.is_empty() && !is_account(&text) {
            self.mistake(format!("{name} is not an account id of 12 digits: {text:?}"));
        }
        text
    }

    fn required(&self, name: &str, read: impl FnOnce(&Self, &str) -> Option<String>) -> String {
        read(self, name).unwrap_or_else(|| {
            self.mistake(format!("{name} is missing"));
            String::new()
        })
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`; Region and account are empty for some services.
fn is_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, service, _, account, resource] = parts[..] else { return false };
    arn == "arn"
        && partition.starts_with("aws")
        && !service.is_empty()
        && (account.is_empty() || account == "aws" || is_account(account))
        && !resource.is_empty()
        && !text.contains(char::is_whitespace)
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        !host.is_empty() && !rest.contains(char::is_whitespace)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Mode {
        Watch,
        Act,
    }
    const MODES: [(&str, Mode); 2] = [("watch", Mode::Watch), ("act", Mode::Act)];

    #[test]
    fn values_come_trimmed_by_type_and_blank_ones_are_absent() {
        let env = Env::of(&[
            ("A", " text "),
            ("BLANK", "  "),
            ("N", "42"),
            ("MODE", "act"),
            ("ON", "true"),
            ("LIST", " a, ,b,"),
            ("ROLE", "arn:aws:iam::123456789012:role/respond"),
            ("URL", "https://sqs.eu-west-1.amazonaws.com/123456789012/detect"),
            ("ACCOUNT", "123456789012"),
        ]);
        env.read(|e| {
            assert_eq!((e.text("A"), e.optional("BLANK"), e.text_or("BLANK", "x")), ("text".into(), None, "x".into()));
            assert_eq!((e.number("N", 1_u32), e.number("BLANK", 7_u8)), (42, 7));
            assert_eq!(
                (e.one_of("MODE", &MODES, Mode::Watch), e.one_of("NONE", &MODES, Mode::Watch)),
                (Mode::Act, Mode::Watch)
            );
            assert_eq!((e.flag("ON", false), e.flag("NONE", true)), (true, true));
            assert_eq!((e.list("LIST"), e.list("NONE")), (vec!["a".to_owned(), "b".to_owned()], vec![]));
            assert_eq!(e.arn("ROLE"), "arn:aws:iam::123456789012:role/respond");
            assert_eq!(
                e.optional_url("URL").as_deref(),
                Some("https://sqs.eu-west-1.amazonaws.com/123456789012/detect")
            );
            assert_eq!(
                (e.account("ACCOUNT"), e.optional_arn("NONE"), e.optional_url("NONE")),
                ("123456789012".into(), None, None)
            );
        })
        .unwrap();
    }

    #[test]
    fn every_mistake_is_named_in_one_error() {
        let mut env = Env::of(&[
            ("CAP", "ten"),
            ("SMALL", "-1"),
            ("MODE", "attack"),
            ("ON", "yes"),
            ("ROLE", "role/respond"),
            ("URL", "sqs.example.com/secret-token"),
            ("ACCOUNT", "12345"),
        ]);
        env.note("SENTINEL_LOG is no filter".into());
        let error = env
            .read(|e| {
                e.text("TABLE");
                e.number("CAP", 10_u32);
                e.number("SMALL", 10_u32);
                e.one_of("MODE", &MODES, Mode::Watch);
                e.required_one_of("SOURCE", &MODES, Mode::Watch);
                e.flag("ON", true);
                e.arn("ROLE");
                e.arn("TOPIC");
                e.url("URL");
                e.account("ACCOUNT");
                e.mistake("WEBHOOK_SECRET needs WEBHOOK_URL");
            })
            .unwrap_err();
        let told = error.to_string();
        assert_eq!(error.0.len(), 12, "{told}");
        for part in [
            "12 of the settings are wrong: SENTINEL_LOG is no filter; ",
            "TABLE is missing",
            "CAP is not a number that fits: \"ten\"",
            "SMALL is not a number",
            "MODE is not one of watch, act: \"attack\"",
            "SOURCE is missing",
            "ON is not one of true, false: \"yes\"",
            "ROLE is not an ARN",
            "TOPIC is missing",
            "URL is not an http or https URL",
            "ACCOUNT is not an account id of 12 digits",
            "WEBHOOK_SECRET needs WEBHOOK_URL",
        ] {
            assert!(told.contains(part), "{part:?} is not in {told}");
        }
        assert!(!told.contains("secret-token"), "{told}");
    }

    #[test]
    fn what_looks_like_an_arn_or_a_url_but_is_none_is_refused() {
        for good in [
            "arn:aws:iam::aws:policy/ReadOnlyAccess",
            "arn:aws-us-gov:sqs:us-gov-west-1:123456789012:queue",
            "arn:aws:s3:::bucket/key:with:colons",
        ] {
            assert!(is_arn(good), "{good}");
        }
        for bad in [
            "arn:aws:iam::123:role/x",
            "arn:aws:iam::123456789012:",
            "arn:aws:iam",
            "arn:aws:iam::123456789012:role/a b",
            "x",
        ] {
            assert!(!is_arn(bad), "{bad}");
        }
        assert!(is_url("http://127.0.0.1:4566/000000000000/q"));
        for bad in ["https://", "https:///x", "ftp://a", "https://a b", "http://?x"] {
            assert!(!is_url(bad), "{bad}");
        }
    }
}
