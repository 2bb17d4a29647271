//! A test peer on rust-libp2p: see ../../README.md for the contract.
//! This file: flags, the JSON line loop and the table of commands.

mod bench;
mod client;
mod dht;
mod host;
mod nat;
mod serve;
mod streams;
mod wire;

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Map, Value};

use host::Host;

const EXIT_FAILED: i32 = 1;
const EXIT_USAGE: i32 = 2;
const EXIT_UNSUPPORTED: i32 = 3;
const BOOTSTRAP_GAP: Duration = Duration::from_millis(250); // between the starts of two hosts' bootstrap

#[derive(Clone)]
pub struct Options {
    pub listen: Vec<String>,
    pub hosts: usize,
    pub key: String,
    pub seed: Option<String>,
    pub dht: String,
    pub dht_prefix: String,
    pub bootstrap: Vec<String>,
    pub lifted: bool,
    pub transport: String,
    pub tls: bool,
    pub psk: Option<String>,
    pub mdns: bool,
    pub agent: Option<String>,
    pub legacy_record: bool,
    pub relay: bool,
    pub relay_limits: String,
    pub circuit: bool,
    pub dcutr: bool,
    pub autonat: String,
    pub reach: String,
    pub announce: Vec<String>,
}

fn die(code: i32, text: &str) -> ! {
    eprintln!("{text}");
    std::process::exit(code)
}

fn one_of(flag: &str, value: &str, allowed: &[&str]) {
    if !allowed.contains(&value) {
        die(EXIT_USAGE, &format!("{flag} is one of {}, not {value}", allowed.join(", ")));
    }
}

fn parse_options() -> Options {
    let mut o = Options {
        listen: vec![],
        hosts: 1,
        key: "ed25519".into(),
        seed: None,
        dht: "off".into(),
        dht_prefix: "/ipfs".into(),
        bootstrap: vec![],
        lifted: true,
        transport: "tcp".into(),
        tls: false,
        psk: None,
        mdns: false,
        agent: None,
        legacy_record: false,
        relay: false,
        relay_limits: String::new(),
        circuit: false,
        dcutr: false,
        autonat: String::new(),
        reach: String::new(),
        announce: vec![],
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let switch = match flag.as_str() {
            "--mdns" => Some(&mut o.mdns),
            "--relay" => Some(&mut o.relay),
            "--circuit" => Some(&mut o.circuit),
            "--dcutr" => Some(&mut o.dcutr),
            _ => None,
        };
        if let Some(switch) = switch {
            *switch = true;
            continue;
        }
        let mut value = || args.next().unwrap_or_else(|| die(EXIT_USAGE, &format!("{flag} needs a value")));
        match flag.as_str() {
            "--listen" => o.listen.push(value()),
            "--hosts" => {
                o.hosts = value().parse().ok().filter(|&n| n > 0).unwrap_or_else(|| die(EXIT_USAGE, "--hosts is at least 1"))
            }
            "--key" => {
                o.key = value();
                one_of("--key", &o.key, &["ed25519", "rsa", "ecdsa", "secp256k1"]);
            }
            "--seed" => o.seed = Some(value()),
            "--dht" => {
                o.dht = value();
                one_of("--dht", &o.dht, &["server", "client", "off"]);
            }
            "--dht-prefix" => o.dht_prefix = value(),
            "--bootstrap" => o.bootstrap.push(value()),
            "--limits" => {
                let v = value();
                one_of("--limits", &v, &["default", "lifted"]);
                o.lifted = v == "lifted";
            }
            "--psk" => o.psk = Some(value()),
            "--transport" => {
                o.transport = value();
                one_of("--transport", &o.transport, &["tcp", "quic", "both"]);
            }
            "--security" => {
                let v = value();
                one_of("--security", &v, &["noise", "tls"]);
                o.tls = v == "tls";
            }
            "--relay-limits" => o.relay_limits = value(),
            "--autonat" => o.autonat = value(),
            "--reach" => {
                o.reach = value();
                one_of("--reach", &o.reach, &["public", "private", "auto"]);
            }
            "--announce" => o.announce.push(value()),
            "--agent" => o.agent = Some(value()),
            "--signed-record" => {
                let v = value();
                one_of("--signed-record", &v, &["default", "legacy"]);
                o.legacy_record = v == "legacy";
            }
            _ => die(EXIT_USAGE, &format!("unexpected argument {flag}")),
        }
    }
    if o.listen.is_empty() {
        if o.transport != "quic" {
            o.listen.push("/ip4/127.0.0.1/tcp/0".into());
        }
        if o.transport != "tcp" {
            o.listen.push("/ip4/127.0.0.1/udp/0/quic-v1".into());
        }
    }
    if o.listen == ["none"] {
        o.listen.clear();
    }
    o
}

/// Why a command failed, with what there is to say besides.
pub struct Failure {
    pub text: String,
    pub reply: Value,
    pub unsupported: bool,
}

pub type Reply = Result<Value, Failure>;

impl Failure {
    pub fn new(text: impl ToString) -> Self {
        Failure { text: text.to_string(), reply: json!({}), unsupported: false }
    }

    pub fn with(text: impl ToString, reply: Value) -> Self {
        Failure { text: text.to_string(), reply, unsupported: false }
    }

    pub fn unsupported(text: impl ToString) -> Self {
        Failure { text: text.to_string(), reply: json!({}), unsupported: true }
    }
}

impl<E: std::fmt::Display> From<E> for Failure {
    fn from(e: E) -> Self {
        Failure::new(e)
    }
}

/// A request: arguments by name, with the contract's defaults given by the reader.
pub struct Request(Value);

