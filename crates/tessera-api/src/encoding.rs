//! Compression of responses with gzip, and the headers that every response has.
//!
//! A response is compressed whole, before the first byte of it is sent: a compressor takes 300 KB, and would live for as long as
//! the client does not read.

use crate::app::Static;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt as _, stream};
use std::io::{self, Write as _};
use tokio::task::spawn_blocking;

/// Minimum size of a response to compress, in bytes; for smaller ones compression costs more than it saves.
const GZIP_FROM: u64 = 1_024;
/// Size from which a response is compressed on a thread that may block, in bytes: it takes a millisecond.
const BLOCKING_FROM: u64 = 32 * 1_024;

/// Negotiates the content encoding, compresses the response, and adds the headers that every response has.
pub async fn frame(mut request: Request, next: Next) -> Response {
    // A client that accepts neither gzip nor identity gets an uncompressed response, which RFC 9110 (12.5.3) permits.
    let accepts_gzip = accepts_gzip(request.headers());
    request.headers_mut().remove(header::ACCEPT_ENCODING);
    if accepts_gzip {
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let mut response = next.run(request).await;
    if is_compressible(&response) {
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if accepts_gzip {
            response = compress(response).await;
        }
    }
    let headers = response.headers_mut();
    weaken_tag(headers);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn is_compressible(response: &Response) -> bool {
    let is_large = response.body().size_hint().exact().is_none_or(|size| size >= GZIP_FROM);
    // Documents that all responses share are compressed already, if that makes them smaller.
    let is_static = response.extensions().get::<Static>().is_some();
    is_large && !is_static && !response.headers().contains_key(header::CONTENT_ENCODING)
}

async fn compress(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = match body.size_hint().exact() {
        None => gzip_parts(body),
        Some(size) => {
            // The length is known, so the body is there already.
            let Ok(plain) = to_bytes(body, usize::MAX).await else {
                return Response::from_parts(parts, Body::empty());
            };
            let packed = if size < BLOCKING_FROM {
                gzip(&plain)
            } else {
                let plain = plain.clone();
                spawn_blocking(move || gzip(&plain))
                    .await
                    .unwrap_or_else(|error| Err(io::Error::other(error)))
            };
            // Writing into memory does not fail; without the compressed form, the plain one is as good.
            let Ok(packed) = packed else { return Response::from_parts(parts, Body::from(plain)) };
            Body::from(packed)
        }
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Response::from_parts(parts, body)
}

/// Compresses a document.
///
/// # Errors
/// None while memory can be written.
pub fn gzip(plain: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain)?;
    encoder.finish().map(Bytes::from)
}

/// Compresses a body that is generated while it is sent ([`crate::server::Streamed`]), so that each part can be read when it arrives.
fn gzip_parts(body: Body) -> Body {
    let begun = Some((body.into_data_stream(), GzEncoder::new(Vec::new(), Compression::default())));
    let parts = stream::unfold(begun, |state| async move {
        let (mut parts, mut encoder) = state?;
        let part = match parts.next().await {
            Some(part) => part,
            None => return Some((encoder.finish().map(Bytes::from), None)),
        };
        let packed = part.map_err(io::Error::other).and_then(|part| {
            encoder.write_all(&part)?;
            encoder.flush()?;
            Ok(Bytes::from(std::mem::take(encoder.get_mut())))
        });
        let is_good = packed.is_ok();
        Some((packed, is_good.then_some((parts, encoder))))
    });
    Body::from_stream(parts)
}

/// Returns whether a client accepts gzip: it lists it with a weight above 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|list| list.to_str().ok());
    let items: Vec<&str> = lists.flat_map(|list| list.split(',')).collect();
    let weight_of = |wanted: &str| {
        items.iter().find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            parts.next().filter(|name| name.eq_ignore_ascii_case(wanted))?;
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            Some(weight.map_or(1.0, |text| text.parse().unwrap_or(0.0)))
        })
    };
    weight_of("gzip").or_else(|| weight_of("*")).is_some_and(|weight: f64| weight > 0.0)
}

/// Weakens the ETag of a compressed response, which has the same content in different bytes. If-Match accepts it anyway.
fn weaken_tag(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONTENT_ENCODING) {
        return;
    }
    let weak = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| tag.starts_with('"'));
    if let Some(weak) = weak.and_then(|tag| HeaderValue::from_str(&format!("W/{tag}")).ok()) {
        headers.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_only_for_clients_that_accept_it() {
        for (text, accepts) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("*", true),
            ("*;q=0, gzip", true),
            ("gzip;q=0, *", false),
            ("gzip;q=0.000", false),
            ("br", false),
            ("identity;q=0", false),
            ("gzip;q=many", false),
            ("xgzip", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(text))]);
            assert_eq!(accepts_gzip(&headers), accepts, "{text:?}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn only_a_compressed_response_has_a_weak_tag() {
        let mut headers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("\"7\""))]);
        weaken_tag(&mut headers);
        assert_eq!(headers[header::ETAG], "\"7\"");
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        for _ in 0..2 {
            weaken_tag(&mut headers);
            assert_eq!(headers[header::ETAG], "W/\"7\"");
        }
    }
}
