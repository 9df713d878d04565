//! Compression of responses with gzip, and the headers that every response has.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

/// Minimum size of a response to compress, in bytes; for smaller ones compression costs more than it saves.
const GZIP_FROM: u64 = 1_024;

/// Returns the layer that compresses responses.
pub fn gzip() -> CompressionLayer<impl Predicate> {
    CompressionLayer::new().compress_when(SizeAbove::new(GZIP_FROM).and(NotForContentType::IMAGES))
}

/// Negotiates the content encoding, and adds the headers that every response has.
pub async fn frame(mut request: Request, next: Next) -> Response {
    // The compression layer would respond 406 to a client that accepts neither gzip nor identity, after the request was
    // processed. Such a client gets an uncompressed response, which RFC 9110 (12.5.3) permits.
    let accepts_gzip = accepts_gzip(request.headers());
    request.headers_mut().remove(header::ACCEPT_ENCODING);
    if accepts_gzip {
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    weaken_tag(headers);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
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
