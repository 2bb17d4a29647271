//! rust-libp2p under the contract of the public interop suites' transport test: ../../../../suite/README.md.

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::core::Transport;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{identify, noise, ping, quic, tcp, tls, yamux, Multiaddr, PeerId, Swarm};
use tokio::signal::unix::{signal, SignalKind};

type Failure = Box<dyn Error + Send + Sync>;

struct Plan {
    dialer: bool,
    lines: bool,
    transport: String,
    security: String,
    muxer: String,
    ip: String,
    redis: String,
    key: String,
    timeout: Duration,
}

fn read_plan() -> Result<Plan, Failure> {
    let test = env::var("TEST_KEY").ok();
    let pick = |newer: &str, older: &str, missing: &str| {
        let name = if test.is_some() { newer } else { older };
        env::var(name).ok().filter(|v| !v.is_empty()).unwrap_or_else(|| missing.to_string())
    };
    Ok(Plan {
        dialer: pick("IS_DIALER", "is_dialer", "false") == "true",
        lines: test.is_some(),
        transport: pick("TRANSPORT", "transport", ""),
        security: pick("SECURE_CHANNEL", "security", ""),
        muxer: pick("MUXER", "muxer", ""),
        ip: pick("LISTENER_IP", "ip", "0.0.0.0"),
        redis: pick("REDIS_ADDR", "redis_addr", "redis:6379"),
        timeout: Duration::from_secs(pick("TEST_TIMEOUT_SECS", "test_timeout_seconds", "180").parse()?),
        key: test.map_or("listenerAddr".to_string(), |t| format!("{t}_listener_multiaddr")),
    })
}

/// Sends Redis one command; the last text of its answer.
fn ask(redis: &TcpStream, args: &[&str]) -> Result<String, Failure> {
    let mut out = format!("*{}\r\n", args.len());
    for a in args {
        out += &format!("${}\r\n{a}\r\n", a.len());
    }
    let mut redis = redis;
    redis.write_all(out.as_bytes())?;
    let mut reader = BufReader::new(redis);
    let (mut left, mut last) = (1, String::new());
    while left > 0 {
        left -= 1;
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err("Redis went away".into());
        }
        let (kind, body) = (line.as_bytes()[0], line[1..].trim());
        match kind {
            b'-' => return Err(format!("Redis says {body}").into()),
            b'*' | b'$' if body.starts_with('-') => return Err("no value in time".into()),
            b'*' => left += body.parse::<usize>()?,
            b'$' => {
                let mut text = vec![0; body.parse::<usize>()? + 2];
                reader.read_exact(&mut text)?;
                text.truncate(text.len() - 2);
                last = String::from_utf8(text)?;
            }
            _ => {}
        }
    }
    Ok(last)
}

fn connect_redis(plan: &Plan) -> Result<TcpStream, Failure> {
    let end = Instant::now() + plan.timeout;
    loop {
        match TcpStream::connect(&plan.redis) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > end => return Err(e.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

fn make_transport(plan: &Plan, key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Failure> {
    macro_rules! upgraded {
        ($security:expr) => {
            tcp::tokio::Transport::new(tcp::Config::default())
                .upgrade(Version::V1Lazy)
                .authenticate($security)
                .multiplex(yamux::Config::default())
                .timeout(Duration::from_secs(10))
                .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
                .boxed()
        };
    }
    match (plan.transport.as_str(), plan.security.as_str(), plan.muxer.as_str()) {
        ("quic-v1", ..) => Ok(quic::tokio::Transport::new(quic::Config::new(key))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed()),
        ("tcp", "noise", "yamux") => Ok(upgraded!(noise::Config::new(key)?)),
        ("tcp", "tls", "yamux") => Ok(upgraded!(tls::Config::new(key)?)),
        (t, s, m) => Err(format!("no '{t}' with '{s}' and '{m}'").into()),
    }
}

fn is_loopback(addr: &Multiaddr) -> bool {
    addr.iter().any(|p| matches!(p, Protocol::Ip4(ip) if ip.is_loopback()))
}

/// Until one ping came back.
async fn dial(plan: &Plan, swarm: &mut Swarm<Behaviour>, redis: &TcpStream) -> Result<(), Failure> {
    let seconds = plan.timeout.as_secs().to_string();
    let addr: Multiaddr = ask(redis, &["BLPOP", &plan.key, &seconds])?.parse()?;
    let begun = Instant::now();
    swarm.dial(addr)?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => {
                let all = begun.elapsed().as_secs_f64() * 1e3;
                let ping = event.result?.as_secs_f64() * 1e3;
                match plan.lines {
                    true => println!("latency:\n  handshake_plus_one_rtt: {all:.3}\n  ping_rtt: {ping:.3}\n  unit: ms"),
                    false => println!("{{\"handshakePlusOneRTTMillis\": {all:.3}, \"pingRTTMilllis\": {ping:.3}}}"),
                }
                return Ok(());
            }
            _ => {}
        }
    }
}

/// Until somebody ends this process.
async fn listen(plan: &Plan, swarm: &mut Swarm<Behaviour>, redis: &TcpStream) -> Result<(), Failure> {
    let mut told = false;
    let mut term = signal(SignalKind::terminate())?;
    swarm.listen_on(match plan.transport.as_str() {
        "quic-v1" => format!("/ip4/{}/udp/0/quic-v1", plan.ip).parse()?,
        _ => format!("/ip4/{}/tcp/0", plan.ip).parse()?,
    })?;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            event = swarm.select_next_some() => match event {
                SwarmEvent::NewListenAddr { address, .. }
                    if !told && (!is_loopback(&address) || plan.ip.starts_with("127.")) => {
                    told = true;
                    ask(redis, &["DEL", &plan.key])?;
                    ask(redis, &["RPUSH", &plan.key, &format!("{address}/p2p/{}", swarm.local_peer_id())])?;
                }
                _ => {}
            }
        }
    }
}

async fn run(plan: &Plan) -> Result<(), Failure> {
    let key = Keypair::generate_ed25519();
    let behaviour = Behaviour {
        identify: identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".into(), key.public())),
        ping: ping::Behaviour::new(ping::Config::new()),
    };
    let id = key.public().to_peer_id();
    let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(plan.timeout);
    let mut swarm = Swarm::new(make_transport(plan, &key)?, behaviour, id, config);
    let redis = connect_redis(plan)?;
    match plan.dialer {
        true => tokio::time::timeout(plan.timeout, dial(plan, &mut swarm, &redis)).await?,
        false => tokio::time::timeout(plan.timeout, listen(plan, &mut swarm, &redis)).await?,
    }
}

#[tokio::main]
async fn main() {
    let done = match read_plan() {
        Ok(plan) => run(&plan).await,
        Err(e) => Err(e),
    };
    if let Err(e) = done {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
