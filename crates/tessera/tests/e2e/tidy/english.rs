//! The English of pages, comments and messages: phrases that must not come back, each with a replacement.

use regex::{Regex, RegexSet};

use super::Source;

/// Marks the start of a comment in the text that is searched.
const START: char = '¶';

/// Rejected phrases, each with a suggestion.
///
/// A phrase is a regular expression, matched with its case. A space matches any white space, because texts are wrapped.
/// `¶` is the start of a comment. If a phrase also has a legitimate use, make the expression narrower.
#[rustfmt::skip]
const PHRASES: [(&str, &str); 57] = [
    ("¶ ?What [a-z]+", "a noun phrase, or a verb in the third person"),
    (r"\b(?:is|are|was|were|be|been|gets?) told\b", "name who reports it: returns, reports, shows, notifies"),
    (r"\b[Ff]aults? told\b", "errors reported"),
    (r"\b(?:is|are|was|were|be|been) none\b(?:[.,;:)]| [a-z(]|$)", "does not exist, not found, is not a valid …"),
    (r"\b(?:for|to|than|away|lets in|lets?|but) who [a-z]+", "people who …, anyone who …, users with …"),
    ("¶ ?Who [a-z]+", "a noun phrase: the requestors, the user that made the change"),
    (
        r"[.;:] Who (?:is|has|comes|made|asks|asked|delivers|uses|owns|works|changed|makes|sent)\b",
        "a noun phrase: the requestors, the user that made the change",
    ),
    (r"\b(?:and|or|but) who (?:has|have|uses|is)\b", "anyone with …, and the users that …"),
    (r"\bthat there (?:is|are|was|were) not\b", "missing, unknown, that do not exist"),
    (r"\b(?:which|where|what) there (?:is|are|was|were) not\b", "missing, unknown, that does not exist"),
    (r"\b(?:that|what) there (?:is|are|was|were)[.,;:)]", "existing, or name the things"),
    (r"\bwhat there (?:is|was)\b", "the existing …, the current …"),
    (r"\bis the matter\b", "is wrong"),
    (r"\b[Mm]end(?:s|ed|ing)\b|\b[Mm]end [a-z]+", "fix"),
    (r"\bby (?:itself|themselves)\b", "automatically"),
    (
        r"\bof which (?:nothing|nobody|something|any|no|so|every|the log|it|clients|health|PostgreSQL)\b",
        "subject, verb, object: begin a new sentence or use whose, that",
    ),
    (r"\b[Tt]urn(?:s|ed|ing)? away\b", "reject"),
    (r"\b[Ff]inds? no place\b", "exceeds the limit"),
    (r"\bhad (?:its|their) time\b", "exceeded the time limit"),
    (r"\bgoes by\b", "uses, depends on"),
    (r"\bc(?:omes?|ame) to (?:(?:an|its|their|the) end|nothing|that|rest)\b", "end, finish, have no effect"),
    (r"\bwhat (?:an? [a-z]+|they|it) c(?:omes?|ame) to\b", "the result of"),
    (r"\b(?:tell|of|makes|drops?) doubles\b|\bdoubles (?:are|by)\b", "duplicates"),
    (r"\bsays? so\b", "reports it, is marked as such"),
    (r"\b[Ii]t (?:is|was) made\b", "was created"),
    (r"\b[Ww]hat (?:is|was) made\b", "what is created"),
    (
        r"\b(?:tickets?|transactions?|deliver(?:y|ies)|queues?|scrips?|users?|tokens?|plans?|fields?|databases?|clusters?|versions?|parts?) (?:is|are|was|were|be) made\b",
        "created",
    ),
    (
        r"\b[Mm]ak(?:e|es|ing) (?:an?|one|no|new) (?:new )?(?:tickets?|transactions?|queues?|scrips?|users?|tokens?|fields?|connectors?|databases?|versions?)\b",
        "create",
    ),
    (r"\b[Tt]ells? (?:of|whether|what|when|only|how|once)\b", "reports, returns, describes, determines"),
    (r"\banew\b", "again"),
    (r"\ball the same\b", "anyway"),
    (r"\blet(?:s|ting)? go\b", "release"),
    (r"\bcalled off\b", "cancelled"),
    (r"\bstr(?:ike|uck|ikes) (?:it|from|off|here|there|out)\b", "remove"),
    (r"\b[Ll]et(?:s|ting)? in\b", "accept"),
    (
        r"\b(?:Not now|Who are you|[Cc]annot be right)\b",
        "service busy, authentication required, invalid request",
    ),
    (r"\bmust hold does not hold\b", "precondition failed"),
    (r"\b(?:refused|fail(?:s|ed)?) so\b", "with this error"),
    (r"\bwho wants? to know\b", "name the log level or the reader"),
    (r"\bever (?:came|comes) for\b", "has served yet"),
    (
        r"\b(?:it|that|they|which|who|this|mail|delivery|webhook|scrip|request|secret|null|back) (?:is|are|was|were) no (?:candidates?|mail|webhook|users?|update|change|attempt|backup|history|trouble|violation|value|names?|numbers?|header|link|source|answer|message|work|part|whole|status)\b",
        "is not a (valid) …",
    ),
    (r"\bno such thing\b", "not found"),
    (r"\bopens nothing\b", "is invalid"),
    (r"\b[Ww]hat (?:became|becomes|came|comes) of\b", "the outcome of, the result of"),
    (
        r"\bgo(?:es)? on (?:where|with|without|from|until|by|as|counting|running|meaning|encrypted)\b",
        "continue",
    ),
    (r"\b[Bb]ut for\b", "except (for)"),
    (r"\b[Aa] seldom\b", "rare, uncommon"),
    (r"\b(?:runs?|goe?s?|sends?) aside\b", "on a blocking thread"),
    (r"\b(?:cannot|can|could|to|not) be had\b", "is unavailable, cannot be opened"),
    (r"\b(?:is|are) there already\b", "already exists"),
    (r"\bas if (?:it|they) were not there\b", "are ignored"),
    (
        r"\b(?:[Aa]t most|for|after|until|than|through|only|first|last of|[Dd]raws) so many\b",
        "the given number of, that many",
    ),
    (
        r"\b[Ss]tands? (?:here|there|twice|once|nowhere|literally|unwrapped|beside|neither)\b",
        "is, appears, is listed",
    ),
    (r"\bis no news\b", "is ignored, is not an error"),
    (r"\bblot(?:s|ted|ting)?\b", "redact"),
    (r"\bfaults? of ours\b", "internal error, a bug in Tessera"),
    (r"\bwould be right\b", "is expected, is valid"),
];

