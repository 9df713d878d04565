//! Braces in the text between tags: finds RT's Perl code, such as `{RT->Config->Get('WebURL')}`, which customers would read.

/// The braces that are open, across the texts of one template.
#[derive(Debug, Default)]
pub(super) struct Braces {
    open: Vec<Brace>,
}

/// An open brace.
#[derive(Debug)]
struct Brace {
    /// Its byte in the source.
    at: usize,
    /// Whether a double-quoted text is open in it, as in JSON.
    in_quotes: bool,
    escaped: bool,
    is_code: bool,
}

impl Braces {
    /// Reads a text that begins at the byte `start` of the source. Returns the bytes at which Perl code begins: the braces that
    /// close around signs of it, or begin with them.
    pub(super) fn read(&mut self, text: &str, start: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut before = ' ';
        for (at, c) in text.char_indices() {
            let rest = text.get(at..).unwrap_or("");
            match (c, self.open.last_mut()) {
                ('{', _) => {
                    if begins_code(rest) {
                        found.push(start + at);
                    }
                    self.open.push(Brace {
                        at: start + at,
                        in_quotes: false,
                        escaped: false,
                        is_code: false,
                    });
                }
                (_, None) => {}
                (_, Some(brace)) if brace.in_quotes => match c {
                    _ if brace.escaped => brace.escaped = false,
                    '\\' => brace.escaped = true,
                    '"' => brace.in_quotes = false,
                    _ => {}
                },
                ('"', Some(brace)) => brace.in_quotes = true,
                ('}', Some(_)) => {
                    found.extend(self.open.pop().filter(|brace| brace.is_code).map(|brace| brace.at));
                }
                (_, Some(brace)) => brace.is_code |= is_code(before, rest),
            }
            before = c;
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Whether a brace opens code, whether or not it is closed.
fn begins_code(text: &str) -> bool {
    let inside = text.get(1..).unwrap_or("").trim_ascii_start();
    ["RT->", "RT::", "loc("].iter().any(|code| inside.starts_with(code))
}

/// Whether this is a variable of Perl, a call of a method, or a package of RT.
fn is_code(before: char, text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_call = text.strip_prefix("->").is_some_and(|rest| {
        (is_name(before) || before.is_ascii_digit() || ")]}".contains(before))
            && rest.starts_with(|c| is_name(c) || "[{($".contains(c))
    });
    let is_variable = text.strip_prefix('$').is_some_and(|rest| rest.starts_with(is_name));
    let after_word = is_name(before) || before.is_ascii_digit() || before == '\\' || before == '$';
    is_call || (!after_word && (is_variable || text.starts_with("RT::")))
}
