//! The address guard against hostile addresses and hostile resolvers.

use super::*;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Every way that was found to write an address that a webhook must not reach.
const HOSTILE: [&str; 130] = [
    // Loopback, as IPv4 in every spelling that some parser takes.
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "127.0.0.2",
    "127.127.127.127",
    "2130706433",
    "0x7f000001",
    "0x7F000001",
    "017700000001",
    "00000017700000001",
    "0x7f.0x0.0x0.0x1",
    "0x7f.1",
    "0177.0.0.1",
    "0177.0.0.01",
    "0177.1",
    "127.0x0.0.1",
    "127.0.0x1",
    "0x7f.0.1",
    "127.00.00.01",
    "0300.0250.0.1",
    "127.65535",
    "0x7f.16777215",
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "127．0．0．1",
    "１２７.0.0.1",
    // This machine by name.
    "localhost",
    "LOCALHOST",
    "localhost.",
    "LocalHost.",
    "a.localhost",
    "x.y.localhost.",
    "%6cocalhost",
    "ｌocalhost",
    "loc\u{ad}alhost",
    "metadata.localhost",
    // This network, private, shared, link-local and metadata.
    "0.0.0.0",
    "0",
    "0x0",
    "00",
    "0.1.2.3",
    "0.0.0.0.",
    "10.0.0.1",
    "10.1",
    "167772161",
    "0xa000001",
    "012.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "0xac100001",
    "192.168.0.1",
    "192.168.1",
    "3232235521",
    "0xc0a80001",
    "0300.0xa8.1",
    "100.64.0.1",
    "100.127.255.255",
    "100.100.100.200",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "169.254.170.2",
    "169.254.0.1",
    "168.63.129.16",
    "2822734096",
    "0xa83f8110",
    // Reserved, documentation, benchmarking, multicast, class E, broadcast.
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.31.196.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "250.1.2.3",
    "255.255.255.255",
    "4294967295",
    "0xffffffff",
    // IPv6 proper.
    "[::]",
    "[::0]",
    "[0:0:0:0:0:0:0:0]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000::0001]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fdff::1]",
    "[fe80::1]",
    "[febf::1]",
    "[fec0::1]",
    "[feff::1]",
    "[ff02::1]",
    "[ff0e::1]",
    "[100::1]",
    "[2001:2::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[5f00::1]",
    "[4000::1]",
    "[200::1]",
    // IPv4 inside IPv6.
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:169.254.169.254]",
    "[0:0:0:0:0:ffff:10.0.0.1]",
    "[::ffff:8.8.8.8]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::8.8.8.8]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::127.0.0.1]",
    "[64:ff9b:1:fffe::10.0.0.1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2002:808:808::1]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[2001::1]",
];

#[test]
fn no_hostile_form_of_an_address_is_saved() {
    let guard = Guard::default();
    for host in HOSTILE {
        for url in [format!("http://{host}/"), format!("https://{host}:8443/hook?q=1")] {
            // What the parser does not take as an address cannot be dialled as one either.
            if let Ok(parsed) = Url::parse(&url) {
                let refusal = guard.check_url_at_save(&parsed);
                assert!(refusal.is_err(), "{url} is {parsed} and was let through");
                assert!(refusal.unwrap_err().contains("TESSERA_WEBHOOK__ALLOW"), "{url}");
            }
        }
    }
    let parsed = HOSTILE.iter().filter(|host| Url::parse(&format!("http://{host}/")).is_ok()).count();
    assert!(parsed >= 120, "only {parsed} of the forms are URLs");
}

#[test]
fn the_edges_of_refused_networks_are_exact() {
    let guard = Guard::default();
    let ip = |text: &str| IpAddr::from_str(text).unwrap();
    for public in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:4860:4860::8888",
        "2a00:1450::1",
        "2001:200::1",
        "2003::1",
    ] {
        assert_eq!(guard.check(ip(public)), Ok(()), "{public}");
    }
    for (net, _) in REFUSED_V4 {
        assert!(
            guard.check(net.network().into()).is_err() && guard.check(net.broadcast().into()).is_err(),
            "{net}"
        );
    }
    for (net, _) in REFUSED_V6 {
        assert!(
            guard.check(net.network().into()).is_err() && guard.check(net.broadcast().into()).is_err(),
            "{net}"
        );
    }
}

#[test]
fn a_refusal_names_the_setting_and_the_value_that_would_allow_it() {
    let guard = Guard::default();
    let refusal = |url: &str| guard.check_url_at_save(&Url::parse(url).unwrap()).unwrap_err();
    assert_eq!(
        refusal("http://0x7f.1:9000/hook"),
        "127.0.0.1 is a loopback address, which webhooks may not reach; to allow it, add \"127.0.0.1/32\" to \
         webhook.allow (TESSERA_WEBHOOK__ALLOW)"
    );
    assert!(refusal("http://[::ffff:10.0.0.7]/").contains("add \"10.0.0.7/32\" to webhook.allow"));
    assert!(refusal("http://[fd00::7]/").contains("add \"fd00::7/128\" to webhook.allow"));
    assert!(refusal("http://localhost:9000/").contains("add \"127.0.0.0/8\" to webhook.allow"));
    assert!(refusal("ftp://example.com/").contains("http://"));
    assert!(refusal("http://user@example.com/").contains("user or password"));
    assert!(refusal("http://:pass@example.com/").contains("user or password"));
    assert_eq!(guard.check_url_at_save(&Url::parse("https://example.com/hook").unwrap()), Ok(()));
}

