//! MITRE ATT&CK names: what the tactics and techniques that alerts carry are called.
//!
//! Pinned: ATT&CK Enterprise v16.1 (November 2024), the techniques of its cloud platforms (`IaaS`, `SaaS`, Identity Provider,
//! Office Suite) and others that cloud rules refer to. The data is `data/attack.tsv`, built into the program;
//! an id it does not know passes through without a name.
//!
//! © The MITRE Corporation. Names and ids are reproduced and distributed with the permission of The MITRE
//! Corporation, under the ATT&CK Terms of Use (<https://attack.mitre.org/resources/legal-and-branding/terms-of-use/>).

use std::sync::{LazyLock, OnceLock};

use serde::Serialize;

/// The version of ATT&CK that the names come from.
pub const VERSION: &str = "16.1";

/// A tactic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tactic {
    /// Its id, e.g. `TA0006`.
    pub id: &'static str,
    /// Its short name, e.g. `credential-access`.
    pub short_name: &'static str,
    /// Its name.
    pub name: &'static str,
}

/// A technique or sub-technique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Technique {
    /// Its id, e.g. `T1552.005`.
    pub id: &'static str,
    /// Its name; a sub-technique's begins with its technique's.
    pub name: &'static str,
    /// Short names of its tactics.
    pub tactics: Vec<&'static str>,
}

/// The tactics, in the order of the matrix.
pub const TACTICS: [Tactic; 14] = [
    Tactic { id: "TA0043", short_name: "reconnaissance", name: "Reconnaissance" },
    Tactic { id: "TA0042", short_name: "resource-development", name: "Resource Development" },
    Tactic { id: "TA0001", short_name: "initial-access", name: "Initial Access" },
    Tactic { id: "TA0002", short_name: "execution", name: "Execution" },
    Tactic { id: "TA0003", short_name: "persistence", name: "Persistence" },
    Tactic { id: "TA0004", short_name: "privilege-escalation", name: "Privilege Escalation" },
    Tactic { id: "TA0005", short_name: "defense-evasion", name: "Defense Evasion" },
    Tactic { id: "TA0006", short_name: "credential-access", name: "Credential Access" },
    Tactic { id: "TA0007", short_name: "discovery", name: "Discovery" },
    Tactic { id: "TA0008", short_name: "lateral-movement", name: "Lateral Movement" },
    Tactic { id: "TA0009", short_name: "collection", name: "Collection" },
    Tactic { id: "TA0011", short_name: "command-and-control", name: "Command and Control" },
    Tactic { id: "TA0010", short_name: "exfiltration", name: "Exfiltration" },
    Tactic { id: "TA0040", short_name: "impact", name: "Impact" },
];

/// A line of the data, and what was read from it.
type Line = (&'static str, OnceLock<Option<Technique>>);

/// The lines of the data, by id and in its order. Whatever is asked for is read then: a function that starts for one
/// alert asks for few.
static TECHNIQUES: LazyLock<Vec<Line>> = LazyLock::new(|| {
    include_str!("../data/attack.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| (line, OnceLock::new()))
        .collect()
});

fn id_of(line: &'static str) -> &'static str {
    line.split_once('\t').map_or(line, |(id, _)| id)
}

fn read(line: &'static str) -> Option<Technique> {
    let mut fields = line.split('\t');
    let (id, name, tactics) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Technique { id, name, tactics: tactics.split(',').collect() })
}

/// The technique of this id, if it is known.
pub fn technique(id: &str) -> Option<&'static Technique> {
    let at = TECHNIQUES.binary_search_by(|(line, _)| id_of(line).cmp(id)).ok()?;
    let (line, read_line) = &TECHNIQUES[at];
    read_line.get_or_init(|| read(line)).as_ref()
}

/// The tactic of this short name, if there is one.
pub fn tactic(short_name: &str) -> Option<&'static Tactic> {
    TACTICS.iter().find(|t| t.short_name == short_name)
}

/// Place of a tactic in the matrix; unknown ones come last.
pub fn tactic_order(short_name: &str) -> usize {
    TACTICS.iter().position(|t| t.short_name == short_name).unwrap_or(TACTICS.len())
}

/// Names of ids: a technique's or tactic's name, or `None` when it is not known.
pub fn name_of(id_or_short_name: &str) -> Option<&'static str> {
    technique(id_or_short_name).map(|t| t.name).or_else(|| tactic(id_or_short_name).map(|t| t.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_data_is_sound() {
        let in_order = TECHNIQUES.windows(2).all(|two| id_of(two[0].0) < id_of(two[1].0));
        assert!(in_order && TECHNIQUES.len() > 200, "an id twice or out of order");
        for (line, _) in TECHNIQUES.iter() {
            let technique = super::technique(id_of(line)).unwrap_or_else(|| panic!("{line:?} cannot be read"));
            assert_eq!(technique.id, id_of(line));
            let digits = technique.id.trim_start_matches('T').replace('.', "");
            assert!(digits.len() == 4 || digits.len() == 7, "{}", technique.id);
            assert!(digits.bytes().all(|b| b.is_ascii_digit()), "{}", technique.id);
            for short_name in &technique.tactics {
                assert!(tactic(short_name).is_some(), "{} {short_name}", technique.id);
            }
            if let Some((parent, _)) = technique.id.split_once('.') {
                let parent = super::technique(parent).unwrap_or_else(|| panic!("no parent of {}", technique.id));
                assert!(technique.name.starts_with(&format!("{}: ", parent.name)), "{}", technique.name);
            }
        }
    }

    #[test]
    fn names_and_unknown_ids() {
        assert_eq!(name_of("T1552.005"), Some("Unsecured Credentials: Cloud Instance Metadata API"));
        assert_eq!(name_of("credential-access"), Some("Credential Access"));
        assert_eq!(name_of("T9999"), None);
        assert!(tactic_order("initial-access") < tactic_order("impact"));
        assert_eq!(tactic_order("stealth"), TACTICS.len());
    }
}