impl Request {
    pub fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or("")
    }
    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.0[name].as_u64().unwrap_or(default)
    }
    pub fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        self.0[name].as_bool().unwrap_or(default)
    }
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, Failure> {
        Ok(hex::decode(self.text(name))?)
    }
}

async fn run(hosts: &[Arc<Host>], q: &Request) -> Reply {
    let first = q.number("host", 0) as usize;
    let h = hosts.get(first).ok_or_else(|| Failure::new(format!("there is no host {first}")))?;
    match q.text("cmd") {
        "connect" => client::connect(h, q).await,
        "disconnect" => client::disconnect(h, q).await,
        "peers" => client::peers(h).await,
        "identify" => client::identify(h, q).await,
        "ping" => client::ping(h, q).await,
        "echo" => client::echo(h, q).await,
        "sink" => client::sink(h, q).await,
        "source" => client::source(h, q).await,
        "slow" => client::slow(h, q).await,
        "reset" => client::reset(h, q).await,
        "reset-out" => client::reset_out(h, q).await,
        "wrongid" => client::wrongid(h, q).await,
        "perf" => client::perf(h, q).await,
        "key" => client::key(h),
        "counters" => Ok(json!({ "counters": h.counters.export() })),
        "gc" => client::gc(),
        "dht-refresh" => dht::refresh(h).await,
        "dht-table" => dht::table(h).await,
        "dht-closest" => dht::closest(h, q).await,
        "dht-query" => dht::query(h, q).await,
        "dht-find-peer" => dht::find_peer(h, q).await,
        "dht-provide" => dht::provide(h, wire::multihash_of_cid(q.text("cid"))?).await,
        "dht-find-providers" => dht::find_providers(h, wire::multihash_of_cid(q.text("cid"))?, q).await,
        "dht-put" => dht::put(h, q).await,
        "dht-get" => dht::get(h, q).await,
        "advertise" => dht::provide(h, wire::multihash_of_ns(q.text("ns"))).await,
        "find-ns" => dht::find_providers(h, wire::multihash_of_ns(q.text("ns")), q).await,
        "mdns-peers" => dht::mdns_peers(h).await,
        "reserve" => nat::reserve(h, q).await,
        "nat" => nat::nat(h).await,
        "addrs" => nat::addrs(h).await,
        "punches" => nat::punches(h).await,
        "known" => nat::known(h, q).await,
        "announce" => nat::announce(h, q).await,
        "bench-conns" => bench::conns(h, q).await,
        "bench-streams" => bench::streams(h, q).await,
        "bench-ping" => bench::pings(h, q).await,
        "bench-findnode" => bench::findnode(h, q).await,
        "hold" => bench::hold(hosts, first, q).await,
        other => Err(Failure::unsupported(format!("unknown command {other}"))),
    }
}

fn emit(v: &Value) {
    let line = v.to_string() + "\n";
    let mut out = std::io::stdout().lock();
    if out.write_all(line.as_bytes()).and_then(|_| out.flush()).is_err() {
        std::process::exit(EXIT_FAILED);
    }
}

async fn answer(hosts: Arc<Vec<Arc<Host>>>, q: Request) {
    let timeout = Duration::from_millis(q.number("timeout", 30_000));
    let result = match tokio::time::timeout(timeout, run(&hosts, &q)).await {
        Ok(r) => r,
        Err(_) => Err(Failure::new(format!("not done within {} s", timeout.as_secs_f64()))),
    };
    let (fields, error) = match result {
        Ok(v) => (v, None),
        Err(f) => (f.reply, Some((f.text, f.unsupported))),
    };
    let mut reply = match fields {
        Value::Object(m) => m,
        _ => Map::new(),
    };
    reply.insert("n".into(), q.0["n"].clone());
    reply.insert("ok".into(), json!(error.is_none()));
    if let Some((text, unsupported)) = error {
        reply.insert("error".into(), json!(text));
        if unsupported {
            reply.insert("unsupported".into(), json!(true));
        }
    }
    emit(&Value::Object(reply));
}

#[tokio::main]
async fn main() {
    let o = parse_options();
    let mut hosts = vec![];
    for i in 0..o.hosts {
        match host::start(&o, i).await {
            Ok(h) => hosts.push(Arc::new(h)),
            Err(f) => die(if f.unsupported { EXIT_UNSUPPORTED } else { EXIT_FAILED }, &f.text),
        }
    }
    let hosts = Arc::new(hosts);
    emit(&json!({
        "event": "ready", "impl": "rust", "version": "0.57.1",
        "dht": if o.dht == "off" { Value::Null } else { json!(format!("{}/kad/1.0.0", o.dht_prefix)) },
        "hosts": hosts.iter().map(|h| json!({ "id": h.id.to_string(), "addrs": h.addrs })).collect::<Vec<_>>(),
    }));
    for (i, h) in hosts.iter().enumerate() {
        let (h, addrs) = (h.clone(), o.bootstrap.clone());
        tokio::spawn(async move {
            tokio::time::sleep(BOOTSTRAP_GAP * i as u32).await;
            dht::bootstrap(h, addrs).await;
        });
    }
    tokio::spawn(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("SIGTERM handler");
        term.recv().await;
        std::process::exit(0);
    });

    let runtime = tokio::runtime::Handle::current();
    let reader = std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if line.trim().is_empty() {
                continue;
            }
            match serde_json::from_str::<Value>(&line) {
                Ok(v) => drop(runtime.spawn(answer(hosts.clone(), Request(v)))),
                Err(e) => emit(&json!({ "n": 0, "ok": false, "error": format!("bad request: {e}") })),
            }
        }
        std::process::exit(0);
    });
    // the reader ends the process; until then the hosts live on the runtime's threads
    tokio::task::spawn_blocking(move || reader.join()).await.ok();
}
