//! The address guard: which addresses a webhook may reach. It is applied when a scrip is saved, and again to every address
//! before connecting.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use url::{Host, Url};

/// The setting that allows more addresses, in the file and as an environment variable.
const SETTING: &str = "webhook.allow (TESSERA_WEBHOOK__ALLOW)";

/// IPv4 networks that are not public, with a description.
const REFUSED_V4: [(Ipv4Net, &str); 18] = [
    (v4(0, 0, 0, 0, 8), "an address of \"this network\""),
    (v4(10, 0, 0, 0, 8), "a private address"),
    (v4(100, 64, 0, 0, 10), "a shared (carrier-grade NAT) address"),
    (v4(127, 0, 0, 0, 8), "a loopback address"),
    (v4(168, 63, 129, 16, 32), "the platform address of a cloud"),
    (v4(169, 254, 0, 0, 16), "a link-local (cloud metadata) address"),
    (v4(172, 16, 0, 0, 12), "a private address"),
    (v4(192, 0, 0, 0, 24), "an address reserved for protocols"),
    (v4(192, 0, 2, 0, 24), "a documentation address"),
    (v4(192, 31, 196, 0, 24), "an address reserved for protocols"),
    (v4(192, 88, 99, 0, 24), "a 6to4 relay address"),
    (v4(192, 168, 0, 0, 16), "a private address"),
    (v4(198, 18, 0, 0, 15), "a benchmarking address"),
    (v4(198, 51, 100, 0, 24), "a documentation address"),
    (v4(203, 0, 113, 0, 24), "a documentation address"),
    (v4(224, 0, 0, 0, 4), "a multicast address"),
    (v4(255, 255, 255, 255, 32), "the broadcast address"),
    (v4(240, 0, 0, 0, 4), "a reserved (class E) address"),
];

/// IPv6 networks that are not public, with a description; other rules cover the forms that contain an IPv4 address and everything
/// outside 2000::/3.
const REFUSED_V6: [(Ipv6Net, &str); 11] = [
    (v6([0; 8], 128), "the unspecified address"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "a loopback address"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "a unique local address"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "a link-local address"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "a site-local address"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "a multicast address"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "a discard address"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "an address reserved for protocols"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "a documentation address"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "a documentation address"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "a segment routing address"),
];

/// The part of IPv6 that is allocated to the public Internet.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(s: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = s;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// The refusal of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The address as an operator would have to allow it: an IPv4-mapped IPv6 address is converted to IPv4.
    pub ip: IpAddr,
    /// A description of the kind of address.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let net = IpNet::from(self.ip);
        write!(
            f,
            "{} is {}, which webhooks may not reach; to allow it, add \"{net}\" to {SETTING}",
            self.ip, self.reason
        )
    }
}

impl std::error::Error for Refused {}

/// The addresses that webhooks may reach: every public address, and the networks that the operator allows.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allow: Vec<IpNet>,
}