/// Reports each occurrence of a rejected phrase in the prose of pages and sources, with its line.
pub fn rejected_phrases(sources: &[Source]) -> Vec<String> {
    // ASCII boundaries keep the search fast in texts that have other characters.
    let patterns = PHRASES.map(|(phrase, _)| phrase.replace(r"\b", r"(?-u:\b)").replace(' ', r"(?:\s+)"));
    let set = RegexSet::new(&patterns).unwrap();
    let each = patterns.map(|pattern| Regex::new(&pattern).unwrap());
    let mut complaints = Vec::new();
    for source in sources {
        let prose = prose(source);
        let mut found: Vec<(usize, String)> = Vec::new();
        for place in set.matches(&prose) {
            for occurrence in each[place].find_iter(&prose) {
                let text = occurrence.as_str().trim_start_matches(|c: char| c == START || c.is_whitespace());
                let line = 1 + prose[..occurrence.end() - text.len()].matches('\n').count();
                let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
                let instead = PHRASES[place].1;
                found.push((line, format!("{}:{line}: \"{words}\"; write: {instead}", source.path)));
            }
        }
        found.sort();
        complaints.extend(found.into_iter().map(|(_, complaint)| complaint));
    }
    complaints
}

/// The text of a file that people read, without code, each line where it was.
fn prose(source: &Source) -> String {
    let extension = source.path.rsplit('.').next().unwrap_or_default();
    match extension {
        "md" => markdown(&source.text),
        "rs" => rust(&source.text),
        "go" | "proto" => comments(&source.text, "//"),
        "toml" => comments(&source.text, "#"),
        "json" => descriptions(&source.text),
        _ => panic!("{}: no rule for the prose of this kind of file", source.path),
    }
}

