//! Webhook signatures as defined by Standard Webhooks: HMAC-SHA256 over id, time and body.

use crate::models::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::ops::RangeInclusive;

/// The header with the delivery's id, the same at every attempt, so that receivers can detect duplicates.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of the attempt, in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// The prefix of a signing secret.
const PREFIX: &str = "whsec_";
/// The valid lengths of a key, in bytes.
const KEY_BYTES: RangeInclusive<usize> = 24..=64;

/// A key that signs webhooks.
#[derive(Clone)]
pub struct SigningKey(Vec<u8>);

impl SigningKey {
    /// Parses `whsec_` followed by the base64 of 24 to 64 bytes. The error describes the expected form and contains nothing of
    /// the secret.
    pub fn parse(secret: &Secret) -> Result<Self, String> {
        let wanted = "a signing secret is \"whsec_\" followed by the base64 of 24 to 64 random bytes";
        let encoded = secret
            .expose()
            .strip_prefix(PREFIX)
            .ok_or_else(|| format!("it does not begin with \"whsec_\"; {wanted}"))?;
        let key = STANDARD
            .decode(encoded)
            .map_err(|_| format!("what follows \"whsec_\" is not base64; {wanted}"))?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err(format!("its key has {} bytes; {wanted}", key.len()));
        }
        Ok(Self(key))
    }

    /// Returns the value of `webhook-signature`: `v1,` followed by base64. `id` must not contain a dot; a delivery's id never does.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_library_makes_the_same_signature() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let key = SigningKey::parse(&Secret::new(secret)).unwrap();
        let official = standardwebhooks::Webhook::new(secret).unwrap();
        for body in ["{\"test\": 2432232314}", "", "ü\n\u{1f980}"] {
            let ours = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body.as_bytes());
            let theirs =
                official.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body.as_bytes()).unwrap();
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn the_vector_of_the_specification_holds() {
        let key = SigningKey::parse(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_of_another_shape_is_refused_without_being_repeated() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (secret, why) in [
            ("canary".to_owned(), "does not begin"),
            ("whsec_canary!".to_owned(), "not base64"),
            (of(23), "23 bytes"),
            (of(65), "65 bytes"),
        ] {
            let refusal = SigningKey::parse(&Secret::new(&*secret)).unwrap_err();
            assert!(refusal.contains(why) && !refusal.contains("canary"), "{refusal}");
        }
        assert!(
            SigningKey::parse(&Secret::new(of(24))).is_ok()
                && SigningKey::parse(&Secret::new(of(64))).is_ok()
        );
        let shown = format!("{:?}", SigningKey::parse(&Secret::new(of(32))).unwrap());
        assert_eq!(shown, "SigningKey(…)");
    }
}
