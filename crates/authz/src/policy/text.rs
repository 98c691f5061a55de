//! What is refused of a policy's text before Cedar sees it, and where in the text an error is.

/// Bytes of one policy text: a few hundred policies of ordinary length.
pub const MAX_POLICY_TEXT_BYTES: usize = 64 * 1024;

/// Policies of one tenant's set, over all its documents: a decision over them stays below 1 ms.
pub const MAX_POLICIES: usize = 256;

/// Brackets within brackets. Cedar's parser calls itself for each; more would exhaust a thread's stack.
pub(crate) const MAX_DEPTH: usize = 16;

/// Operators, dots and brackets of one policy. A chain of them is a tree of that depth, which Cedar
/// walks, and frees, by calling itself.
pub(crate) const MAX_SYMBOLS: usize = 256;

/// Bytes of one `like` pattern: matching takes as many steps as pattern and text multiplied.
pub(crate) const MAX_PATTERN: usize = 128;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What may help.
    pub help: Option<String>,
}

impl core::fmt::Display for PolicyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// An error at a byte of the text.
pub(crate) fn error_at(text: &str, offset: usize, message: String) -> PolicyError {
    let before = text.as_bytes().get(..offset.min(text.len())).unwrap_or_default();
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let begin = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let in_line = before.get(begin..).unwrap_or_default();
    let column = String::from_utf8_lossy(in_line).chars().count() + 1;
    PolicyError { line, column, message, help: None }
}

/// Refuses what could exhaust a stack or hide from a reader, by characters alone: this runs before
/// any parser that calls itself.
pub(crate) fn scan(text: &str) -> Result<(), PolicyError> {
    if text.len() > MAX_POLICY_TEXT_BYTES {
        let message = format!(
            "the text has {} bytes; at most {MAX_POLICY_TEXT_BYTES} are allowed",
            text.len()
        );
        return Err(error_at(text, 0, message));
    }
    let (mut depth, mut symbols) = (0usize, 0usize);
    let mut place = Place::Code;
    let mut before = ' ';
    let mut word = 0;
    for (offset, c) in text.char_indices() {
        if hidden(c) {
            let message = format!("the character U+{:04X} is not shown to a reader", c as u32);
            return Err(error_at(text, offset, message));
        }
        match place {
            Place::Text { escaped: true } => place = Place::Text { escaped: false },
            Place::Text { .. } if c == '\\' => place = Place::Text { escaped: true },
            Place::Text { .. } if c == '"' => place = Place::Code,
            Place::Text { .. } => {}
            // As in Cedar's grammar, where a carriage return ends a comment too.
            Place::Comment if matches!(c, '\n' | '\r') => place = Place::Code,
            Place::Comment => {}
            Place::Code => {
                if !(c.is_alphanumeric() || c == '_') {
                    let ended = text.get(word..offset).unwrap_or_default();
                    symbols += usize::from(KEYWORDS.contains(&ended));
                    word = offset + c.len_utf8();
                }
                match c {
                    '"' => place = Place::Text { escaped: false },
                    '/' if before == '/' => place = Place::Comment,
                    ';' => symbols = 0,
                    '(' | '[' | '{' => {
                        depth += 1;
                        symbols += 1;
                    }
                    ')' | ']' | '}' => depth = depth.saturating_sub(1),
                    '.' | '&' | '|' | '+' | '-' | '*' | '=' | '!' | '<' | '>' => symbols += 1,
                    _ => {}
                }
            }
        }
        before = c;
        if depth > MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} brackets within brackets");
            return Err(error_at(text, offset, message));
        }
        if symbols > MAX_SYMBOLS {
            let message = format!(
                "a policy of more than {MAX_SYMBOLS} operators, dots and brackets; split it"
            );
            return Err(error_at(text, offset, message));
        }
    }
    Ok(())
}

enum Place {
    Code,
    Text { escaped: bool },
    Comment,
}

/// Words that make the tree deeper; `when` and `unless` clauses become one chain.
const KEYWORDS: [&str; 9] = ["if", "then", "else", "in", "has", "like", "is", "when", "unless"];

/// Characters that change how the rest is shown, or are not shown at all: what administrators sign
/// must be what they read (Unicode TR 36, "Trojan Source").
const fn hidden(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{8}' | '\u{b}'..='\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_lines_and_characters() {
        let text = "ab\ncä!";
        let error = error_at(text, text.find('!').unwrap(), "x".into());
        assert_eq!((error.line, error.column), (2, 3));
        assert_eq!(error.to_string(), "line 2, column 3: x");
        let end = error_at(text, 999, "x".into());
        assert_eq!((end.line, end.column), (2, 4));
    }

    #[test]
    fn strings_and_comments_are_not_code() {
        let many = "(".repeat(MAX_DEPTH + 1);
        assert!(scan(&format!("\"{many}\\\"{many}\" // {many} \"\n ok")).is_ok());
        assert_eq!(scan(&format!("// x\n\"a\" {many}")).unwrap_err().line, 2);
        assert!(scan(&format!("\"a\\\\\" {many}")).is_err());
        assert!(scan(&format!("// x\r{many}")).is_err());
    }

    #[test]
    fn long_chains_and_hidden_characters_are_refused() {
        assert!(scan(&"1 + ".repeat(MAX_SYMBOLS)).is_ok());
        assert!(scan(&"1 + ".repeat(MAX_SYMBOLS + 1)).is_err());
        assert!(scan(&"when ".repeat(MAX_SYMBOLS + 1)).is_err());
        assert!(scan(&"1 + 1;".repeat(MAX_SYMBOLS)).is_ok(), "counted for each policy");
        assert!(scan(&" ".repeat(MAX_POLICY_TEXT_BYTES + 1)).is_err());
        for hidden in ['\u{202e}', '\u{200b}', '\0', '\u{feff}'] {
            assert!(scan(&format!("// {hidden}")).is_err(), "{:x}", hidden as u32);
        }
    }
}