/// A page without its code blocks and spans.
fn markdown(text: &str) -> String {
    let mut prose = String::new();
    for (part, text) in text.split("```").enumerate() {
        for line in text.split_inclusive('\n') {
            if part % 2 == 0 {
                prose.push_str(&without_code(line));
            } else if line.ends_with('\n') {
                prose.push('\n');
            }
        }
    }
    prose
}

/// A line without its code spans; a backtick stays in place of each.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The comments of a text, each run of lines with [`START`] at its beginning.
fn comments(text: &str, mark: &str) -> String {
    let trailing = format!(" {mark} ");
    let mut prose = String::new();
    let mut is_comment = false;
    for line in text.lines() {
        if let Some(comment) = line.trim_start().strip_prefix(mark) {
            prose.extend((!is_comment).then_some(START));
            prose.push_str(&without_code(comment));
            is_comment = true;
        } else {
            if let Some((_, comment)) = line.split_once(&trailing) {
                prose.push(START);
                prose.push_str(&without_code(comment));
            }
            is_comment = false;
        }
        prose.push('\n');
    }
    prose
}

/// The descriptions of an OpenAPI document that has one member a line, each with [`START`] at its beginning.
fn descriptions(text: &str) -> String {
    let members = ["\"description\": \"", "\"summary\": \"", "\"title\": \""];
    let mut prose = String::new();
    for line in text.lines() {
        if let Some(text) = members.iter().find_map(|member| line.trim_start().strip_prefix(member)) {
            prose.push(START);
            prose.push_str(&without_code(text).replace("\\n", " ").replace("\\\"", " "));
        }
        prose.push('\n');
    }
    prose
}

/// The doc comments and string literals of a Rust source; [`START`] is at the beginning of each doc comment.
fn rust(text: &str) -> String {
    let mut prose = String::new();
    let mut rest = text;
    let mut is_doc = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if let Some(comment) = rest.strip_prefix("//") {
            let line = comment.lines().next().unwrap_or_default();
            rest = &comment[line.len()..];
            if let Some(doc) = line.strip_prefix(['/', '!']).filter(|doc| !doc.starts_with('/')) {
                prose.extend((!is_doc).then_some(START));
                prose.push_str(&without_code(doc));
                is_doc = true;
            }
            continue;
        }
        if c == '\n' {
            // An empty line ends a comment, as code does.
            is_doc &= !prose.ends_with('\n');
            prose.push('\n');
        } else if !c.is_whitespace() {
            is_doc = false;
        }
        rest = match c {
            '"' => literal(after, &mut prose),
            '\'' => character(after),
            c if c.is_alphanumeric() || c == '_' => {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                if matches!(word, "r" | "br" | "cr") { raw_literal(after, &mut prose) } else { after }
            }
            _ => after,
        };
    }
    prose
}

/// Adds the text of a string literal, of which the opening quote is read; returns the rest after it.
fn literal<'t>(text: &'t str, prose: &mut String) -> &'t str {
    prose.push(' ');
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => {
                prose.push_str(" . ");
                return &text[at + 1..];
            }
            '\\' => match characters.next() {
                Some((_, '\n')) => prose.push('\n'),
                Some((_, 'n')) => prose.push_str(". "),
                _ => prose.push(' '),
            },
            c => prose.push(c),
        }
    }
    ""
}

