//! A second parser of TicketSQL that shares no code with the first. It is only for valid queries and panics on all others.

/// Joined tests. Parentheses around one test are a [`Node::All`] of one.
#[derive(Debug, Clone)]
pub enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(Test),
}

/// A test with its operator in capitals and without NOT.
#[derive(Debug, Clone)]
pub struct Test {
    pub field: Vec<String>,
    pub op: String,
    pub is_negated: bool,
    pub values: Vec<Word>,
    /// Whether RT reads it.
    pub is_rt: bool,
}

#[derive(Debug, Clone)]
pub enum Word {
    /// A text in quotes, with the escapes `\%`, `\_` and `\\`.
    Text(String),
    Number(String),
    Name(Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(Vec<String>),
    Text(String),
    Number(String),
    Sign(String),
}

/// Parses a query; `None` = no tests.
pub fn read(text: &str, is_rt: bool) -> Option<Node> {
    let mut reader = Reader { tokens: tokens(text), is_rt };
    reader.tokens.reverse();
    if reader.tokens.is_empty() {
        return None;
    }
    let node = reader.level();
    assert_eq!(reader.tokens, [], "{text} goes on");
    Some(node)
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        if c.is_whitespace() {
            at += 1;
        } else if c == '\'' || c == '"' {
            let mut word = String::new();
            at += 1;
            while chars[at] != c {
                if chars[at] == '\\' {
                    at += 1;
                    if matches!(chars[at], '%' | '_' | '\\') {
                        word.push('\\');
                    }
                }
                word.push(chars[at]);
                at += 1;
            }
            at += 1;
            found.push(Token::Text(word));
        } else if c.is_ascii_digit() || (matches!(c, '-' | '+') && next.is_ascii_digit()) {
            let end =
                (at + 1..chars.len()).find(|n| !matches!(chars[*n], '0'..='9' | '.')).unwrap_or(chars.len());
            found.push(Token::Number(chars[at..end].iter().collect()));
            at = end;
        } else if c.is_alphanumeric() || c == '_' {
            let (parts, end) = name(&chars, at);
            found.push(Token::Name(parts));
            at = end;
        } else {
            let two: String = [c, next].into_iter().collect();
            let sign =
                if ["!=", "<>", "<=", ">=", "=="].contains(&two.as_str()) { two } else { c.to_string() };
            at += sign.len();
            found.push(Token::Sign(match sign.as_str() {
                "<>" => "!=".to_owned(),
                "==" => "=".to_owned(),
                _ => sign,
            }));
        }
    }
    found
}

/// A name with dots and braces, and where it ends.
fn name(chars: &[char], mut at: usize) -> (Vec<String>, usize) {
    let mut parts = vec![String::new()];
    let mut is_braced = false;
    while let Some(c) = chars.get(at) {
        match c {
            '{' => is_braced = true,
            '}' => is_braced = false,
            '.' if !is_braced => parts.push(String::new()),
            c if is_braced || c.is_alphanumeric() || *c == '_' => parts.last_mut().unwrap().push(*c),
            _ => break,
        }
        at += 1;
    }
    (parts.into_iter().map(|part| part.trim().to_owned()).collect(), at)
}

/// The parts of a name in quotes: `CF.Any queue.{Any field}`.
fn whole_name(text: &str) -> Vec<String> {
    match text.strip_suffix('}').and_then(|text| text.split_once(".{")) {
        Some((before, field)) => match before.split_once('.') {
            Some((cf, queue)) => vec![cf.to_owned(), queue.to_owned(), field.to_owned()],
            None => vec![before.to_owned(), field.to_owned()],
        },
        None => match text.split_once('.') {
            Some((cf, field)) if field.contains(' ') && !field.contains('{') => {
                vec![cf.to_owned(), field.to_owned()]
            }
            _ => name(&text.chars().collect::<Vec<_>>(), 0).0,
        },
    }
}

struct Reader {
    /// The tokens in reverse, so that the next one is the last.
    tokens: Vec<Token>,
    is_rt: bool,
}

