//! The YAML documents of a rule file.
//!
//! In: a file's text. Out: its documents with their first lines. Also used when our own rules are built into the binary,
//! so it needs nothing but the standard library.

/// The documents of a file that hold anything, each with its first line's number. Documents that refer to each other
/// stay together.
pub(super) fn documents(text: &str) -> Vec<(u32, &str)> {
    if uses_actions(text) {
        return vec![(1, text)];
    }
    if !(text.starts_with("---") || text.contains("\n---")) {
        return if text.lines().any(is_content) { vec![(1, text)] } else { Vec::new() };
    }
    let mut documents = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let mut offset = 0;
    for (number, line) in (1_u32..).zip(text.split_inclusive('\n')) {
        if is_separator(line) && offset > start {
            documents.push((first_line, &text[start..offset]));
            (start, first_line) = (offset, number);
        }
        offset += line.len();
    }
    documents.push((first_line, &text[start..]));
    documents.retain(|(_, document)| document.lines().any(is_content));
    documents
}

/// Whether documents refer to each other (`action: global` and the like), so that they cannot be parsed
/// one by one.
fn uses_actions(text: &str) -> bool {
    // The word stands in few files, and what stands before it on its line in fewer.
    text.contains("action")
        && text.match_indices("action").any(|(at, word)| {
            let before = text[..at].trim_end_matches(['"', '\'']);
            let behind = text[at + word.len()..].trim_start_matches(['"', '\'', ' ']);
            (before.is_empty() || before.ends_with('\n')) && behind.starts_with(':')
        })
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn is_content(line: &str) -> bool {
    let line = line.trim();
    !(line.is_empty() || line.starts_with(['#', '%']) || line == "---" || line == "...")
}
