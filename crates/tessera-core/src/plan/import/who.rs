//! People on a line: a username, a mail address, or both, as mail programs write them.

use crate::models::User;
use crate::models::text::{ADDRESS_MAX, NAME_MAX, fold, is_address, line_fault, name_fault, quote, typed};
use crate::models::user::NOBODY;
use crate::plan::People;
use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

/// The forms of a person, for messages.
const FORMS: &str = "write a username, an address, or Eve Moore <eve@example.net>";

/// A person on a line: a username, an email address, or both as in `Eve Moore <eve@example.net>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who<'w> {
    /// The username, or the address if only that is given.
    pub username: Cow<'w, str>,
    /// The address, which identifies the person if it is given.
    pub address: Option<Cow<'w, str>>,
    /// True if only an address is given. Such a watcher need not be a user.
    pub is_bare: bool,
}

impl<'w> Who<'w> {
    /// Parses a person as RFC 5322 writes a mailbox (`"Moore, Eve" <eve@example.net>`, `<eve@example.net>`,
    /// `eve@example.net (Eve Moore)`), or a username.
    ///
    /// # Errors
    /// The reason, and how to name a person: what has an `@` is one mail address, and a string is one person.
    pub fn parse(word: &'w str) -> Result<Self, String> {
        let word = typed(word);
        if is_address(&word) {
            return Ok(Self { username: word.clone(), address: Some(word), is_bare: true });
        }
        if !word.contains(['"', '<', '>', '@', ';']) {
            return Self::of(word, None);
        }
        let Mailbox { name, address, .. } = Mailbox::parse(&word)?;
        match address {
            None => Self::of(Cow::Owned(name), None),
            Some(address) if !is_address(&address) => {
                Err(format!("{} is not a mail address; {FORMS}", quote(&address)))
            }
            Some(address) if name.is_empty() => {
                let address = Cow::<str>::Owned(address);
                Ok(Self { username: address.clone(), address: Some(address), is_bare: true })
            }
            Some(address) => Self::of(Cow::Owned(name), Some(Cow::Owned(address))),
        }
    }

    fn of(username: Cow<'w, str>, address: Option<Cow<'w, str>>) -> Result<Self, String> {
        if let Some(fault) = name_fault(&username) {
            return Err(format!("{} {fault}", quote(&username)));
        }
        if fold(&username) == fold(NOBODY) {
            return Err(format!("{NOBODY} means no owner, so it cannot name a person"));
        }
        // A user with such a name would be taken for an address, and get no mail.
        if address.is_none() && username.contains('@') {
            return Err(format!("{} is not a mail address; {FORMS}", quote(&username)));
        }
        Ok(Self { username, address, is_bare: false })
    }

    /// Returns the user, if this person is one: an address identifies a person. A user without an address is found by name.
    pub fn find<'p>(&self, people: &'p People) -> Option<&'p User> {
        match &self.address {
            None => people.find(&self.username),
            Some(address) => people
                .at(address)
                .or_else(|| people.called(address).filter(|user| user.email.is_none()))
                .or_else(|| people.called(&self.username).filter(|user| user.email.is_none())),
        }
    }

    /// Returns the words by which the user can be found.
    pub fn words(self) -> impl Iterator<Item = Cow<'w, str>> {
        [self.username].into_iter().chain(self.address.filter(|_| !self.is_bare))
    }

    /// Returns the words that only this person has: the address, or else the username.
    pub fn identity(&self) -> String {
        fold(self.address.as_ref().unwrap_or(&self.username))
    }

    /// Returns the form of a user with an address, from which an import creates the same user.
    pub fn named(username: &str, address: &str) -> String {
        let is_special = username.contains(['"', '(', ')', '<', '>', ',', ';', '\\']);
        if !is_special && words(username) == username {
            return format!("{username} <{address}>");
        }
        let escaped = username.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\" <{address}>")
    }
}

/// A mailbox taken apart, without quotes and comments.
#[derive(Debug, Default)]
struct Mailbox {
    name: String,
    address: Option<String>,
    comment: String,
}

impl Mailbox {
    fn parse(word: &str) -> Result<Self, String> {
        let several = || {
            "names several people; make each of them an item of the list, and put a name with a comma in quotes"
                .to_owned()
        };
        let (mut it, mut has_comma, mut is_quoted) = (Self::default(), false, false);
        let mut chars = word.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' => {
                    is_quoted = true;
                    it.name.push_str(&until(&mut chars, '"', None)?);
                }
                '(' => it.comment.push_str(&until(&mut chars, ')', Some('('))?),
                '<' if it.address.is_some() => return Err(several()),
                '<' => it.address = Some(until(&mut chars, '>', None)?.trim().to_owned()),
                ')' | '>' => return Err(format!("has a {c} without its beginning; {FORMS}")),
                ';' => return Err(several()),
                c => {
                    has_comma |= c == ',';
                    it.name.push(c);
                }
            }
        }
        let is_several = has_comma && (it.address.is_some() || it.name.contains('@'));
        if is_several {
            return Err(several());
        }
        it.name = if is_quoted { it.name.trim().to_owned() } else { words(&it.name) };
        if it.address.is_none() && is_address(&it.name) {
            it.address = Some(std::mem::replace(&mut it.name, words(&it.comment)));
        }
        Ok(it)
    }
}

/// Reads up to the end of a quoted text, a comment or an address, without its escapes. Comments can be nested.
fn until(chars: &mut Peekable<Chars<'_>>, end: char, nested: Option<char>) -> Result<String, String> {
    let (mut text, mut depth) = (String::new(), 0_usize);
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.extend(chars.next()),
            c if c == end && depth == 0 => return Ok(text),
            c => {
                if c == end {
                    depth -= 1;
                }
                if Some(c) == nested {
                    depth += 1;
                }
                text.push(c);
            }
        }
    }
    Err(format!("lacks the {end} that ends a part of it; {FORMS}"))
}

/// The words of a name, with one space between them.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Checks that the length and characters of a word allow it to name a person.
pub(super) fn person_fault(word: &str) -> Option<String> {
    // A quoted name can have an escape before each character.
    const MAX: usize = 2 * NAME_MAX + ADDRESS_MAX + "\"\" <>".len();
    let word = typed(word);
    line_fault(&word, MAX).or_else(|| Who::parse(&word).err())
}

/// Checks the same for a person who becomes a user. A bare address becomes the username.
pub(super) fn maker_fault(word: &str) -> Option<String> {
    person_fault(word).or_else(|| {
        let username = Who::parse(word).ok()?.username;
        line_fault(&username, NAME_MAX).map(|fault| format!("{} {fault}", quote(&username)))
    })
}
