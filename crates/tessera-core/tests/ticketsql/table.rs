//! Reads the tables of queries with their results or errors.

use std::fmt::Write;

/// A query and its expected result.
#[derive(Debug, Clone)]
pub struct Case {
    /// The file and the line of the query.
    pub place: String,
    pub query: String,
    pub zone: String,
    pub asker: String,
    pub is_rt: bool,
    pub is_condition: bool,
    pub answer: Answer,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Finds { tickets: Vec<i64>, source: String },
    Refused { at: String, message: String, hint: String },
}

/// The tables of valid queries, by file.
pub const FINDS: [(&str, &str); 4] = [
    ("ticket.txt", include_str!("tables/ticket.txt")),
    ("people.txt", include_str!("tables/people.txt")),
    ("dates.txt", include_str!("tables/dates.txt")),
    ("sets.txt", include_str!("tables/sets.txt")),
];
/// The tables of invalid queries.
pub const REFUSED: [(&str, &str); 6] = [
    ("refused_operators.txt", include_str!("tables/refused_operators.txt")),
    ("refused_grammar.txt", include_str!("tables/refused_grammar.txt")),
    ("refused_names.txt", include_str!("tables/refused_names.txt")),
    ("refused_values.txt", include_str!("tables/refused_values.txt")),
    ("refused_dates.txt", include_str!("tables/refused_dates.txt")),
    ("refused_conditions.txt", include_str!("tables/refused_conditions.txt")),
];

/// Returns the cases of a table: blocks between empty lines, except those that begin with `#`.
pub fn cases((file, text): (&str, &str)) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut line = 1;
    for block in text.split("\n\n") {
        let place = format!("{file}:{line}");
        line += block.matches('\n').count() + 2;
        if !block.trim().starts_with('#') && !block.trim().is_empty() {
            cases.push(case(place, block.trim_matches('\n')));
        }
    }
    cases
}

fn case(place: String, block: &str) -> Case {
    let mut case = Case {
        place,
        query: String::new(),
        zone: "UTC".to_owned(),
        asker: "ann".to_owned(),
        is_rt: false,
        is_condition: false,
        answer: Answer::Finds { tickets: Vec::new(), source: String::new() },
    };
    let (mut query, mut refusal) = (Vec::new(), Vec::new());
    for line in block.lines() {
        if let Some(setting) = line.strip_prefix("@ ") {
            match setting.split_once('=').unwrap_or((setting, "")) {
                ("zone", zone) => case.zone = zone.to_owned(),
                ("asker", asker) => case.asker = asker.to_owned(),
                ("dialect", "rt") => case.is_rt = true,
                ("condition", "") => case.is_condition = true,
                ("empty", "") => {}
                other => panic!("{}: {other:?}", case.place),
            }
        } else if let Some((numbers, source)) =
            line.strip_prefix("= ").and_then(|found| found.split_once(" | "))
        {
            assert!(source == "naive" || source.starts_with("hand: "), "{}: from where?", case.place);
            case.answer = Answer::Finds { tickets: expand(numbers), source: source.to_owned() };
        } else if let Some(part) = line.strip_prefix('!') {
            refusal.push(part.trim());
        } else {
            query.push(line);
        }
    }
    if let [at, message, hint] = refusal.as_slice() {
        let [at, message, hint] = [at, message, hint].map(|part| (*part).to_owned());
        case.answer = Answer::Refused { at, message, hint };
    }
    case.query = query.join("\n");
    case
}

/// Expands ranges: `1-3 7` is 1, 2, 3 and 7.
fn expand(numbers: &str) -> Vec<i64> {
    let numbers = numbers.split_whitespace().filter(|word| *word != "none");
    let ranges = numbers.map(|word| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        first.parse::<i64>().unwrap()..=last.parse().unwrap()
    });
    ranges.flatten().collect()
}

/// The inverse of [`expand`].
pub fn contract(numbers: &[i64]) -> String {
    let mut text = String::new();
    let mut rest = numbers;
    while let Some((first, _)) = rest.split_first() {
        let run = (*first..).zip(rest).take_while(|(expected, number)| expected == *number).count();
        let (run, after) = rest.split_at(run);
        match run {
            [only] => write!(text, " {only}").unwrap(),
            [first, second] => write!(text, " {first} {second}").unwrap(),
            [first, .., last] => write!(text, " {first}-{last}").unwrap(),
            [] => unreachable!(),
        }
        rest = after;
    }
    if text.is_empty() { "none".to_owned() } else { text.trim().to_owned() }
}