#[test]
fn what_a_refusal_says_to_add_lets_the_address_through() {
    let refused: Vec<Refused> = HOSTILE
        .iter()
        .filter_map(|host| {
            Guard::default().check_literal(&Url::parse(&format!("http://{host}/")).ok()?).err()
        })
        .collect();
    assert!(refused.len() > 100);
    for refused in refused {
        let mut guard = Guard::new(vec![refused.ip.into()]);
        // A form that hides a refused IPv4 address has to be allowed twice, once for each way of writing it.
        if let Err(inner) = guard.check(refused.ip) {
            assert!(refused.ip.is_ipv6() && inner.ip.is_ipv4(), "{refused}");
            guard = Guard::new(vec![refused.ip.into(), inner.ip.into()]);
        }
        assert_eq!(guard.check(refused.ip), Ok(()), "{refused}");
    }
}

#[test]
fn the_allow_list_wins_and_reaches_no_further_than_it_says() {
    let nets = |list: &[&str]| Guard::new(list.iter().map(|net| net.parse().unwrap()).collect());
    let ip = |text: &str| IpAddr::from_str(text).unwrap();
    let guard = nets(&["127.0.0.0/8", "10.1.0.0/16", "fd00:1::/32"]);
    for allowed in ["127.0.0.1", "127.9.9.9", "10.1.2.3", "::ffff:127.0.0.1", "fd00:1::5"] {
        assert_eq!(guard.check(ip(allowed)), Ok(()), "{allowed}");
    }
    for refused in
        ["10.2.0.1", "::1", "fd00:2::5", "169.254.169.254", "::ffff:10.2.0.1", "64:ff9b::127.0.0.1"]
    {
        assert!(guard.check(ip(refused)).is_err(), "{refused}");
    }
    let guard = nets(&["64:ff9b::/96"]);
    assert_eq!(guard.check(ip("64:ff9b::8.8.8.8")), Ok(()));
    assert!(guard.check(ip("64:ff9b::127.0.0.1")).is_err());
    let local = nets(&["::1/128"]);
    assert_eq!(local.check_url_at_save(&Url::parse("http://localhost/").unwrap()), Ok(()));
}

#[test]
fn who_allows_a_form_that_holds_an_address_has_allowed_no_address_in_it() {
    for (form, hidden, public) in [
        ("::/96", "::127.0.0.1", "::8.8.8.8"),
        ("64:ff9b::/96", "64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8"),
        ("64:ff9b:1::/48", "64:ff9b:1:fffe::127.0.0.1", "64:ff9b:1::8.8.8.8"),
        ("::ffff:0:0:0/96", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"),
        ("2002::/16", "2002:7f00:1::", "2002:808:808::"),
        ("2001::/32", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:0:4136:e378:8000:63bf:f7f7:f7f7"),
    ] {
        let guard = Guard::new(vec![form.parse().unwrap()]);
        assert_eq!(guard.check(hidden.parse().unwrap()).unwrap_err().ip.to_string(), "127.0.0.1", "{hidden}");
        assert_eq!(guard.check(public.parse().unwrap()), Ok(()), "{public}");
    }
}

/// Answers the first question with one set of addresses and every later one with another.
struct Flipping {
    asked: AtomicUsize,
    first: Vec<&'static str>,
    later: Vec<&'static str>,
}

impl Resolve for Flipping {
    fn resolve(&self, _: Name) -> Resolving {
        let first = self.asked.fetch_add(1, Ordering::SeqCst) == 0;
        let answer = if first { &self.first } else { &self.later };
        let addresses: Vec<SocketAddr> =
            answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        Box::pin(async move { Ok(Box::new(addresses.into_iter()) as Addrs) })
    }
}

#[tokio::test]
async fn the_resolver_hands_out_only_what_may_be_reached() {
    let inner = Flipping {
        asked: AtomicUsize::new(0),
        first: vec!["10.0.0.1", "1.1.1.1", "::1"],
        later: vec!["169.254.169.254"],
    };
    let resolver = GuardedResolver::new(Guard::default(), Arc::new(inner));
    let name = || Name::from_str("rebind.example").unwrap();
    let first: Vec<String> = resolver.resolve(name()).await.unwrap().map(|at| at.ip().to_string()).collect();
    assert_eq!(first, ["1.1.1.1"]);
    let refusal = resolver.resolve(name()).await.err().expect("the second answer is refused");
    assert_eq!(refusal.downcast_ref::<Refused>().unwrap().ip.to_string(), "169.254.169.254");
}