impl Guard {
    /// Creates a guard with the operator's allow list.
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self { allow }
    }

    /// Checks that webhooks may reach an address.
    ///
    /// For an IPv4-mapped address (`::ffff:127.0.0.1`), the IPv4 address in it must be in the allow list, because that is the
    /// address of the connection. A compatible, NAT64, 6to4 or Teredo address needs its own entry, and the IPv4 address in it
    /// must be allowed as well: allowing `64:ff9b::/96` for a network without IPv4 does not allow `127.0.0.1`.
    pub fn check(&self, ip: IpAddr) -> Result<(), Refused> {
        match ip {
            IpAddr::V4(ip) => self.check_v4(ip),
            IpAddr::V6(ip) => self.check_v6(ip),
        }
    }

    /// Checks the parts of a webhook's URL that are known before connecting: the scheme, the absence of a user and password, and
    /// a host that is a literal address or `localhost`. The error is a sentence for the user who saves the scrip.
    pub fn check_url_at_save(&self, url: &Url) -> Result<(), String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!(
                "A webhook's URL must begin with http:// or https://, not {}:.",
                url.scheme()
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("A webhook's URL must not contain a user or password; store them as a secret and use it in a header."
                .to_owned());
        }
        match url.host() {
            None => Err("A webhook's URL needs a host.".to_owned()),
            Some(Host::Domain(name)) if is_localhost(name) => self.check_localhost(name),
            Some(Host::Domain(_)) => Ok(()),
            Some(_) => self.check_literal(url).map_err(|refused| refused.to_string()),
        }
    }

    /// Checks a host that is a literal address. It is checked before connecting because it does not pass the resolver.
    pub fn check_literal(&self, url: &Url) -> Result<(), Refused> {
        match url.host() {
            Some(Host::Ipv4(ip)) => self.check_v4(ip),
            Some(Host::Ipv6(ip)) => self.check_v6(ip),
            _ => Ok(()),
        }
    }

    fn check_localhost(&self, name: &str) -> Result<(), String> {
        let reachable = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        if reachable.into_iter().any(|ip| self.check(ip).is_ok()) {
            return Ok(());
        }
        Err(format!(
            "{name} is this machine itself, which webhooks may not reach; to allow it, add \"127.0.0.0/8\" to {SETTING}"
        ))
    }

    fn check_v4(&self, ip: Ipv4Addr) -> Result<(), Refused> {
        match REFUSED_V4.iter().find(|(net, _)| net.contains(&ip)) {
            Some((_, reason)) => self.unless_allowed(ip.into(), *reason),
            None => Ok(()),
        }
    }

    fn check_v6(&self, ip: Ipv6Addr) -> Result<(), Refused> {
        if let Some(inner) = ip.to_ipv4_mapped() {
            return self.unless_allowed(inner.into(), "an IPv4 address mapped into IPv6");
        }
        if let Some((inner, form)) = embedded(ip) {
            self.unless_allowed(ip.into(), format!("the {form} form of {inner}"))?;
            return self.check_v4(inner);
        }
        match REFUSED_V6.iter().find(|(net, _)| net.contains(&ip)) {
            Some((_, reason)) => self.unless_allowed(ip.into(), *reason),
            None if GLOBAL_V6.contains(&ip) => Ok(()),
            None => self.unless_allowed(ip.into(), "an address outside the public Internet"),
        }
    }

    fn unless_allowed(&self, ip: IpAddr, reason: impl Into<String>) -> Result<(), Refused> {
        if self.allow.iter().any(|net| net.contains(&ip)) {
            return Ok(());
        }
        Err(Refused { ip, reason: reason.into() })
    }
}

/// Returns the IPv4 address to which a translator or tunnel would send, and the name of the form.
fn embedded(ip: Ipv6Addr) -> Option<(Ipv4Addr, &'static str)> {
    match ip.segments() {
        // `::` and `::1` do not contain an IPv4 address.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0, high, low] => Some((v4_of(high, low), "IPv4-compatible")),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((v4_of(high, low), "NAT64")),
        [0x64, 0xff9b, 1, .., high, low] => Some((v4_of(high, low), "local NAT64")),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some((v4_of(high, low), "translated")),
        [0x2002, high, low, ..] => Some((v4_of(high, low), "6to4")),
        // Teredo inverts every bit of the client's address.
        [0x2001, 0, .., high, low] => Some((v4_of(!high, !low), "Teredo")),
        _ => None,
    }
}

fn v4_of(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// A resolver that returns only allowed addresses, so that the checked address is the address of the connection.
pub struct GuardedResolver {
    guard: Guard,
    inner: Arc<dyn Resolve>,
}

impl GuardedResolver {
    /// Applies the guard to the results of `inner`.
    pub fn new(guard: Guard, inner: Arc<dyn Resolve>) -> Self {
        Self { guard, inner }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.guard.clone();
        let answer = self.inner.resolve(name);
        Box::pin(async move {
            let mut refusal = None;
            let mut allowed = Vec::new();
            for address in answer.await? {
                match guard.check(address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(refused) => refusal = Some(refused),
                }
            }
            match refusal {
                Some(refused) if allowed.is_empty() => Err(refused.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// The resolver of the operating system.
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // Port 0 is replaced by the port of the URL.
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
