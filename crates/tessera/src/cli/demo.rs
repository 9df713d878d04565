//! `tessera demo`: a small desk to try things on, made through the API of the running server.

use crate::admin_token;
use crate::config::Config;
use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

/// What the demo is made of: method, path and body of each request. `{n}` in a path is the n-th ticket made.
const STEPS: &str = include_str!("demo.json");
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes the demo, unless the database has tickets.
///
/// # Errors
/// The server does not answer, or refuses one of the requests.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let server = Server::new(config)?;
    let there = server.send(Method::GET, "/api/tickets?limit=1", None).await?;
    if there.pointer("/items/0").is_some() {
        println!(
            "The demo is made only in a database without tickets; this one has some. Nothing was changed."
        );
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
    println!("Made a demo desk with {} tickets in {} requests.", tickets.len(), steps.len());
    Ok(())
}

/// Puts ticket numbers in the place of `{n}`.
fn with_numbers(path: &str, tickets: &[String]) -> anyhow::Result<String> {
    let Some((before, rest)) = path.split_once('{') else { return Ok(path.to_owned()) };
    let (place, after) = rest.split_once('}').context("a brace without its twin")?;
    let number = place.parse::<usize>()?.checked_sub(1).and_then(|index| tickets.get(index));
    let number = number.with_context(|| format!("{path} names a ticket that was not made yet"))?;
    Ok(format!("{before}{number}{after}"))
}

/// The running server.
struct Server {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Server {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        let token = admin_token::find_or_make(config)?.expose().to_owned();
        Ok(Self { client, base: format!("http://{}", config.listen), token })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut request =
            self.client.request(method.clone(), format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = || format!("no server answers at {}; start one with `tessera serve`", self.base);
        let answer = request.send().await.with_context(unreachable)?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{method} {path} was answered {status}: {text}");
        }
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }
}
