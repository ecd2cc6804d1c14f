//! MITRE ATT&CK labels as alerts carry them.

use serde::{Deserialize, Serialize};

/// Tactics and techniques, without repeats, in the order in which they were named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attack {
    /// Tactic short names, e.g. `credential-access`.
    pub tactics: Vec<String>,
    /// Technique ids, e.g. `T1552.005`.
    pub techniques: Vec<String>,
}

impl Attack {
    /// Reads Sigma tags: `attack.credential_access` or `attack.credential-access` is a tactic,
    /// `attack.t1552.005` a technique; groups (`attack.g0007`), software and other namespaces are passed over.
    ///
    /// Source: Sigma specification 2.0, appendix "Tags".
    pub fn from_tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> Self {
        let mut attack = Self::default();
        for tag in tags {
            let tag = tag.to_ascii_lowercase();
            let Some(name) = tag.strip_prefix("attack.") else { continue };
            let mut rest = name.chars();
            let (first, second) = (rest.next(), rest.next());
            let numbered = second.is_some_and(|c| c.is_ascii_digit());
            match first {
                Some('t') if numbered => push_new(&mut attack.techniques, name.to_ascii_uppercase()),
                Some(_) if !numbered => push_new(&mut attack.tactics, name.replace('_', "-")),
                _ => {}
            }
        }
        attack
    }

    /// Adds what `other` names and this does not.
    pub fn merge(&mut self, other: &Self) {
        for t in &other.tactics {
            push_new(&mut self.tactics, t.clone());
        }
        for t in &other.techniques {
            push_new(&mut self.techniques, t.clone());
        }
    }
}

fn push_new(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sigma_tags() {
        let a = Attack::from_tags([
            "attack.credential_access",
            "attack.t1552.005",
            "attack.g0007",
            "attack.s0002",
            "cve.2024-1",
            "attack.T1552.005",
            "attack.defense-evasion",
        ]);
        assert_eq!(a.tactics, ["credential-access", "defense-evasion"]);
        assert_eq!(a.techniques, ["T1552.005"]);
    }
}