impl Reader {
    fn keyword(&self) -> String {
        match self.tokens.last() {
            Some(Token::Name(parts)) if parts.len() == 1 => parts[0].to_uppercase(),
            Some(Token::Sign(sign)) => sign.clone(),
            _ => String::new(),
        }
    }

    fn eat(&mut self, keyword: &str) -> bool {
        let is_there = self.keyword() == keyword;
        if is_there {
            self.tokens.pop();
        }
        is_there
    }

    /// Parses up to the end or a closing parenthesis: a list of tests, and the words between them.
    fn level(&mut self) -> Node {
        let mut members = vec![self.one()];
        let mut joints = Vec::new();
        while ["AND", "OR"].contains(&self.keyword().as_str()) {
            joints.push(self.keyword());
            self.tokens.pop();
            members.push(self.one());
        }
        if self.is_rt {
            return match joints.last().map(String::as_str) {
                None => members.remove(0),
                Some("OR") => Node::Any(members),
                Some(_) => Node::All(members),
            };
        }
        // AND joins the tests between two ORs.
        let mut groups = vec![vec![members.remove(0)]];
        for (joint, member) in joints.iter().zip(members) {
            if joint == "OR" {
                groups.push(Vec::new());
            }
            groups.last_mut().unwrap().push(member);
        }
        let joined = |mut group: Vec<Node>| if group.len() == 1 { group.remove(0) } else { Node::All(group) };
        let mut groups: Vec<Node> = groups.into_iter().map(joined).collect();
        if groups.len() == 1 { groups.remove(0) } else { Node::Any(groups) }
    }

    fn one(&mut self) -> Node {
        if self.eat("NOT") {
            return Node::Not(Box::new(self.one()));
        }
        if self.eat("(") {
            let inner = self.level();
            assert!(self.eat(")"));
            return if let Node::Test(_) = inner { Node::All(vec![inner]) } else { inner };
        }
        Node::Test(self.test())
    }

    fn test(&mut self) -> Test {
        let field = match self.tokens.pop().unwrap() {
            Token::Name(parts) => parts,
            Token::Text(text) => whole_name(&text),
            other => panic!("{other:?} is no field"),
        };
        if self.eat("IS") {
            let is_negated = self.eat("NOT");
            assert!(self.eat("NULL"));
            return Test { field, op: "NULL".to_owned(), is_negated, values: Vec::new(), is_rt: self.is_rt };
        }
        let mut is_negated = self.eat("NOT");
        let mut op = self.keyword();
        self.tokens.pop();
        if op == "!=" {
            (is_negated, op) = (true, "=".to_owned());
        }
        let mut values = Vec::new();
        match op.as_str() {
            "IN" => {
                assert!(self.eat("("));
                loop {
                    values.push(self.value());
                    if self.eat(")") {
                        break;
                    }
                    assert!(self.eat(","));
                }
            }
            "BETWEEN" => {
                values.push(self.value());
                assert!(self.eat("AND"));
                values.push(self.value());
            }
            _ => values.push(self.value()),
        }
        Test { field, op, is_negated, values, is_rt: self.is_rt }
    }

    fn value(&mut self) -> Word {
        match self.tokens.pop().unwrap() {
            Token::Text(text) => Word::Text(text),
            Token::Number(number) => Word::Number(number),
            Token::Name(parts) => Word::Name(parts),
            Token::Sign(sign) => panic!("{sign} is no value"),
        }
    }
}

impl Word {
    /// The value without escapes.
    pub fn plain(&self) -> String {
        match self {
            Self::Text(text) => {
                let mut plain = String::new();
                let mut chars = text.chars();
                while let Some(c) = chars.next() {
                    plain.push(if c == '\\' { chars.next().unwrap() } else { c });
                }
                plain
            }
            Self::Number(number) => number.clone(),
            Self::Name(parts) => parts.join("."),
        }
    }

    /// The value with the escapes of patterns.
    pub fn pattern(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => other.plain(),
        }
    }

    /// The name of a field, if the value can be one.
    pub fn name(&self) -> Option<&[String]> {
        match self {
            Self::Name(parts) => Some(parts),
            _ => None,
        }
    }
}
