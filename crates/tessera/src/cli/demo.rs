//! `tessera demo`: creates a small example desk through the API of the running server.

use crate::admin_token;
use crate::config::Config;
use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

/// The requests that create the demo: method, path and body of each. `{n}` in a path is the n-th ticket created.
const STEPS: &str = include_str!("demo.json");
/// Time limit of one request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Creates the demo, unless the database has tickets.
///
/// # Errors
/// The server does not respond, or rejects one of the requests.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let server = Server::new(config)?;
    let existing = server.send(Method::GET, "/api/tickets?limit=1", None).await?;
    if existing.pointer("/items/0").is_some() {
        println!("The demo needs a database without tickets, and this one has some. Nothing was changed.");
        return Ok(());
    }
    let steps: Vec<(String, String, Value)> = serde_json::from_str(STEPS).context("demo.json")?;
    let mut tickets = Vec::new();
    for (method, path, body) in &steps {
        let path = with_numbers(path, &tickets)?;
        let answer = server.send(method.parse()?, &path, Some(body)).await?;
        if path == "/api/tickets" {
            let number = answer.pointer("/ticket/number").context("a ticket without a number")?;
            tickets.push(number.to_string());
        }
    }
    println!("Created a demo desk with {} tickets in {} requests.", tickets.len(), steps.len());
    Ok(())
}

/// Replaces each `{n}` with a ticket number.
fn with_numbers(path: &str, tickets: &[String]) -> anyhow::Result<String> {
    let Some((before, rest)) = path.split_once('{') else { return Ok(path.to_owned()) };
    let (place, after) = rest.split_once('}').context("an unmatched brace")?;
    let number = place.parse::<usize>()?.checked_sub(1).and_then(|index| tickets.get(index));
    let number = number.with_context(|| format!("{path} names a ticket that was not created yet"))?;
    Ok(format!("{before}{number}{after}"))
}

/// A client of the running server.
struct Server {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Server {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        let token = admin_token::find_or_create(config)?.expose().to_owned();
        Ok(Self { client, base: format!("http://{}", config.listen), token })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut request =
            self.client.request(method.clone(), format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = || format!("no server responds at {}; start one with `tessera serve`", self.base);
        let answer = request.send().await.with_context(unreachable)?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{method} {path} failed with {status}: {text}");
        }
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }
}