/// Adds the text of a raw string literal, if one follows its prefix; returns the rest after it.
fn raw_literal<'t>(text: &'t str, prose: &mut String) -> &'t str {
    let hashes = text.len() - text.trim_start_matches('#').len();
    let Some(inside) = text[hashes..].strip_prefix('"') else { return text };
    let (inside, rest) = inside.split_once(&format!("\"{}", &text[..hashes])).unwrap_or((inside, ""));
    prose.push(' ');
    prose.push_str(inside);
    prose.push_str(" . ");
    rest
}

/// Returns the rest after a character literal, or after the quote of a lifetime.
fn character(text: &str) -> &str {
    let mut characters = text.chars();
    let (first, second) = (characters.next(), characters.next());
    if first == Some('\\') {
        let escaped = text.char_indices().nth(2).map_or(text.len(), |(at, _)| at);
        text[escaped..].split_once('\'').map_or("", |(_, rest)| rest)
    } else if second == Some('\'') {
        characters.as_str()
    } else {
        text
    }
}

#[cfg(test)]
mod examples {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        rejected_phrases(&[Source { path: path.to_owned(), text: text.to_owned() }])
    }

    #[test]
    fn a_rejected_phrase_is_reported_with_its_line_and_a_suggestion() {
        let text = "# A page\n\nThe user is\ntold the error. It is `mend` in code.\n\n```sh\nmend it\n```\n\nAsk, then mend it.\n";
        let instead = |phrase: &str| PHRASES.iter().find(|(one, _)| one.contains(phrase)).unwrap().1;
        let expected = [
            format!("a.md:3: \"is told\"; write: {}", instead("told")),
            format!("a.md:10: \"mend it\"; write: {}", instead("end(?:s|ed|ing)")),
        ];
        assert_eq!(complaints("a.md", text), expected);
    }

    #[test]
    fn doc_comments_and_literals_of_rust_are_read_and_code_is_not() {
        let wrong = [
            "//! What it is.\n",
            "/// What it is.\nstruct A;",
            "//! A file.\n\n/// What it is.\nstruct A;",
            "/// A field\n/// that is told.\nstruct A;",
            "fn f() { say(\"it is told\") }",
            "fn f() { say(\"it is \\\n    told\") }",
            "fn f() { say(\"a\\n\", 'b', '\\'', '\"', r#\"a \" is told\"#) }",
            "fn f<'a>(x: &'a str) { say(b\"is told\") }",
        ];
        for text in wrong {
            assert_eq!(complaints("a.rs", text).len(), 1, "{text}");
        }
        let right = [
            "/// A field.\n/// What follows is no beginning.\nstruct A;",
            "// What this is.\nfn f() {}",
            "let mend = '\"'; // is told\nlet r = \"\"; fn anew() {}",
            "/// Calls `mend`.\nfn mend() {}",
        ];
        for text in right {
            assert_eq!(complaints("a.rs", text), [""; 0], "{text}");
        }
        let lines = "\n/// A.\nfn f() {\n    let a = \"b\n    c\";\n    say(r\"\n\", \"is told\")\n}";
        assert!(complaints("a.rs", lines)[0].starts_with("a.rs:7: "), "{:?}", complaints("a.rs", lines));
    }

    #[test]
    fn comments_and_descriptions_of_other_files_are_read() {
        let wrong = [
            ("a.proto", "// What it is.\nmessage A {}\n"),
            ("a.proto", "message A {\n  string b = 1; // What it is.\n}\n"),
            ("a.go", "// F is told.\nfunc F() {}\n"),
            ("a.toml", "# Mends it.\na = 1\n"),
            ("a.json", "{\n  \"description\": \"What it is.\"\n}\n"),
            ("a.json", "{\n  \"description\": \"it is told\",\n  \"summary\": \"none\"\n}\n"),
        ];
        for (path, text) in wrong {
            assert_eq!(complaints(path, text).len(), 1, "{text}");
        }
        let right =
            [("a.go", "a := \"is told\"\n"), ("a.toml", "mend = 1\n"), ("a.json", "{\"is told\": 1}\n")];
        for (path, text) in right {
            assert_eq!(complaints(path, text), [""; 0], "{text}");
        }
    }
}
