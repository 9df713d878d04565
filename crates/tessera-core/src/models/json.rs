//! Strict JSON: reads values in which no object repeats a member, because JSON leaves open which of the two counts.

use super::text::quote;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

/// The members of an object that are compared one by one; beyond them, hashing is faster.
const COMPARED_MAX: usize = 16;

/// Reads a whole JSON text. Refuses an object that repeats a member, at any depth, also where `T` would ignore it.
///
/// # Errors
/// Those of `serde_json`; a member is repeated.
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> serde_json::Result<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = T::deserialize(Unique(&mut json))?;
    json.end()?;
    Ok(value)
}

/// A deserializer, visitor, seed or access that refuses repeated members on every level below it. It reads in the same pass, so
/// that no type has to remember to ask for it.
#[derive(Debug, Clone, Copy)]
pub struct Unique<T>(pub T);

macro_rules! forward {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
                self.0.$method($($argument,)* Unique(visitor))
            }
        )*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Unique<D> {
    type Error = D::Error;

    forward! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
    }

    /// A reader that ignores a value would not look into it.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($type:ty);)*) => {
        $(
            fn $method<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
                self.0.$method(value)
            }
        )*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Unique<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    visit! {
        visit_bool(bool);
        visit_i8(i8);
        visit_i16(i16);
        visit_i32(i32);
        visit_i64(i64);
        visit_i128(i128);
        visit_u8(u8);
        visit_u16(u16);
        visit_u32(u32);
        visit_u64(u64);
        visit_u128(u128);
        visit_f32(f32);
        visit_f64(f64);
        visit_char(char);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_bytes(&[u8]);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Unique(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Unique(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Unique(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Members { members, seen: Seen::default() })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Unique(access))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Unique<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Unique(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Unique<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Unique(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Unique<A> {
    type Error = A::Error;
    type Variant = Unique<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.0.variant_seed(seed)?;
        Ok((value, Unique(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Unique<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Unique(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Unique(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Unique(visitor))
    }
}

/// The members of an object, each of which is checked against the names before it.
struct Members<'de, A> {
    members: A,
    seen: Seen<'de>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<'de, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(Name(name)) = self.members.next_key()? else { return Ok(None) };
        let value = seed.deserialize(Key::new(name.clone()))?;
        if self.seen.insert(name.clone()) {
            return Ok(Some(value));
        }
        Err(de::Error::custom(format!("{} is repeated; keep one", quote(&name))))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.members.next_value_seed(Unique(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.members.size_hint()
    }
}

/// The names of an object so far.
#[derive(Default)]
struct Seen<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Seen<'de> {
    /// Adds a name; false if it was added before.
    fn insert(&mut self, name: Cow<'de, str>) -> bool {
        if self.many.is_empty() && self.few.len() < COMPARED_MAX {
            let is_new = !self.few.contains(&name);
            self.few.push(name);
            return is_new;
        }
        self.many.extend(self.few.drain(..));
        self.many.insert(name)
    }
}

/// The name of a member, borrowed from the text unless it contains an escape.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }

            fn visit_string<E>(self, name: String) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name)))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// The name of a member as a deserializer.
struct Key<'de, E> {
    name: Cow<'de, str>,
    error: std::marker::PhantomData<E>,
}

impl<'de, E> Key<'de, E> {
    fn new(name: Cow<'de, str>) -> Self {
        Self { name, error: std::marker::PhantomData }
    }
}

impl<'de, E: de::Error> Deserializer<'de> for Key<'de, E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        match self.name {
            Cow::Borrowed(name) => visitor.visit_borrowed_str(name),
            Cow::Owned(name) => visitor.visit_string(name),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, E> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, E> {
        de::value::CowStrDeserializer::new(self.name).deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// One of each place in which serde buffers, ignores or hands on what it reads.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Every {
        #[serde(default)]
        any: Value,
        #[serde(default)]
        some: Option<Value>,
        #[serde(default)]
        list: Vec<Value>,
        #[serde(default)]
        map: std::collections::BTreeMap<String, Value>,
        #[serde(default)]
        wrapped: Wrapped,
        #[serde(default)]
        either: Option<Either>,
        #[serde(default)]
        tagged: Option<Tagged>,
        #[serde(default)]
        one: Option<One>,
        #[serde(flatten)]
        more: std::collections::BTreeMap<String, Value>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Wrapped(Value);

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Object { a: Value },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        A { a: Value },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    enum One {
        Struct { a: Value },
        Newtype(Value),
    }

    #[test]
    fn a_repeated_member_is_refused_wherever_it_stands() {
        let twice = r#"{"a": {}, "a": {}}"#;
        for place in [
            r#"{"any": TWICE}"#,
            r#"{"any": [[{"x": TWICE}]]}"#,
            r#"{"some": TWICE}"#,
            r#"{"list": [1, TWICE]}"#,
            r#"{"map": {"x": TWICE}}"#,
            r#"{"map": TWICE}"#,
            r#"{"wrapped": TWICE}"#,
            r#"{"either": TWICE}"#,
            r#"{"either": {"a": TWICE}}"#,
            r#"{"tagged": {"kind": "A", "a": TWICE}}"#,
            r#"{"one": {"Struct": TWICE}}"#,
            r#"{"one": {"Newtype": TWICE}}"#,
            r#"{"unknown": TWICE}"#,
            "TWICE",
            // The same name, spelled with an escape.
            r#"{"any": {"\u0061": 1, "a": 2}}"#,
        ] {
            let text = place.replace("TWICE", twice);
            let error = from_slice::<Every>(text.as_bytes()).expect_err(place).to_string();
            assert!(error.starts_with("\"a\" is repeated"), "{place}: {error}");
        }
        let ignored = from_slice::<de::IgnoredAny>(twice.as_bytes()).map(drop).unwrap_err().to_string();
        assert!(ignored.starts_with("\"a\" is repeated"), "{ignored}");
    }

    #[test]
    fn everything_else_is_read_as_serde_json_reads_it() {
        let text = r#"{"any": {"b": [1, -2, 3.5, 18446744073709551615, "t\u00e9", null, true], "a": {"b": {}}}, "some": null,
            "list": [{"x": 1}, {"x": 1}], "map": {"x": 1, "X": 2}, "wrapped": {"a": 1}, "either": {"a": 1},
            "tagged": {"kind": "A", "a": 1}, "one": {"Struct": {"a": 1}}, "more": {"x": {"x": 1}}}"#;
        let (strict, plain) = (from_slice::<Every>(text.as_bytes()), serde_json::from_str::<Every>(text));
        assert_eq!(strict.unwrap(), plain.unwrap());
        let (strict, plain) = (from_slice::<Value>(text.as_bytes()), serde_json::from_str::<Value>(text));
        assert_eq!(strict.unwrap(), plain.unwrap());
        for bad in ["", "{", r#"{"any" 1}"#, r#"{"any": 1} x"#, r#"{"list": 3}"#, &"[".repeat(200)] {
            let (strict, plain) = (from_slice::<Every>(bad.as_bytes()), serde_json::from_str::<Every>(bad));
            assert_eq!(strict.unwrap_err().to_string(), plain.unwrap_err().to_string(), "{bad}");
        }
    }

    #[test]
    fn an_object_of_many_members_is_read_in_linear_time_and_its_last_member_is_compared_with_its_first() {
        let members = |count: usize| (0..count).map(|at| format!("\"m{at}\": 1")).collect::<Vec<_>>();
        for count in [COMPARED_MAX - 1, COMPARED_MAX, COMPARED_MAX + 1, 20_000] {
            let unique = format!("{{{}}}", members(count).join(","));
            assert_eq!(from_slice::<Value>(unique.as_bytes()).unwrap().as_object().unwrap().len(), count);
            let twice = format!("{{{}, \"m0\": 1}}", members(count).join(","));
            assert!(from_slice::<Value>(twice.as_bytes()).is_err(), "{count}");
        }
        assert_eq!(from_slice::<Value>(b"{}").unwrap(), json!({}));
    }
}
